//! Reports everything in the SQL text that cannot run on a stream, all at once.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{
        Expr, Function, FunctionArguments, GroupByExpr, JoinConstraint, JoinOperator, Query,
        Select, SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor, TableWithJoins, Value,
        ValueWithSpan, Visit, Visitor,
    },
    tokenizer::Span,
};

use super::{
    Functions, SqlError,
    functions::{self, ROW_NUMBER},
    parse,
};
use tagflow_config::diagnostic::closest;

use crate::spec::{SEGMENT_CHANGES, TAG_CHANGES, TAGS_CURRENT};

/// The reasons why a query or an expression cannot run on a stream, by place.
pub(crate) fn refuse(syntax: &impl Visit, functions: &Functions) -> Vec<SqlError> {
    let mut visitor = Refusals {
        functions,
        errors: Vec::new(),
    };
    let _ = syntax.visit(&mut visitor);
    let mut errors = visitor.errors;
    errors.sort_by_key(|error| (error.line, error.column));
    errors
}

struct Refusals<'a> {
    functions: &'a Functions,
    errors: Vec<SqlError>,
}

impl Visitor for Refusals<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with
            && with.recursive
        {
            self.add(
                with.span(),
                "a recursive query never ends on a stream",
                "write a plain `WITH`",
            );
        }
        if let Some(order) = &query.order_by {
            self.add(
                order.span(),
                "ORDER BY needs all rows, and a stream never has them all",
                "leave it out, and sort where the result is read",
            );
        }
        if let Some(limit) = &query.limit_clause {
            self.add(
                limit.span(),
                "LIMIT means nothing without an order, and a stream has none",
                "leave it out, or choose rows with WHERE or HAVING",
            );
        }
        if let Some(fetch) = &query.fetch {
            self.add(
                fetch.span(),
                "FETCH means nothing without an order, and a stream has none",
                "leave it out, or choose rows with WHERE or HAVING",
            );
        }
        if !query.locks.is_empty() || query.for_clause.is_some() {
            self.add(
                query.body.span(),
                "FOR … means nothing on a stream",
                "leave it out",
            );
        }
        if !query.pipe_operators.is_empty() {
            self.add(
                query.body.span(),
                "the pipe operator `|>` is not there",
                "write it as a SELECT, or as several named queries",
            );
        }
        self.set(&query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let here = select.select_token.0.span;
        if select.distinct.is_some() {
            self.add(
                here,
                "SELECT DISTINCT would have to remember every row for ever",
                "write GROUP BY with a window: `GROUP BY tumble(ts, INTERVAL '1 minute'), …`",
            );
        }
        if select.top.is_some() {
            self.add(
                here,
                "TOP means nothing without an order, and a stream has none",
                "leave it out, or choose rows with WHERE or HAVING",
            );
        }
        if let Some(into) = &select.into {
            self.add(
                into.span(),
                "INTO is not there: a query only reads",
                "say under `sinks` where results go",
            );
        }
        if !select.lateral_views.is_empty()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
        {
            self.add(
                here,
                "of SELECT, only FROM, WHERE, GROUP BY and HAVING run on a stream",
                "leave LATERAL VIEW, CONNECT BY, CLUSTER BY, DISTRIBUTE BY and SORT BY out",
            );
        }
        let modifiers = match &select.group_by {
            GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => modifiers,
        };
        if !modifiers.is_empty() {
            self.grouping(select.group_by.span());
        }
        self.from(here, &select.from);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table {
                name,
                args: None,
                sample: None,
                ..
            } => {
                let folded = parse::fold_name(name);
                if [TAG_CHANGES, TAGS_CURRENT, SEGMENT_CHANGES].contains(&folded.as_str()) {
                    self.add(
                        name.span(),
                        format!("`{folded}` cannot be read by a query in this version"),
                        format!("write it to a table: `from: {folded}` in a sink"),
                    );
                } else if name.0.len() > 1 {
                    self.add(
                        name.span(),
                        format!("`{name}` is no relation: their names have one part"),
                        "name a source, a step or a query of this file",
                    );
                }
            }
            // The joins of a nested one are refused at their own position.
            TableFactor::Derived {
                lateral: false,
                sample: None,
                ..
            }
            | TableFactor::NestedJoin { .. } => {}
            other => self.add(
                other.span(),
                format!("`{other}` cannot be read from"),
                "name a source, a step or a query of this file",
            ),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Subquery(query) => self.subquery(query.span(), "a subquery"),
            Expr::Exists { subquery, .. } => self.subquery(subquery.span(), "EXISTS"),
            Expr::InSubquery { subquery, .. } => self.subquery(subquery.span(), "IN (SELECT …)"),
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => self.grouping(expr.span()),
            Expr::Function(function) => self.function(function),
            Expr::Value(ValueWithSpan {
                value: Value::Placeholder(name),
                span,
            }) => self.add(
                *span,
                format!("nothing stands for `{name}`"),
                "write the value, or `${params.name}`",
            ),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Refusals<'_> {
    fn add(&mut self, place: Span, message: impl Into<String>, help: impl Into<String>) {
        self.errors
            .push(SqlError::new(message).help(help).at_token(place));
    }

    fn set(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(_) | SetExpr::Query(_) => {}
            SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => {
                match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => {}
                    (SetOperator::Union, SetQuantifier::AllByName | SetQuantifier::ByName) => self
                        .add(
                            right.span(),
                            "UNION BY NAME is not there yet",
                            "list the columns in the same order and write UNION ALL",
                        ),
                    (SetOperator::Union, _) => self.add(
                        right.span(),
                        "UNION drops duplicates, and would have to remember every row for ever",
                        "write UNION ALL",
                    ),
                    (op, _) => self.add(
                        right.span(),
                        format!("{op} would have to remember every row for ever"),
                        "filter with WHERE",
                    ),
                }
                self.set(left);
                self.set(right);
            }
            SetExpr::Values(values) => self.add(
                values.span(),
                "VALUES is a constant table, and a query must read a stream",
                "read FROM a source, a step or a query of this file",
            ),
            SetExpr::Table(table) => self.add(
                Span::empty(),
                format!("`{table}` is not there"),
                "write `SELECT * FROM …`",
            ),
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => self.add(
                statement.span(),
                "a query only reads",
                "write `SELECT … FROM …`; where results go is said under `sinks`",
            ),
        }
    }

    fn from(&mut self, select: Span, tables: &[TableWithJoins]) {
        if tables.is_empty() {
            self.add(
                select,
                "SELECT without FROM is a constant, and a query must read a stream",
                "read FROM a source, a step or a query of this file",
            );
        }
        let joins = || tables.iter().flat_map(|table| &table.joins);
        let without_on = joins().filter(|join| !has_condition(&join.join_operator));
        let places = (tables.iter().skip(1).map(|table| &table.relation))
            .chain(without_on.map(|join| &join.relation));
        for relation in places {
            self.add(
                relation.span(),
                "a join of everything with everything never ends",
                "write JOIN with an ON that says which rows belong together",
            );
        }
        let nested = |table: &&TableFactor| matches!(table, TableFactor::NestedJoin { .. });
        let relations =
            (tables.iter().map(|table| &table.relation)).chain(joins().map(|join| &join.relation));
        for relation in relations.filter(nested) {
            self.add(
                relation.span(),
                "a join in brackets is not there yet",
                "write the joins one after the other, or as several named queries",
            );
        }
    }

    fn subquery(&mut self, place: Span, what: &str) {
        self.add(
            place,
            format!("{what} in an expression would be a join, and is not there yet"),
            "list the values: `IN ('a', 'b')`, or write it as a JOIN",
        );
    }

    fn grouping(&mut self, place: Span) {
        self.add(
            place,
            "GROUPING SETS, CUBE and ROLLUP are not there yet",
            "write one query for each grouping",
        );
    }

    /// The replacement of the unknown function `name`.
    fn instead_of(&self, name: &str) -> Option<String> {
        let write = |sql| format!("write `{sql}`");
        if let Some(sql) = functions::written_here(name) {
            return Some(write(sql));
        }
        if let Some(close) = closest(name, self.functions.names()) {
            return Some(format!("did you mean `{close}`?"));
        }
        let close = closest(name, functions::foreign_names())?;
        functions::written_here(close).map(write)
    }

    fn function(&mut self, function: &Function) {
        let name = parse::fold_name(&function.name);
        let place = function.name.span();
        if name == "unnest" {
            self.add(
                place,
                "`unnest` makes many rows of one, which is not there yet",
                "use the list as it is: `array_length(x)`, `array_has(x, y)`, `x[1]`",
            );
        } else if function.over.is_some() && name != ROW_NUMBER {
            self.add(
                place,
                format!("`{name}(…) OVER …` is not there yet; `row_number` is"),
                "aggregate over a window: `GROUP BY tumble(ts, INTERVAL '1 minute'), …`",
            );
        } else if function.args == FunctionArguments::None && !self.functions.knows(&name) {
            // SQL calls some functions without parentheses, such as `current_user`.
            self.add(
                place,
                format!("`{name}` is a word of SQL's own"),
                format!("write `\"{name}\"` for the column"),
            );
        } else if !self.functions.knows(&name) {
            let error = SqlError::new(format!("function `{name}` not found")).at_token(place);
            self.errors.push(match self.instead_of(&name) {
                Some(help) => error.help(help),
                None => error,
            });
        } else if self.functions.is_volatile(&name) {
            self.add(
                place,
                format!("`{name}` differs from call to call, so a replay would not agree with the run that it repeats"),
                "use the event's own time or id",
            );
        }
    }
}

/// Whether a join is of a kind with a condition.
fn has_condition(join: &JoinOperator) -> bool {
    use JoinOperator::{FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter};
    let (Join(constraint)
    | Inner(constraint)
    | Left(constraint)
    | LeftOuter(constraint)
    | Right(constraint)
    | RightOuter(constraint)
    | FullOuter(constraint)) = join
    else {
        return false;
    };
    matches!(constraint, JoinConstraint::On(_) | JoinConstraint::Using(_))
}
