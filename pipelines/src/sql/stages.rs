//! The parts of a step that are relations of their own: those that need the rows of a key in the
//! order of event time, and the flag of bots before them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    common::{Column, DFSchema, TableReference},
    logical_expr::{Expr, LogicalPlanBuilder, lit},
};
use tagflow_operators::window::Emission;

use super::{
    Catalog, Lineage, OrderedRule, Part, Relation, SqlError,
    column_name::check_name,
    places::Places,
    plan::{self, Planned},
    stream::{Ordered, Scan, Stream},
};
use tagflow_config::diagnostic::unknown;

/// The rows of `from` by `key` in the order of their event time.
pub(super) fn ordered(
    from: &str,
    key: &[String],
    rule: &OrderedRule,
    catalog: &Catalog,
) -> Result<(Ordered, Relation), Vec<(Part, SqlError)>> {
    let input = relation(from, catalog)?;
    let mut faults = Vec::new();
    for (index, column) in key.iter().enumerate() {
        if let Err(error) = known(column, input) {
            faults.push((Part::Key(index), error));
        }
    }
    let event_time = input
        .lineage
        .iter()
        .position(|lineage| *lineage == Lineage::EventTime);
    if event_time.is_none() {
        let error = SqlError::new("the rows have no event time, whose order is needed here")
            .help("carry the event time of the source through unchanged");
        faults.push((Part::From, error));
    }
    let mut output = input.clone();
    if let OrderedRule::Sessions { column, .. } = rule {
        match free(column, input) {
            Ok(()) => {
                let mut fields = input.schema.fields().to_vec();
                let nullable = key.iter().any(|key| is_nullable(key, input));
                fields.push(Arc::new(Field::new(column, DataType::Utf8, nullable)));
                output.schema = Arc::new(Schema::new(fields));
                output.lineage.push(Lineage::Plain);
            }
            Err(error) => faults.push((Part::Column, error)),
        }
    }
    let (Some(event_time), true) = (event_time, faults.is_empty()) else {
        return Err(faults);
    };
    let qualified = |schema| {
        DFSchema::try_from_qualified_schema(TableReference::bare(from), schema)
            .map(Arc::new)
            .map_err(|error| vec![(Part::From, SqlError::of_planner(&error))])
    };
    let names = input.schema.fields().iter();
    let ordered = Ordered {
        input: Box::new(Stream::Scan(Scan {
            relation: from.to_owned(),
            columns: names.map(|field| field.name().clone()).collect(),
            schema: qualified(&input.schema)?,
        })),
        key: key.to_vec(),
        time: input.schema.field(event_time).name().clone(),
        rule: rule.clone(),
        schema: qualified(&output.schema)?,
    };
    Ok((ordered, output))
}

/// The rows of `from`, each with a flag for a bot's `user_agent`; without a `user_agent`, none is
/// flagged.
pub(super) fn flagged(
    from: &str,
    user_agent: Option<&str>,
    column: &str,
    catalog: &Catalog,
) -> Result<Planned, Vec<(Part, SqlError)>> {
    let input = relation(from, catalog)?;
    let mut faults = Vec::new();
    if let Err(error) = free(column, input) {
        faults.push((Part::Column, error));
    }
    let agent = user_agent.map(|agent| known(agent, input));
    if let Some(Err(error)) = &agent {
        faults.push((Part::UserAgent, error.clone()));
    }
    if let Some(Ok(field)) = &agent
        && *field.data_type() != DataType::Utf8
    {
        let error = SqlError::new(format!("`{}` is not a `string`", field.name()));
        faults.push((Part::UserAgent, error));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let whole = |error| vec![(Part::From, SqlError::of_planner(&error))];
    let flag = match (user_agent, catalog.functions().scalar("is_bot")) {
        (Some(agent), Some(is_bot)) => {
            let agent = Expr::Column(Column::new_unqualified(agent));
            is_bot.call(vec![agent])
        }
        _ => lit(false),
    };
    let table = catalog.table(from).ok_or_else(|| nothing(from))?;
    let scan = LogicalPlanBuilder::scan(TableReference::bare(from), table, None).map_err(whole)?;
    let mut columns: Vec<Expr> = scan
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    columns.push(flag.alias(column));
    let plan = scan
        .project(columns)
        .and_then(LogicalPlanBuilder::build)
        .map_err(whole)?;
    plan::finish(plan, Emission::default(), catalog, Places::default())
        .map_err(|error| vec![(Part::From, error)])
}

fn relation<'a>(from: &str, catalog: &'a Catalog) -> Result<&'a Relation, Vec<(Part, SqlError)>> {
    catalog.relation(from).ok_or_else(|| nothing(from))
}

fn nothing(from: &str) -> Vec<(Part, SqlError)> {
    let error = SqlError::new(format!("nothing is called `{from}`"));
    vec![(Part::From, error)]
}

/// The column `name`.
fn known<'a>(name: &str, input: &'a Relation) -> Result<&'a Field, SqlError> {
    input.schema.field_with_name(name).map_err(|_| {
        let names = input.schema.fields().iter();
        let names: Vec<&str> = names.map(|field| field.name().as_str()).collect();
        SqlError::new(format!("column `{name}` not found{}", unknown(name, names)))
    })
}

/// Checks that a new column can have this name.
fn free(name: &str, input: &Relation) -> Result<(), SqlError> {
    if input.schema.field_with_name(name).is_ok() {
        return Err(
            SqlError::new(format!("the rows have a column `{name}` already"))
                .help("give the new one another name with `as`"),
        );
    }
    check_name(name).map_err(|error| error.help("give it another name with `as`"))
}

fn is_nullable(name: &str, input: &Relation) -> bool {
    known(name, input).is_ok_and(Field::is_nullable)
}
