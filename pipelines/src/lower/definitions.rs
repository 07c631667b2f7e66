//! What the file says of its relations, and the way back to places in it.

use std::collections::BTreeMap;

use crate::{
    diagnostic::{Diagnostics, Position},
    spec::{Name, Spec, SqlText},
    sql::{Definition, Fault, Part, SelectItem, SqlError},
};

/// The sources, steps, queries and tables of a file.
pub(super) fn definitions(spec: &Spec) -> BTreeMap<String, Definition> {
    let sources = spec.sources.iter().map(|(name, source)| {
        let definition = Definition::Source {
            columns: source.columns.as_slice().to_vec(),
            event_time: source.time.event_time.value().clone(),
        };
        (name.to_string(), definition)
    });
    let tables = spec.tables.iter().map(|(name, table)| {
        let definition = Definition::Table {
            columns: table.columns.as_slice().to_vec(),
            key: table.key.iter().map(|it| it.value().clone()).collect(),
        };
        (name.to_string(), definition)
    });
    let steps = spec.steps.iter().map(|(name, step)| {
        let item = |(name, text): (Option<&Name>, &SqlText)| SelectItem {
            name: name.map(ToString::to_string),
            text: text.text().to_owned(),
        };
        let definition = Definition::Step {
            from: step.from.value().clone(),
            filter: step.filter.as_ref().map(|text| text.text().to_owned()),
            select: step
                .select
                .as_ref()
                .map(|select| select.columns().map(item).collect()),
        };
        (name.to_string(), definition)
    });
    let queries = spec.queries.iter().map(|(name, query)| {
        let definition = Definition::Query {
            sql: query.sql.text().to_owned(),
        };
        (name.to_string(), definition)
    });
    let streams = sources.chain(steps).chain(queries);
    streams.chain(tables).collect()
}

/// Where the relation `name` is defined.
pub(super) fn position(spec: &Spec, name: &str) -> Position {
    if let Some(query) = spec.queries.get(name) {
        return query.sql.at();
    }
    let mut names = spec.relations();
    names
        .find(|relation| ***relation == *name)
        .map_or(Position::START, Name::at)
}

/// Adds what is wrong with a relation, at its place in the file.
pub(super) fn report(spec: &Spec, fault: &Fault, diagnostics: &mut Diagnostics) {
    let name = fault.relation.as_str();
    let step = spec.steps.get(name);
    let (text, path) = match &fault.part {
        Part::Query => (
            spec.queries.get(name).map(|query| &query.sql),
            format!("queries.{name}"),
        ),
        Part::Where => (
            step.and_then(|step| step.filter.as_ref()),
            format!("steps.{name}.where"),
        ),
        Part::Select(index) => (
            step.and_then(|step| step.select.as_ref())
                .and_then(|select| select.columns().nth(*index))
                .map(|(_, text)| text),
            format!("steps.{name}.select"),
        ),
        Part::From => (None, format!("steps.{name}")),
    };
    if let Some(text) = text {
        sql(text, path, &fault.error, diagnostics);
    } else {
        let at = step.map_or_else(|| position(spec, name), |step| step.from.at());
        add(at, path, &fault.error, diagnostics);
    }
}

/// Adds what is wrong with a SQL text, at its place in the file.
pub(super) fn sql(text: &SqlText, path: String, error: &SqlError, diagnostics: &mut Diagnostics) {
    let at = text.position(error.line.into(), error.column.into());
    add(at, path, error, diagnostics);
}

fn add(at: Position, path: String, error: &SqlError, diagnostics: &mut Diagnostics) {
    let diagnostic = diagnostics.error(at, path, error.message.as_str());
    if let Some(help) = &error.help {
        diagnostic.help(help.as_str());
    }
}
