//! A stream plan as text, the result on top.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use datafusion::{
    common::{
        Column,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::Expr,
    sql::unparser::{Unparser, dialect::Dialect},
};

use humantime::format_duration;
use tagflow_operators::join::lookup::Missing;

use super::{
    OrderedRule,
    column_name::is_plain,
    functions::{ROW_NUMBER, WindowKind},
    stream::{Join, JoinBound, Lookup, Map, Ordered, Stream, Top},
};

impl fmt::Display for Stream {
    /// One line per node, each input indented below its reader.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tree(self, 0, f)
    }
}

fn tree(stream: &Stream, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{:indent$}{}", "", stream.headline(), indent = depth * 2)?;
    for input in stream.inputs() {
        tree(input, depth + 1, f)?;
    }
    Ok(())
}

impl Stream {
    /// The operation of the node, in one line.
    pub fn headline(&self) -> String {
        match self {
            Self::Scan(scan) => format!("read {}: {}", scan.relation, scan.columns.join(", ")),
            Self::Map(map) => map.headline(),
            Self::Ordered(ordered) => ordered.headline(),
            Self::Union(union) => format!("union all: {} inputs", union.inputs.len()),
            Self::Lookup(lookup) => lookup.headline(),
            Self::Join(join) => join.headline(),
            Self::Top(top) => top.headline(),
            Self::Windowed(windowed) => {
                let mut text = match windowed.emission.ttl {
                    Some(ttl) => format!("changes, forgotten after {}", format_duration(ttl)),
                    None => format!("{} of {}", windowed.windows, sql(&windowed.time)),
                };
                if !windowed.keys.is_empty() {
                    text.push_str(" by ");
                    text.push_str(&list(&windowed.keys));
                }
                if !windowed.aggregates.is_empty() {
                    text.push_str(": ");
                    text.push_str(&list(&windowed.aggregates));
                }
                text
            }
        }
    }
}

impl Ordered {
    fn headline(&self) -> String {
        let key = self.key.join(", ");
        let time = |duration: &Duration| format_duration(*duration).to_string();
        match &self.rule {
            OrderedRule::Dedupe { within } => format!("dedupe by {key} within {}", time(within)),
            OrderedRule::Rate {
                over,
                more_than,
                flag,
            } => format!(
                "flag {flag} at more than {more_than} by {key} over {}",
                time(over)
            ),
            OrderedRule::Sessions { gap, column } => {
                format!("sessions by {key} with a gap of {} as {column}", time(gap))
            }
        }
    }
}

impl Lookup {
    fn headline(&self) -> String {
        let missing = match self.missing {
            Missing::Drop => "join",
            Missing::Null => "left join",
        };
        let condition = self.condition.as_ref();
        let condition =
            condition.map_or_else(String::new, |it| format!(" where {}", qualified(it)));
        let (key, columns) = (list(&self.key), self.columns.join(", "));
        format!(
            "{missing} table {} by {key}{condition}: {columns}",
            self.table
        )
    }
}

impl Join {
    /// With the relations of columns, because both sides may have columns with one name.
    fn headline(&self) -> String {
        let equal = self.on.iter().map(|(left, right)| {
            let (left, right) = (qualified(left), qualified(right));
            format!("{left} = {right}")
        });
        let equal = equal.collect::<Vec<_>>().join(", ");
        let mut text = format!("{} join on {equal}", self.kind.to_string().to_lowercase());
        if let JoinBound::Interval {
            columns: [left, right],
            min_us,
            max_us,
        } = &self.bound
        {
            let [min, max] = [min_us, max_us].map(|us| *us as f64 / 1e6);
            let _ = write!(text, "; {right} {min}s to {max}s after {left}");
        }
        if let Some(condition) = &self.condition {
            let _ = write!(text, "; where {}", qualified(condition));
        }
        text
    }
}

impl Top {
    fn headline(&self) -> String {
        let limit = self.limit.unwrap_or_default();
        let name = |index: &usize| self.schema.field(*index).name().as_str();
        let partition: Vec<&str> = self.partition.iter().map(name).collect();
        let order = self.order.iter().map(|sort| {
            let direction = if sort.asc { "" } else { " desc" };
            let nulls = if sort.nulls_first { " nulls first" } else { "" };
            format!("{}{direction}{nulls}", sql(&sort.expr))
        });
        let order = order.collect::<Vec<_>>().join(", ");
        format!("top {limit} of {} by {order}", partition.join(", "))
    }
}

impl Map {
    fn headline(&self) -> String {
        let filter = self
            .filter
            .as_ref()
            .map(|filter| format!("where {}", sql(filter)));
        let select = self
            .columns
            .as_ref()
            .map(|columns| format!("select {}", list(columns)));
        let mut parts: Vec<String> = filter.into_iter().chain(select).collect();
        if parts.is_empty() {
            let columns = self.schema.fields().iter();
            let names: Vec<&str> = columns.map(|field| field.name().as_str()).collect();
            parts.push(format!("select {}", names.join(", ")));
        }
        parts.join("; ")
    }
}

fn list(exprs: &[Expr]) -> String {
    let texts: Vec<String> = exprs.iter().map(sql).collect();
    texts.join(", ")
}

/// Like [`sql`], with the relation of each column.
fn qualified(expr: &Expr) -> String {
    let named = expr.clone().transform_up(|part| match part {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(
            column.flat_name(),
        )))),
        other => Ok(Transformed::no(other)),
    });
    named.map_or_else(|_| sql(expr), |named| sql(&named.data))
}

/// An expression as SQL over plain column names, with an alias if it adds information.
pub(super) fn sql(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => {
            let inner = sql(&alias.expr);
            match alias.expr.as_ref() {
                // The aggregate's own name, if its reader renames it.
                Expr::Column(column) if !is_plain(&column.name) => alias.name.clone(),
                _ if alias.name == inner.trim_matches('"') || !is_plain(&alias.name) => inner,
                _ => format!("{inner} AS {}", alias.name),
            }
        }
        Expr::Column(column) if !is_plain(&column.name) => derived(&column.name),
        _ => {
            let plain = expr.clone().transform_up(|part| match part {
                Expr::Column(column) => Ok(Transformed::yes(Expr::Column(
                    Column::new_unqualified(derived(&column.name)),
                ))),
                other => Ok(Transformed::no(other)),
            });
            let unparser = Unparser::new(&QuoteWhereNeeded).with_pretty(true);
            plain
                .and_then(|plain| unparser.expr_to_sql(&plain.data))
                .map_or_else(|_| expr.human_display().to_string(), |sql| sql.to_string())
                .replace("count(1)", "count(*)")
        }
    }
}

/// A name that DataFusion derived from an expression, without its qualifiers.
fn derived(name: &str) -> String {
    let function = name.split('(').next().unwrap_or_default();
    if WindowKind::named(function).is_some() {
        "window".to_owned()
    } else if name.starts_with(ROW_NUMBER) {
        "rank".to_owned()
    } else {
        name.replace("count(Int64(1))", "count(*)")
    }
}

/// Quotes only names that SQL would change.
struct QuoteWhereNeeded;

impl Dialect for QuoteWhereNeeded {
    fn identifier_quote_style(&self, name: &str) -> Option<char> {
        let folds = name.chars().any(|c| c.is_uppercase() || c == '-');
        (folds && is_plain(name)).then_some('"')
    }
}
