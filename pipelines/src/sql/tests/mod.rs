mod plans;
mod refusals;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use tagflow_operators::window::Emission;
use tagflow_schemas::Column;

use super::{Definition, Fault, Needs, Program};

/// A source of behaviour events, and the test's own definitions.
pub(super) fn program(more: &[(&str, Definition)]) -> Program {
    let mut definitions = BTreeMap::from([
        ("events".to_owned(), events()),
        (
            "orders".to_owned(),
            source(
                &[
                    ("order_id", "string", false),
                    ("userId", "string", false),
                    ("revenue", "decimal(18,2)", true),
                    ("ordered_at", "timestamp(ms)", false),
                ],
                "ordered_at",
            ),
        ),
    ]);
    definitions.extend(
        more.iter()
            .map(|(name, definition)| ((*name).to_owned(), definition.clone())),
    );
    Program::plan(&definitions, |name| name == "unreadable")
}

fn events() -> Definition {
    source(
        &[
            ("event_id", "string", false),
            ("user_id", "string", false),
            ("event_type", "string", false),
            ("campaign_id", "string", true),
            ("amount", "decimal(18,2)", true),
            ("created_at", "timestamp(ms)", false),
            ("occurred_at", "timestamp(ms)", false),
        ],
        "occurred_at",
    )
}

fn source(columns: &[(&str, &str, bool)], event_time: &str) -> Definition {
    let column = |(name, kind, nullable): &(&str, &str, bool)| Column {
        name: (*name).into(),
        kind: kind.parse().unwrap(),
        nullable: *nullable,
    };
    Definition::Source {
        columns: columns.iter().map(column).collect(),
        event_time: event_time.into(),
    }
}

pub(super) fn query(sql: &str) -> Definition {
    Definition::Query {
        sql: sql.into(),
        emission: Emission::default(),
    }
}

/// The faults as `relation line:column message [help]`.
pub(super) fn faults(program: &Program) -> Vec<String> {
    program.faults().iter().map(fault).collect()
}

fn fault(fault: &Fault) -> String {
    let error = &fault.error;
    let help = error
        .help
        .as_ref()
        .map_or_else(String::new, |help| format!(" [{help}]"));
    format!(
        "{} {}:{} {}{help}",
        fault.relation, error.line, error.column, error.message
    )
}

/// The required plans for all columns of `outputs`.
pub(super) fn needs(program: &Program, outputs: &[&str]) -> Vec<Needs> {
    assert_eq!(faults(program), Vec::<String>::new());
    let outputs: BTreeSet<String> = outputs.iter().map(|name| (*name).to_owned()).collect();
    program.needs(&outputs, None).unwrap()
}
