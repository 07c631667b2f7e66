//! Aggregates: which aggregates can run on a stream, over which windows.

use std::sync::Arc;

use datafusion::{
    common::{DataFusionError, ScalarValue, tree_node::TreeNode},
    logical_expr::{Aggregate, Expr, expr::ScalarFunction, simplify::SimplifyContext},
    optimizer::simplify_expressions::ExprSimplifier,
};
use tagflow_operators::window::{self, Emission};

use super::{
    Lineage, Rows, SqlError,
    functions::WindowKind,
    join,
    lineage::carried,
    stream::{Stream, Windowed},
    walk::Walk,
};

impl Walk<'_> {
    pub(super) fn windowed(&self, aggregate: &Aggregate) -> Result<Stream, SqlError> {
        let input = self.node(&aggregate.input)?;
        let lineage = input.lineage(self.catalog);
        let groups: Vec<Expr> = aggregate.group_expr.iter().map(unaliased).collect();
        let calls: Vec<(usize, WindowKind, &ScalarFunction)> = groups
            .iter()
            .enumerate()
            .filter_map(|(index, group)| {
                let (kind, call) = as_window(group)?;
                Some((index, kind, call))
            })
            .collect();
        let (window, kind, call) = match calls.as_slice() {
            [one] => *one,
            [] => {
                self.no_window(&groups)?;
                let time = time_column(&input, &lineage).unwrap_or_else(|| "ts".into());
                return Err(SqlError::new(
                    "an aggregate without a window never has its final value",
                )
                .help(format!(
                    "add a window to GROUP BY: `{}`; or give the query a `ttl`, and its changes \
                     come out",
                    WindowKind::Tumble.example(&time)
                ))
                .at_token_if(self.places.aggregate(self.catalog)));
            }
            [..] => {
                return Err(SqlError::new(
                    "GROUP BY has two windows, and they would not close together",
                )
                .help("write one query for each window")
                .at_token_if(self.places.window()));
            }
        };
        let Some((time, constants)) = call.args.split_first() else {
            return Err(SqlError::new(format!("write `{}`", kind.example("ts"))));
        };
        self.check_time(kind, time, &input, &lineage)?;
        let constants = constants.iter().map(|constant| self.constant(constant));
        let constants: Vec<ScalarValue> = constants.collect::<Result<_, _>>()?;
        let windows = kind.windows(&constants).map_err(|reason| {
            SqlError::new(reason)
                .help(format!("for example `{}`", kind.example("ts")))
                .at_token_if(self.places.window())
        })?;
        let keys: Vec<Expr> = groups
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != window)
            .map(|(_, group)| group.clone())
            .collect();
        self.no_window(&keys)?;
        self.no_window(&aggregate.aggr_expr)?;
        for expr in &aggregate.aggr_expr {
            if let Expr::AggregateFunction(call) = unaliased(expr) {
                let name = call.func.name();
                window::check(&call).map_err(|reason| {
                    SqlError::new(format!("`{name}` cannot be used: {reason}"))
                })?;
            }
        }
        Ok(Stream::Windowed(Windowed {
            time: time.clone(),
            windows,
            emission: Emission::default(),
            window,
            keys,
            aggregates: aggregate.aggr_expr.clone(),
            schema: Arc::clone(&aggregate.schema),
            input: Box::new(input),
        }))
    }

    /// Checks that watermarks refer to `time`: an event time, or a window that has closed for good.
    fn check_time(
        &self,
        kind: WindowKind,
        time: &Expr,
        input: &Stream,
        lineage: &[Lineage],
    ) -> Result<(), SqlError> {
        let placed = |error: SqlError| match column_place(time) {
            Some(place) => error.at(Some(place)),
            None => error.at_token_if(self.places.window()),
        };
        match carried(time, input.schema(), lineage) {
            Lineage::Window | Lineage::Session if input.rows(self.catalog) == Rows::Revisions => {
                Err(placed(
                    SqlError::new(
                        "a window over results that are corrected would count them twice",
                    )
                    .help(
                        "read a query that emits each window once: without `allowed_lateness` and \
                       previews",
                    ),
                ))
            }
            Lineage::EventTime | Lineage::Window | Lineage::Session => Ok(()),
            Lineage::Plain => Err(placed(self.not_event_time(kind, time, input, lineage))),
        }
    }

    fn not_event_time(
        &self,
        kind: WindowKind,
        time: &Expr,
        input: &Stream,
        lineage: &[Lineage],
    ) -> SqlError {
        let what = match time.clone().unalias_nested().data {
            Expr::Column(column) => format!("`{}`, not", column.name),
            _ => "a computed time, not".to_owned(),
        };
        let name = kind.name();
        let error = SqlError::new(format!(
            "`{name}` is given {what} the event time of the source"
        ));
        match time_column(input, lineage) {
            Some(time) => error.help(format!("write `{name}({time}, …)`")),
            None if input.is_of_pairs(self.catalog) => error.help(join::CARRY),
            None => error.help(format!(
                "carry the event time through unchanged{}",
                self.source_times(input)
            )),
        }
    }

    /// Names the event times of the relations that `input` scans.
    fn source_times(&self, input: &Stream) -> String {
        let mut names = Vec::new();
        input.scans(std::time::Duration::ZERO, &mut |scan, _| {
            let Some(relation) = self.catalog.relation(&scan.relation) else {
                return;
            };
            for (field, lineage) in relation.schema.fields().iter().zip(&relation.lineage) {
                if *lineage == Lineage::EventTime {
                    names.push(format!("`{}` of `{}`", field.name(), scan.relation));
                }
            }
        });
        if names.is_empty() {
            String::new()
        } else {
            format!(": {}", names.join(", "))
        }
    }

    fn constant(&self, expr: &Expr) -> Result<ScalarValue, SqlError> {
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.catalog.config()))
            .build();
        let constant = ExprSimplifier::new(context)
            .simplify(expr.clone())
            .map_err(|error| SqlError::of_planner(&error).at_token_if(self.places.window()))?;
        match unaliased(&constant) {
            Expr::Literal(value, _) => Ok(value),
            _ => Err(
                SqlError::new("but for the time, a window is given by constants")
                    .help("write a fixed width: `INTERVAL '1 minute'`, `INTERVAL '1 day'`")
                    .at_token_if(self.places.window()),
            ),
        }
    }

    /// A window outside of GROUP BY.
    pub(super) fn no_window<'e>(
        &self,
        exprs: impl IntoIterator<Item = &'e Expr>,
    ) -> Result<(), SqlError> {
        let mut found = None;
        for expr in exprs {
            let _ = expr.exists(|part| {
                found = found.or(as_window(part).map(|(kind, _)| kind));
                Ok::<_, DataFusionError>(found.is_some())
            });
        }
        match found {
            None => Ok(()),
            Some(kind) => Err(SqlError::new(format!(
                "`{}` stands in GROUP BY by itself, and nowhere else",
                kind.name()
            ))
            .help(
                "group by it and give it a name in SELECT; of the result take \
                 `\"window\"['start']`",
            )
            .at_token_if(self.places.window())),
        }
    }
}

/// A time column of `input` that a window can use.
fn time_column(input: &Stream, lineage: &[Lineage]) -> Option<String> {
    let place = |wanted: Lineage| lineage.iter().position(|of| *of == wanted);
    let at = [Lineage::EventTime, Lineage::Window, Lineage::Session];
    let at = at.into_iter().find_map(place)?;
    let field = input.schema().fields().get(at)?;
    Some(match field.name().as_str() {
        "window" => "\"window\"".to_owned(),
        name => name.to_owned(),
    })
}

pub(super) fn as_window(expr: &Expr) -> Option<(WindowKind, &ScalarFunction)> {
    match expr {
        Expr::ScalarFunction(call) => Some((WindowKind::named(call.func.name())?, call)),
        _ => None,
    }
}

fn unaliased(expr: &Expr) -> Expr {
    expr.clone().unalias_nested().data
}

fn column_place(expr: &Expr) -> Option<datafusion::common::Span> {
    let columns = expr.column_refs();
    columns.iter().find_map(|column| column.spans.first())
}
