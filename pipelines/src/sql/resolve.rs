//! Plans expressions outside queries: those of steps and of sinks.

use std::sync::Arc;

use datafusion::{
    common::{DFSchema, DFSchemaRef, TableReference},
    logical_expr::{Expr, LogicalPlanBuilder, simplify::SimplifyContext},
    optimizer::simplify_expressions::ExprSimplifier,
    sql::{planner::PlannerContext, sqlparser::ast},
};

use tagflow_operators::window::Emission;

use super::{
    Catalog, Part, SelectItem, SqlError, parse,
    places::Places,
    plan::{self, Planned},
    unsupported,
};

/// The expression `text` over rows of `schema`; its types are not coerced yet.
pub(crate) fn parse_expression(
    text: &str,
    schema: &DFSchema,
    catalog: &Catalog,
) -> Result<Expr, Vec<SqlError>> {
    let syntax = parse::expression(text).map_err(|error| vec![error])?;
    over(syntax, schema, catalog)
}

/// Plans `syntax` over rows of `schema`.
fn over(syntax: ast::Expr, schema: &DFSchema, catalog: &Catalog) -> Result<Expr, Vec<SqlError>> {
    let mut refused = unsupported::refuse(&syntax, catalog.functions());
    if let Some(place) = parse::first_call(&syntax, |name| {
        catalog.functions().aggregate(name).is_some()
    }) {
        refused.push(
            SqlError::new("an aggregate is over many rows, and here is one")
                .help("aggregate in a query with a window")
                .at_token(place),
        );
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    plan::planner(catalog)
        .sql_to_expr(syntax, schema, &mut PlannerContext::new())
        .map_err(|error| vec![SqlError::of_planner(&error)])
}

/// The expression `text` over rows of `schema`, typed and simplified.
pub(crate) fn expression(
    text: &str,
    schema: &DFSchemaRef,
    catalog: &Catalog,
) -> Result<Expr, Vec<SqlError>> {
    let expr = parse_expression(text, schema, catalog)?;
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(schema))
        .with_config_options(Arc::clone(catalog.config()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let typed = |expr: Expr| simplifier.simplify(simplifier.coerce(expr, schema)?);
    // A folded constant can change the type of a coerced expression, see `optimize::typed`.
    typed(expr)
        .and_then(typed)
        .map_err(|error| vec![SqlError::of_planner(&error)])
}

/// The step that keeps the rows of `from` where `filter` is true, and computes `select` from them.
/// Its texts name `from` as `called`.
pub(crate) fn step(
    from: &str,
    called: &str,
    filter: Option<&str>,
    select: Option<&[SelectItem]>,
    catalog: &Catalog,
) -> Result<Planned, Vec<(Part, SqlError)>> {
    let whole = |error| vec![(Part::From, error)];
    let planner = |error| whole(SqlError::of_planner(&error));
    let table = catalog
        .table(from)
        .ok_or_else(|| whole(SqlError::new(format!("nothing is called `{from}`"))))?;
    let mut plan =
        LogicalPlanBuilder::scan(TableReference::bare(from), table, None).map_err(planner)?;
    if from != called {
        plan = plan.alias(TableReference::bare(called)).map_err(planner)?;
    }
    let schema = Arc::clone(plan.schema());

    let mut faults = Vec::new();
    if let Some(text) = filter {
        let filtered = parse_expression(text, &schema, catalog).and_then(|expr| {
            let filtered = plan.clone().filter(expr);
            filtered.map_err(|error| vec![SqlError::of_planner(&error)])
        });
        match filtered {
            Ok(filtered) => plan = filtered,
            Err(errors) => faults.extend(errors.into_iter().map(|error| (Part::Where, error))),
        }
    }
    let mut columns = Vec::new();
    for (index, item) in select.unwrap_or_default().iter().enumerate() {
        match select_item(item, &schema, catalog) {
            Ok(exprs) => columns.extend(exprs),
            Err(errors) => {
                faults.extend(errors.into_iter().map(|error| (Part::Select(index), error)));
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    if select.is_some() {
        plan = plan.project(columns).map_err(planner)?;
    }
    let plan = plan.build().map_err(planner)?;
    plan::finish(plan, Emission::default(), catalog, Places::default()).map_err(whole)
}

/// The columns of an item of `select`, with their names.
fn select_item(
    item: &SelectItem,
    schema: &DFSchema,
    catalog: &Catalog,
) -> Result<Vec<Expr>, Vec<SqlError>> {
    if let Some(name) = &item.name {
        let expr = parse_expression(&item.text, schema, catalog)?;
        return Ok(vec![expr.alias(name)]);
    }
    match parse::select_item(&item.text).map_err(|error| vec![error])? {
        parse::Selected::All => {
            let columns = schema.columns().into_iter();
            Ok(columns.map(Expr::Column).collect())
        }
        parse::Selected::Named(syntax, name) => {
            Ok(vec![over(syntax, schema, catalog)?.alias(name)])
        }
        parse::Selected::Unnamed(syntax) => match over(syntax, schema, catalog)? {
            Expr::Column(column) => Ok(vec![Expr::Column(column)]),
            _ => Err(vec![
                SqlError::new(format!("`{}` needs a name", item.text.trim()))
                    .help(format!("give it one: `{} AS name`", item.text.trim())),
            ]),
        },
    }
}
