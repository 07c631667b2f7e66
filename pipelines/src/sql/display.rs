//! A stream plan as text, the result on top.

use std::fmt;

use datafusion::logical_expr::Expr;

use super::stream::{Map, Stream};

impl fmt::Display for Stream {
    /// One line a node, each input indented below its reader.
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
    /// What the node does, in one line.
    pub fn headline(&self) -> String {
        match self {
            Self::Scan(scan) => format!("read {}: {}", scan.relation, scan.columns.join(", ")),
            Self::Map(map) => map.headline(),
            Self::Union(union) => format!("union all: {} inputs", union.inputs.len()),
            Self::Tumble(tumble) => {
                let width = humantime::format_duration(tumble.width);
                let mut text = format!("tumble {width} of {}", sql(&tumble.time));
                if !tumble.keys.is_empty() {
                    text.push_str(" by ");
                    text.push_str(&list(&tumble.keys));
                }
                if !tumble.aggregates.is_empty() {
                    text.push_str(": ");
                    text.push_str(&list(&tumble.aggregates));
                }
                text
            }
        }
    }
}

impl Map {
    fn headline(&self) -> String {
        let filter = self.filter.as_ref().map(|filter| format!("where {}", sql(filter)));
        let select = self
            .columns
            .as_ref()
            .map(|columns| format!("select {}", list(columns)));
        let parts: Vec<String> = filter.into_iter().chain(select).collect();
        parts.join("; ")
    }
}

fn list(exprs: &[Expr]) -> String {
    let texts: Vec<String> = exprs.iter().map(sql).collect();
    texts.join(", ")
}

/// An expression as SQL, with an alias only where it says something.
fn sql(expr: &Expr) -> String {
    if let Expr::Alias(alias) = expr {
        let inner = sql(&alias.expr);
        let same = alias.name == inner || alias.name == alias.expr.schema_name().to_string();
        return if same {
            inner
        } else {
            format!("{inner} AS {}", alias.name)
        };
    }
    expr.human_display().to_string()
}
