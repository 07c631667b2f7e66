//! Plans syntax as a [`Stream`]: DataFusion plans, and [`walk`] translates.

use std::{sync::Arc, time::Duration};

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
    sql::{
        planner::{NullOrdering, ParserOptions, SqlToRel},
        sqlparser::{
            ast::{Query, Statement},
            tokenizer::Span,
        },
    },
};
use tagflow_engine::{graph::OFFSET_COLUMN, state::KEY_GROUP_COLUMN};
use tagflow_operators::window::Emission;

use super::{
    Catalog, Lineage, Relation, Rows, SqlError,
    functions::WindowKind,
    implicit, join,
    optimize::{optimize, typed},
    parse,
    stream::{Map, Scan, Stream, Union, with_columns},
    top_n, updating,
};

/// The default name of a window's column.
const WINDOW: &str = "window";

/// A relation with the plan of its rows.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Typed, with named columns; not yet optimized.
    pub(crate) plan: LogicalPlan,
    /// The relation for its readers.
    pub(crate) relation: Relation,
    /// Expressions that may have another meaning than their author expects.
    pub(crate) warnings: Vec<SqlError>,
}

/// The text of a plan, for positions that the plan has lost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places<'a>(Option<&'a Query>);

impl Places<'_> {
    /// The first aggregate.
    pub(super) fn aggregate(self, catalog: &Catalog) -> Option<Span> {
        let functions = catalog.functions();
        parse::first_call(self.0?, |name| functions.aggregate(name).is_some())
    }

    /// The first window.
    pub(super) fn window(self) -> Option<Span> {
        parse::first_call(self.0?, |name| WindowKind::named(name).is_some())
    }

    /// The first joined relation.
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

    /// The part that `message` mentions.
    fn mentioned(self, message: &str) -> Option<Span> {
        parse::first_mentioned(self.0?, message)
    }
}

/// DataFusion's planner over `catalog`. By default ORDER BY sorts nulls last, as in `DuckDB`: the
/// best row of a window always has a value.
pub(crate) fn planner(catalog: &Catalog) -> SqlToRel<'_, Catalog> {
    let options = &catalog.config().sql_parser;
    SqlToRel::new_with_options(
        catalog,
        ParserOptions::new()
            .with_collect_spans(options.collect_spans)
            .with_map_string_types_to_utf8view(options.map_string_types_to_utf8view)
            .with_default_null_ordering(NullOrdering::NullsLast),
    )
}

/// Plans a query that has passed [`super::refuse`].
pub(crate) fn query(
    query: Box<Query>,
    emission: Emission,
    catalog: &Catalog,
) -> Result<Planned, SqlError> {
    let places = Places(Some(query.as_ref()));
    planner(catalog)
        .sql_statement_to_plan(Statement::Query(query.clone()))
        .map_err(|error| SqlError::of_planner(&error))
        .and_then(|plan| finish(plan, emission, catalog, places))
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
    emission: Emission,
    catalog: &Catalog,
    places: Places<'_>,
) -> Result<Planned, SqlError> {
    let warnings = implicit::of_plan(&plan);
    let planner = |error| SqlError::of_planner(&error);
    let plan = typed(plan, catalog.config()).map_err(planner)?;
    let plan = match (emission.ttl, emission.previews) {
        (Some(_), Some(every)) => updating::cut(plan, every, catalog, places)?,
        _ => plan,
    };
    let mut stream = walk(&plan, Emission::default(), catalog, places)?;
    let mut lineage = stream.lineage(catalog);
    let plan = name_columns(plan, &lineage, places)?;
    // This also finds constants of a wrong type: `amount > 'abc'`. If a constant of a subquery
    // replaces its column, the types are those of the result.
    let optimized = optimize(plan.clone(), catalog.config()).map_err(planner)?;
    let mut schema = Arc::clone(optimized.schema());
    if emission.revises() {
        let more = stream.revise(emission)?;
        schema = with_columns(&schema, &more)?;
        lineage.resize(schema.fields().len(), Lineage::Plain);
    }
    let relation = Relation {
        schema: Arc::clone(schema.inner()),
        lineage,
        rows: stream.rows(catalog),
        upsert: stream.upsert(catalog),
    };
    Ok(Planned {
        plan,
        relation,
        warnings,
    })
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
        } else if matches!(lineage, Lineage::Window | Lineage::Session) {
            WINDOW.to_owned()
        } else {
            return Err(SqlError::new(format!(
                "column {} of the result needs a name of letters, digits and `_`",
                index + 1
            ))
            .help("give it one: `… AS name`")
            .at_token_if(places.result_column(index)));
        };
        check_name(&name).map_err(|error| {
            error
                .help("give it another: `… AS name`")
                .at_token_if(places.result_column(index))
        })?;
        columns.push(Expr::Column(column).alias(name));
    }
    LogicalPlanBuilder::from(plan)
        .project(columns)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|error| SqlError::of_planner(&error))
}

/// Checks that a column's name is allowed.
pub(crate) fn check_name(name: &str) -> Result<(), SqlError> {
    if !is_plain(name) || name.is_empty() {
        return Err(SqlError::new(format!(
            "`{name}` is no name of letters, digits and `_`"
        )));
    }
    if [OFFSET_COLUMN, KEY_GROUP_COLUMN].contains(&name) {
        return Err(SqlError::new(format!(
            "the column name `{name}` is Tagflow's own"
        )));
    }
    Ok(())
}

/// Whether a name needs no quotes: letters, digits, `_` and `-`.
pub(crate) fn is_plain(name: &str) -> bool {
    name.chars()
        .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

impl Stream {
    /// The kind of its rows; of a mixture, the most special.
    pub(super) fn rows(&self, catalog: &Catalog) -> Rows {
        let mut rows = self.own_rows();
        self.scans(Duration::ZERO, &mut |scan, _| {
            if let Some(relation) = catalog.relation(&scan.relation) {
                rows = rows.max(relation.rows);
            }
        });
        rows
    }

    fn own_rows(&self) -> Rows {
        match self {
            Self::Windowed(windowed) => windowed.rows(),
            other => {
                let inputs = other.inputs().into_iter().map(Self::own_rows);
                let rows = inputs.max().unwrap_or(Rows::Events);
                match other {
                    Self::Join(_) => rows.max(Rows::Pairs),
                    _ => rows,
                }
            }
        }
    }

    /// Whether any of its rows are results of a window.
    pub(super) fn is_of_windows(&self, catalog: &Catalog) -> bool {
        self.rows(catalog) >= Rows::Windows
    }
}

/// Translates a typed plan into the shapes that can run on a stream.
pub(crate) fn walk(
    plan: &LogicalPlan,
    emission: Emission,
    catalog: &Catalog,
    places: Places<'_>,
) -> Result<Stream, SqlError> {
    let mut stream = Walk { catalog, places }.node(plan)?;
    top_n::limit(&mut stream, places)?;
    if emission.revises() {
        stream.revise(emission)?;
    }
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
            LogicalPlan::Aggregate(aggregate) => self.windowed(aggregate),
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
}

fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|column| column.name.clone()).collect()
}
