//! What a changed pipeline file does to what has run: which state is kept,
//! which begins anew, and which tables change.
//!
//! State belongs to a definition: a query keeps its state as long as its
//! fingerprint is the same, whatever else is in the file.

mod render;
#[cfg(test)]
mod tests;
mod version;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::plan::StoredTable;

pub use render::human;
pub use version::Version;

/// What becomes of one thing in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
    /// What is not as it was: `- …` for what was, `+ …` for what is.
    pub details: Vec<String>,
}

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A source, with how far it was read.
    Source,
    /// A step, with what it remembers of rows if it does.
    Step,
    /// A query, with its open windows or joins if it has some.
    Query,
    /// A block of metrics, with its open windows.
    Metrics,
    /// A table that streams are joined with.
    Lookup,
    /// A table that is written.
    Table,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Kept,
    /// It goes on, and its settings are others.
    Changed,
    /// It begins.
    Added,
    /// Its state does not fit any more.
    Reset,
    /// It is gone.
    Removed,
}

/// All that is in two versions: sources, tables that are looked up, steps, queries,
/// metrics and tables that are written, in this order.
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
            all.push(definition(kind, block, name, old, new));
        }
    }
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

/// What `run --reset` must name so that `new` can go on from where `old` stands.
pub fn resets(old: &Version, new: &Version) -> Vec<String> {
    let stateful = old.fingerprints.iter();
    let mut resets: Vec<String> = stateful
        .filter(|(node, was)| old.holds_state(node) && new.fingerprints.get(*node) != Some(was))
        .map(|(node, _)| node.clone())
        .collect();
    let read = old.sources.iter();
    resets.extend(read.filter(|name| !new.sources.contains(*name)).cloned());
    resets
}

/// The names in both maps.
fn names<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let maps = [old, new].into_iter().filter_map(Value::as_object);
    maps.flat_map(|map| map.keys().map(String::as_str))
        .collect()
}

/// Anything with a definition in the file, but for sinks.
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
            // A query may have lost a window of several, or all.
            let nodes = |version: &Version| version.nodes_of(name).cloned().collect::<Vec<_>>();
            if !details.is_empty() || (nodes(old) != nodes(new) && !nodes(old).is_empty()) {
                Fate::Reset
            } else if was == is {
                Fate::Kept
            } else {
                details = settings(was, is);
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

/// The settings that are not as they were, by name.
fn settings(was: &Value, is: &Value) -> Vec<String> {
    let changed = names(was, is)
        .into_iter()
        .filter(|name| was[name] != is[name]);
    changed.map(|name| format!("~ {name}")).collect()
}

/// The parts of two fingerprints that are not in both.
fn parts(was: &str, is: &str) -> Vec<String> {
    let (was, is) = (split(was), split(is));
    let gone = was.iter().filter(|part| !is.contains(part));
    let come = is.iter().filter(|part| !was.contains(part));
    let gone = gone.map(|part| format!("- {part}"));
    gone.chain(come.map(|part| format!("+ {part}"))).collect()
}

/// The parts of a fingerprint: what stands between semicolons that are in no
/// string.
fn split(fingerprint: &str) -> Vec<&str> {
    let mut quoted = false;
    let parts = fingerprint.split(|letter| {
        quoted ^= letter == '\'';
        letter == ';' && !quoted
    });
    parts.map(str::trim).collect()
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
