//! The effects of a changed pipeline file on the last run: kept state, reset state, and changed
//! tables.
//!
//! State belongs to a definition. A query keeps its state as long as its fingerprint is the same.
//! Each of its aggregates keeps its state as long as its own definition is the same. Other changes
//! in the file do not matter.

mod aggregates;
mod columns;
mod difference;
mod render;
mod tags;
#[cfg(test)]
mod tests;
mod version;

use std::collections::BTreeSet;

use serde_json::Value;

use self::difference::{names, parts, settings};
use tagflow_pipelines::plan::StoredTable;

pub use columns::check_columns;
pub use difference::{Difference, Fate, Kind};
pub use render::human;
pub use version::Version;

/// All differences of two versions, in this order: sources, lookup tables, steps, queries, metrics
/// with their measures, tags, segments and written tables.
pub fn compare(old: &Version, new: &Version) -> Vec<Difference> {
    let mut all = Vec::new();
    for (kind, block) in [
        (Kind::Source, "sources"),
        (Kind::Lookup, "tables"),
        (Kind::Step, "steps"),
        (Kind::Query, "queries"),
        (Kind::Metrics, "metrics"),
    ] {
        for name in names(&old.plan.pipeline[block], &new.plan.pipeline[block]) {
            let block = definition(kind, block, name, old, new);
            let fate = block.fate;
            all.push(block);
            if kind == Kind::Metrics {
                all.extend(aggregates::measures(name, fate, old, new));
            }
        }
    }
    all.extend(tags::tags(old, new));
    all.extend(tags::segments(old, new));
    let tables = |version: &Version| -> Vec<String> {
        let tables = version.plan.tables.iter();
        tables.map(|table| table.name.clone()).collect()
    };
    let mut names = tables(new);
    names.extend(
        tables(old)
            .into_iter()
            .filter(|name| new.table(name).is_none()),
    );
    let of = |name: String| table(&name, old.table(&name), new.table(&name));
    all.extend(names.into_iter().map(of));
    all
}

/// The names that `run --reset` needs so that `new` can continue from `old`.
pub fn resets(old: &Version, new: &Version) -> Vec<String> {
    let stateful = old.fingerprints.iter();
    let mut resets: Vec<String> = stateful
        .filter(|(node, was)| {
            let fits = new.fingerprints.get(*node) == Some(was);
            old.holds_state(node) && (!fits || aggregates::begin_anew(node, old, new))
        })
        .map(|(node, _)| node.clone())
        .collect();
    for change in columns::tightened(old, new) {
        let begun = |node: &String| !resets.contains(node);
        let nodes: Vec<String> = change.nodes.into_iter().filter(begun).collect();
        resets.extend(nodes);
    }
    let read = old.sources.iter();
    resets.extend(read.filter(|name| !new.sources.contains(*name)).cloned());
    with_sources(resets, new)
}

/// Replaces each sink that replaces rows of its table by its sources: without its state the rows
/// would be there twice.
fn with_sources(resets: Vec<String>, new: &Version) -> Vec<String> {
    let mut all = Vec::new();
    for name in resets {
        let instead = match new.feeding.get(&name) {
            Some(sources) => sources.iter().cloned().collect(),
            None => vec![name],
        };
        all.extend(instead);
    }
    let mut seen = BTreeSet::new();
    all.retain(|name| seen.insert(name.clone()));
    all
}

/// Anything with a definition in the file, except sinks.
fn definition(kind: Kind, block: &str, name: &str, old: &Version, new: &Version) -> Difference {
    let (was, is) = (
        &old.plan.pipeline[block][name],
        &new.plan.pipeline[block][name],
    );
    let mut details = Vec::new();
    let fate = match (was, is) {
        (Value::Null, _) => Fate::Added,
        (_, Value::Null) => Fate::Removed,
        _ => {
            for node in old.nodes_of(name) {
                if let (Some(was), Some(is)) =
                    (old.fingerprints.get(node), new.fingerprints.get(node))
                {
                    details.extend(parts(was, is));
                }
            }
            for change in columns::tightened(old, new) {
                let is_own = |node: &String| change.nodes.contains(node);
                if old.nodes_of(name).any(is_own) {
                    details.push(change.detail());
                }
            }
            let mut nodes = old.nodes_of(name);
            let begins_anew = nodes.any(|node| aggregates::begin_anew(node, old, new));
            let aggregates = match kind {
                Kind::Metrics => Vec::new(),
                _ => aggregates::details(name, old, new),
            };
            // A query may have lost one or all of its windows.
            let nodes = |version: &Version| version.nodes_of(name).cloned().collect::<Vec<_>>();
            if !details.is_empty() || (nodes(old) != nodes(new) && !nodes(old).is_empty()) {
                Fate::Reset
            } else if begins_anew {
                details = aggregates;
                Fate::Reset
            } else if was == is && aggregates.is_empty() {
                Fate::Kept
            } else {
                details = settings(was, is);
                details.extend(aggregates);
                Fate::Changed
            }
        }
    };
    Difference {
        kind,
        name: name.to_owned(),
        fate,
        details,
    }
}

fn table(name: &str, old: Option<&StoredTable>, new: Option<&StoredTable>) -> Difference {
    let mut details = Vec::new();
    let fate = match (old, new) {
        (Some(old), Some(new)) => {
            if old.url != new.url {
                details.push(format!("- in {}", old.url));
                details.push(format!("+ in {}", new.url));
            }
            let gone = old.columns.iter().filter(|it| !new.columns.contains(it));
            details.extend(gone.map(|column| format!("- {column}")));
            let come = new.columns.iter().filter(|it| !old.columns.contains(it));
            details.extend(come.map(|column| format!("+ {column}")));
            if details.is_empty() {
                Fate::Kept
            } else {
                Fate::Changed
            }
        }
        (None, _) => Fate::Added,
        (_, None) => Fate::Removed,
    };
    Difference {
        kind: Kind::Table,
        name: name.to_owned(),
        fate,
        details,
    }
}
