mod driver;
mod graphs;
mod mistakes;
mod numbers;
mod results;
mod tags;

use std::sync::Arc;

use super::{LowerOptions, Lowered, check, lower};
use crate::{Diagnostics, LoadOptions, Spec, load_str};

/// Two sources of files, the first as in the examples.
const SOURCES: &str = r#"
name: test
sources:
  events:
    files: {url: "./events/*.ndjson"}
    format: {json: {}}
    columns:
      event_id: string
      user_id: string
      event_type: string
      campaign_id: string?
      amount: decimal(18,2)?
      created_at: timestamp(ms)?
      occurred_at: timestamp(ms)
    time: {event_time: occurred_at}
  orders:
    kafka: {brokers: "localhost:9092", topics: [orders]}
    format: {json: {}}
    columns: {order_id: string, buyer: string, revenue: "decimal(18,2)?", ordered_at: timestamp(s)}
    time: {event_time: ordered_at, delay: 1m}
"#;

/// The sources with `blocks`.
fn spec(blocks: &str) -> Spec {
    let text = format!("{SOURCES}{blocks}");
    load(&text).unwrap_or_else(|problems| panic!("{}", problems.human()))
}

fn load(text: &str) -> Result<Spec, Diagnostics> {
    let options = LoadOptions {
        set: Vec::new(),
        env: Arc::new(|_| None),
    };
    load_str("test.yaml", text, &options)
}

fn lowered(blocks: &str) -> Lowered {
    lower(&spec(blocks), &LowerOptions::default())
        .unwrap_or_else(|problems| panic!("{}", problems.human()))
}

/// A console sink of `query`, named `q`.
fn one_query(query: &str) -> String {
    let mut text = String::from("queries:\n  q: |\n");
    for line in query.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("sinks: {out: {from: q, console: {}}}\n");
    text
}

/// All errors, as `line:column path: message [help]`.
fn problems(blocks: &str) -> Vec<String> {
    check(&spec(blocks))
        .iter()
        .map(|problem| {
            let help = problem
                .help
                .as_ref()
                .map_or_else(String::new, |help| format!(" [{help}]"));
            // Counted from the first line of `blocks`.
            let line = problem.at.line - SOURCES.lines().count() as u32;
            format!(
                "{line}:{} {}: {}{help}",
                problem.at.column, problem.path, problem.message
            )
        })
        .collect()
}
