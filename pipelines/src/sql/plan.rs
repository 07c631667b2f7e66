//! From syntax to a [`Stream`]: DataFusion plans, and [`walk`] keeps what can
//! run.

use std::{sync::Arc, time::Duration};

use datafusion::{
    common::{Column, DataFusionError, ScalarValue, tree_node::TreeNode},
    logical_expr::{
        Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, expr::ScalarFunction,
        simplify::SimplifyContext,
    },
    optimizer::{analyzer::Analyzer, simplify_expressions::ExprSimplifier},
    sql::{
        planner::{ParserOptions, SqlToRel},
        sqlparser::{
            ast::{Query, Statement},
            tokenizer::Span,
        },
    },
};
use tagflow_engine::{graph::OFFSET_COLUMN, state::KEY_GROUP_COLUMN};
use tagflow_operators::window;

use super::{
    Catalog, Lineage, Relation, Rows, SqlError,
    functions::{TUMBLE, width_us},
    join,
    lineage::carried,
    optimize::optimize,
    parse,
    stream::{Map, Scan, Stream, Tumble, Union},
    top,
};

/// The name of a window's column where the query gives it none.
const WINDOW: &str = "window";

/// A relation with the plan that makes its rows.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Typed, with named columns; not yet optimized.
    pub(crate) plan: LogicalPlan,
    /// What others see of it.
    pub(crate) relation: Relation,
}

/// The text of a plan, for the places that the plan has not kept.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places<'a>(Option<&'a Query>);

impl Places<'_> {
    /// The first aggregate.
    fn aggregate(self, catalog: &Catalog) -> Option<Span> {
        let functions = catalog.functions();
        parse::first_call(self.0?, |name| functions.aggregate(name).is_some())
    }

    /// The first `tumble`.
    fn tumble(self) -> Option<Span> {
        parse::first_call(self.0?, |name| name == TUMBLE)
    }

    /// What is joined first.
    pub(super) fn join(self) -> Option<Span> {
        parse::first_join(self.0?)
    }

    /// The first function with OVER.
    pub(super) fn over(self) -> Option<Span> {
        parse::first_over(self.0?)
    }

    /// The column of the result at `index`.
    fn result_column(self, index: usize) -> Option<Span> {
        parse::result_column(self.0?, index)
    }

    /// Whatever `message` is about.
    fn mentioned(self, message: &str) -> Option<Span> {
        parse::first_mentioned(self.0?, message)
    }
}

/// DataFusion's planner over `catalog`.
pub(crate) fn planner(catalog: &Catalog) -> SqlToRel<'_, Catalog> {
    let options = &catalog.config().sql_parser;
    SqlToRel::new_with_options(
        catalog,
        ParserOptions::new()
            .with_collect_spans(options.collect_spans)
            .with_map_string_types_to_utf8view(options.map_string_types_to_utf8view),
    )
}

/// Plans a query that [`super::refuse`] let pass.
pub(crate) fn query(query: Box<Query>, catalog: &Catalog) -> Result<Planned, SqlError> {
    let places = Places(Some(query.as_ref()));
    planner(catalog)
        .sql_statement_to_plan(Statement::Query(query.clone()))
        .map_err(|error| SqlError::of_planner(&error))
        .and_then(|plan| finish(plan, catalog, places))
        .map_err(|error| {
            let place = places.mentioned(&error.message);
            if error.is_placed() {
                error
            } else {
                error.at_token_if(place)
            }
        })
}

/// Types `plan`, checks that it can run, and names its columns.
pub(crate) fn finish(
    plan: LogicalPlan,
    catalog: &Catalog,
    places: Places<'_>,
) -> Result<Planned, SqlError> {
    let plan = Analyzer::new()
        .execute_and_check(plan, catalog.config(), |_, _| {})
        .map_err(|error| SqlError::of_planner(&error))?;
    let stream = walk(&plan, catalog, places)?;
    let lineage = stream.lineage(catalog);
    let plan = name_columns(plan, &lineage, places)?;
    // Constants that cannot be what they must be (`amount > 'abc'`) are found
    // out here.
    optimize(plan.clone(), catalog.config()).map_err(|error| SqlError::of_planner(&error))?;
    let rows = if stream.is_of_windows(catalog) {
        Rows::Windows
    } else if stream.holds_rows() {
        Rows::Pairs
    } else {
        Rows::Events
    };
    let relation = Relation {
        schema: Arc::clone(plan.schema().inner()),
        lineage,
        rows,
    };
    Ok(Planned { plan, relation })
}

/// Gives each column of the output a plain name, free of qualifiers.
fn name_columns(
    plan: LogicalPlan,
    lineage: &[Lineage],
    places: Places<'_>,
) -> Result<LogicalPlan, SqlError> {
    let mut columns = Vec::with_capacity(lineage.len());
    for (index, (column, lineage)) in plan.schema().columns().into_iter().zip(lineage).enumerate() {
        let name = if is_plain(&column.name) {
            column.name.clone()
        } else if *lineage == Lineage::Window {
            WINDOW.to_owned()
        } else {
            return Err(SqlError::new(format!(
                "column {} of the result needs a name of letters, digits and `_`",
                index + 1
            ))
            .help("give it one: `… AS name`")
            .at_token_if(places.result_column(index)));
        };
        if [OFFSET_COLUMN, KEY_GROUP_COLUMN].contains(&name.as_str()) {
            return Err(
                SqlError::new(format!("the column name `{name}` is Tagflow's own"))
                    .help("give it another: `… AS name`")
                    .at_token_if(places.result_column(index)),
            );
        }
        columns.push(Expr::Column(column).alias(name));
    }
    LogicalPlanBuilder::from(plan)
        .project(columns)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|error| SqlError::of_planner(&error))
}

/// Whether a name can stand for itself: letters, digits, `_` and `-`.
pub(crate) fn is_plain(name: &str) -> bool {
    name.chars()
        .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

impl Stream {
    /// Whether any of its rows came out of a window.
    pub(super) fn is_of_windows(&self, catalog: &Catalog) -> bool {
        let mut found = self.aggregates();
        self.scans(Duration::ZERO, &mut |scan, _| {
            let relation = catalog.relation(&scan.relation);
            found |= relation.is_some_and(|relation| relation.rows == Rows::Windows);
        });
        found
    }
}

/// Walks a typed plan into the shapes that can run on a stream.
pub(crate) fn walk(
    plan: &LogicalPlan,
    catalog: &Catalog,
    places: Places<'_>,
) -> Result<Stream, SqlError> {
    let mut stream = Walk { catalog, places }.node(plan)?;
    top::limit(&mut stream, places)?;
    Ok(stream)
}

pub(super) struct Walk<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) places: Places<'a>,
}

impl Walk<'_> {
    pub(super) fn node(&self, plan: &LogicalPlan) -> Result<Stream, SqlError> {
        match plan {
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Window(window) => self.top(window),
            LogicalPlan::TableScan(scan)
                if self.catalog.table_key(scan.table_name.table()).is_some() =>
            {
                Err(join::no_stream(scan.table_name.table()))
            }
            LogicalPlan::TableScan(scan) => Ok(Stream::Scan(Scan {
                relation: scan.table_name.table().to_owned(),
                columns: names(&scan.projected_schema.columns()),
                schema: Arc::clone(&scan.projected_schema),
            })),
            LogicalPlan::SubqueryAlias(alias) => {
                let mut stream = self.node(&alias.input)?;
                *stream.schema_mut() = Arc::clone(&alias.schema);
                Ok(stream)
            }
            LogicalPlan::Projection(projection) => {
                self.no_window(&projection.expr)?;
                let (input, filter) = match projection.input.as_ref() {
                    LogicalPlan::Filter(filter) => {
                        self.no_window([&filter.predicate])?;
                        (&filter.input, Some(filter.predicate.clone()))
                    }
                    _ => (&projection.input, None),
                };
                Ok(Stream::Map(Map {
                    input: Box::new(self.node(input)?),
                    filter,
                    columns: Some(projection.expr.clone()),
                    schema: Arc::clone(&projection.schema),
                }))
            }
            LogicalPlan::Filter(filter) => {
                self.no_window([&filter.predicate])?;
                let input = self.node(&filter.input)?;
                Ok(Stream::Map(Map {
                    schema: Arc::clone(input.schema()),
                    input: Box::new(input),
                    filter: Some(filter.predicate.clone()),
                    columns: None,
                }))
            }
            LogicalPlan::Union(union) => Ok(Stream::Union(Union {
                inputs: union
                    .inputs
                    .iter()
                    .map(|input| self.node(input))
                    .collect::<Result<_, _>>()?,
                schema: Arc::clone(&union.schema),
            })),
            LogicalPlan::Aggregate(aggregate) => self.tumble(aggregate),
            other => Err(SqlError::new(format!(
                "`{}` cannot run on a stream",
                other
                    .display()
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
            ))
            .help("a query is made of SELECT, WHERE, UNION ALL, GROUP BY with a window, HAVING")),
        }
    }

    fn tumble(&self, aggregate: &Aggregate) -> Result<Stream, SqlError> {
        let input = self.node(&aggregate.input)?;
        let lineage = input.lineage(self.catalog);
        let write = format!(
            "tumble({}, INTERVAL '1 minute')",
            event_time(&input, &lineage).unwrap_or_else(|| "ts".into())
        );

        let groups: Vec<Expr> = aggregate.group_expr.iter().map(unaliased).collect();
        let windows: Vec<(usize, &ScalarFunction)> = groups
            .iter()
            .enumerate()
            .filter_map(|(index, group)| Some((index, as_tumble(group)?)))
            .collect();
        if input.is_of_windows(self.catalog) {
            let of_columns = groups.iter().chain(&aggregate.aggr_expr);
            let place = of_columns.filter_map(column_place).next_back();
            let error = SqlError::new("an aggregate over the rows of a window is not there yet")
                .help("aggregate both from the source");
            return Err(match place {
                Some(place) => error.at(Some(place)),
                None => error.at_token_if(self.places.aggregate(self.catalog)),
            });
        }
        let (window, call) = match windows.as_slice() {
            [one] => *one,
            [] => {
                self.no_window(&groups)?;
                return Err(SqlError::new(
                    "an aggregate without a window never has its final value",
                )
                .help(format!("add a window to GROUP BY: `{write}`"))
                .at_token_if(self.places.aggregate(self.catalog)));
            }
            [..] => {
                return Err(
                    SqlError::new("GROUP BY has two windows, and a row lies in one")
                        .help("write one query for each window")
                        .at_token_if(self.places.tumble()),
                );
            }
        };
        let [time, width] = call.args.as_slice() else {
            return Err(SqlError::new("`tumble` takes two arguments").help(write));
        };
        if carried(time, input.schema(), &lineage) != Lineage::EventTime {
            return Err(self.not_event_time(time, &input, &lineage));
        }
        let width = self.width(width)?;
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
        Ok(Stream::Tumble(Tumble {
            time: time.clone(),
            width,
            window,
            keys,
            aggregates: aggregate.aggr_expr.clone(),
            schema: Arc::clone(&aggregate.schema),
            input: Box::new(input),
        }))
    }

    fn not_event_time(&self, time: &Expr, input: &Stream, lineage: &[Lineage]) -> SqlError {
        let place = column_place(time);
        let what = match time.clone().unalias_nested().data {
            Expr::Column(column) => format!("`{}`, not", column.name),
            _ => "a computed time, not".to_owned(),
        };
        let error = SqlError::new(format!(
            "`tumble` is given {what} the event time of the source"
        ));
        let error = match event_time(input, lineage) {
            Some(name) => error.help(format!("write `tumble({name}, …)`")),
            None if input.is_of_pairs(self.catalog) => error.help(join::CARRY),
            None => error.help(format!(
                "carry the event time through unchanged{}",
                self.source_times(input)
            )),
        };
        match place {
            Some(place) => error.at(Some(place)),
            None => error.at_token_if(self.places.tumble()),
        }
    }

    /// Names the event times of the relations that `input` scans.
    fn source_times(&self, input: &Stream) -> String {
        let mut names = Vec::new();
        input.scans(Duration::ZERO, &mut |scan, _| {
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

    fn width(&self, width: &Expr) -> Result<Duration, SqlError> {
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.catalog.config()))
            .build();
        let constant = ExprSimplifier::new(context)
            .simplify(width.clone())
            .map_err(|error| SqlError::of_planner(&error).at_token_if(self.places.tumble()))?;
        let width = match unaliased(&constant) {
            Expr::Literal(value, _) => width_us(&value),
            _ => width_us(&ScalarValue::Null)
                .map_err(|_| "the width of a window must be a constant".to_owned()),
        };
        match width {
            Ok(micros) => Ok(Duration::from_micros(micros.unsigned_abs())),
            Err(reason) => Err(SqlError::new(reason)
                .help("write a fixed width: `INTERVAL '1 minute'`, `INTERVAL '1 day'`")
                .at_token_if(self.places.tumble())),
        }
    }

    /// A window anywhere but in GROUP BY.
    fn no_window<'e>(&self, exprs: impl IntoIterator<Item = &'e Expr>) -> Result<(), SqlError> {
        let inside = |expr: &Expr| {
            expr.exists(|part| Ok::<_, DataFusionError>(as_tumble(part).is_some()))
                .unwrap_or(false)
        };
        if exprs.into_iter().any(inside) {
            return Err(
                SqlError::new("`tumble` stands in GROUP BY by itself, and nowhere else")
                    .help(
                        "group by it and give it a name in SELECT; of the result take \
                     `\"window\"['start']`",
                    )
                    .at_token_if(self.places.tumble()),
            );
        }
        Ok(())
    }
}

fn event_time(input: &Stream, lineage: &[Lineage]) -> Option<String> {
    let at = lineage.iter().position(|of| *of == Lineage::EventTime)?;
    input
        .schema()
        .fields()
        .get(at)
        .map(|field| field.name().clone())
}

fn as_tumble(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == TUMBLE => Some(call),
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

fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|column| column.name.clone()).collect()
}
