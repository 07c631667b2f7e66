//! The definitions of a file's relations, and the positions of their errors.

use std::{collections::BTreeMap, time::Duration};

use tagflow_operators::window::Emission;

use super::{
    metrics,
    sql_errors::{add, sql},
    stages,
};
use tagflow_config::diagnostic::{Diagnostics, Position};

use crate::{
    spec::{Name, Query, Spec, SqlText},
    sql::{Definition, Fault, MetricsPart, Part, SelectItem},
};

/// The default interval between the changes of a query with `ttl`.
const CHANGES_EVERY: Duration = Duration::from_mins(1);

/// The sources, steps, queries, metrics and tables of a file.
pub(super) fn definitions(spec: &Spec) -> BTreeMap<String, Definition> {
    let mut definitions = BTreeMap::new();
    for (name, source) in spec.sources.iter() {
        let definition = Definition::Source {
            columns: source.columns.as_slice().to_vec(),
            event_time: source.time.event_time.value().clone(),
        };
        definitions.insert(name.to_string(), definition);
    }
    for (name, table) in spec.tables.iter() {
        let definition = Definition::Table {
            columns: table.columns.as_slice().to_vec(),
            key: table.key.iter().map(|it| it.value().clone()).collect(),
        };
        definitions.insert(name.to_string(), definition);
    }
    for (name, step) in spec.steps.iter() {
        let item = |(name, text): (Option<&Name>, &SqlText)| SelectItem {
            name: name.map(ToString::to_string),
            text: text.text().to_owned(),
        };
        let definition = Definition::Step {
            from: stages::define(name, step, |part, definition| {
                definitions.insert(part, definition);
            }),
            called: step.from.value().clone(),
            filter: step.filter.as_ref().map(|text| text.text().to_owned()),
            select: step
                .select
                .as_ref()
                .map(|select| select.columns().map(item).collect()),
        };
        definitions.insert(name.to_string(), definition);
    }
    for (name, query) in spec.queries.iter() {
        let definition = Definition::Query {
            sql: query.sql.text().to_owned(),
            emission: emission(query),
        };
        definitions.insert(name.to_string(), definition);
    }
    for (name, metrics) in spec.metrics.iter() {
        definitions.insert(
            name.to_string(),
            Definition::Metrics(Box::new(metrics.clone())),
        );
    }
    definitions
}

/// When the rows of a query are emitted.
fn emission(query: &Query) -> Emission {
    let ttl = query.ttl.as_ref().map(|ttl| *ttl.value());
    let every = ttl.map(|_| CHANGES_EVERY);
    Emission {
        previews: query.emit.previews().or(every),
        lateness: *query.allowed_lateness.value(),
        ttl,
    }
}

/// The position of the relation `name`, or of the step that it is part of.
pub(super) fn position(spec: &Spec, name: &str) -> Position {
    let name = name.split('.').next().unwrap_or(name);
    if let Some(query) = spec.queries.get(name) {
        return query.sql.at();
    }
    let mut names = spec.relations();
    names
        .find(|relation| ***relation == *name)
        .map_or(Position::START, Name::at)
}

/// Adds an error of a relation, at its position in the file.
pub(super) fn report(spec: &Spec, fault: &Fault, diagnostics: &mut Diagnostics) {
    let name = fault.relation.as_str();
    if let Some((name, stage)) = name.split_once('.')
        && let Some(step) = spec.steps.get(name)
    {
        let (at, path) = stages::place(step, stage, &fault.part);
        return add(
            at,
            format!("steps.{name}.{path}"),
            &fault.error,
            diagnostics,
        );
    }
    let mut blocks = spec.metrics.iter();
    if let Some(block) = blocks.find(|(block, _)| ***block == *name) {
        let whole = MetricsPart::Whole;
        let part = match &fault.part {
            Part::Metrics(part) => part,
            _ => &whole,
        };
        return metrics::report(block, part, &fault.error, diagnostics);
    }
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
        Part::From | Part::Key(_) | Part::Column | Part::UserAgent | Part::Metrics(_) => {
            (None, format!("steps.{name}"))
        }
    };
    if let Some(text) = text {
        sql(text, path, &fault.error, diagnostics);
    } else {
        let at = step.map_or_else(|| position(spec, name), |step| step.from.at());
        add(at, path, &fault.error, diagnostics);
    }
}

/// Adds a warning of a relation, at its position in the file.
pub(super) fn warn(spec: &Spec, warning: &Fault, diagnostics: &mut Diagnostics) {
    let name = warning.relation.as_str();
    let message = warning.error.message.as_str();
    let diagnostic = diagnostics.warning(position(spec, name), name, message);
    if let Some(help) = &warning.error.help {
        diagnostic.help(help.as_str());
    }
}
