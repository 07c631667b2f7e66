//! Plans syntax as a [`Stream`]: DataFusion plans, and [`walk`] translates.

use std::sync::Arc;

use datafusion::{
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
    sql::{
        planner::{NullOrdering, ParserOptions, SqlToRel},
        sqlparser::ast::{Query, Statement},
    },
};
use tagflow_operators::window::Emission;

use super::{
    Catalog, Lineage, Relation, SqlError, Stream,
    column_name::{check_name, is_plain},
    implicit,
    optimize::{optimize, typed},
    places::Places,
    stream::with_columns,
    top_n, updating,
    walk::Walk,
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

/// Plans a query that has passed [`super::unsupported::refuse`].
pub(crate) fn query(
    query: Box<Query>,
    emission: Emission,
    catalog: &Catalog,
) -> Result<Planned, SqlError> {
    let places = Places::new(&query);
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
