//! The messages that users see, and the meaning of valid files.

mod damaged;
pub(crate) mod everything;
mod messages;
mod plan;
mod tags;

use std::sync::Arc;

use super::*;
use tagflow_config::diagnostic::Position;

use crate::load::{LoadOptions, Parsed, load_str, parse_str};

/// Options with the variables of `env` and none of the machine's.
fn options(env: &[(&str, &str)]) -> LoadOptions {
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    LoadOptions {
        set: Vec::new(),
        env: Arc::new(move |name| {
            let variable = env.iter().find(|(found, _)| found == name);
            variable.map(|(_, value)| value.clone())
        }),
    }
}

fn parsed(text: &str) -> Parsed {
    parse_str("p.yaml", text, &options(&[]))
}

pub(crate) fn spec(text: &str) -> Spec {
    match load_str("p.yaml", text, &options(&[])) {
        Ok(spec) => spec,
        Err(problems) => panic!("{problems}"),
    }
}

/// A valid pipeline; tests add to it and replace parts.
const MINIMAL: &str = "\
name: demo
sources:
  events:
    kafka: {brokers: localhost:9092, topics: [t]}
    format: {json: {}}
    columns: {user_id: string, ts: timestamp(ms)}
    time: {event_time: ts}
sinks:
  out: {from: events, console: {}}
";

/// `MINIMAL` with `from` replaced; `from` must occur once.
fn with(from: &str, to: &str) -> String {
    assert_eq!(MINIMAL.matches(from).count(), 1, "{from}");
    MINIMAL.replace(from, to)
}
