//! What a changed pipeline file does to what has run: which state is kept,
//! which begins anew, and which tables change.
//!
//! State belongs to a definition: a query keeps its state as long as its
//! fingerprint is the same, and each of its aggregates as long as its own definition
//! is, whatever else is in the file.

mod aggregates;
mod render;
mod tags;
#[cfg(test)]
mod tests;
mod version;

use std::collections::{BTreeMap, BTreeSet};

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
    /// A measure of a block, with what it has counted in these.
    Measure,
    /// A table that streams are joined with.
    Lookup,
    /// A tag, with what is known of each key.
    Tag,
    /// A segment, with who is in it.
    Segment,
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
/// metrics with their measures, tags, segments and tables that are written, in this order.
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

/// What `run --reset` must name so that `new` can go on from where `old` stands.
pub fn resets(old: &Version, new: &Version) -> Vec<String> {
    let stateful = old.fingerprints.iter();
    let mut resets: Vec<String> = stateful
        .filter(|(node, was)| {
            let fits = new.fingerprints.get(*node) == Some(was);
            old.holds_state(node) && (!fits || aggregates::begin_anew(node, old, new))
        })
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

/// What becomes of each of some things with state of their own, which goes by its
/// definition and not by its name. `of_all` is what has changed for all of them.
fn each(
    kind: Kind,
    was: &BTreeMap<String, String>,
    is: &BTreeMap<String, String>,
    of_all: Option<&[String]>,
) -> Vec<Difference> {
    // One that goes by another name now.
    let before = |name: &str| {
        let renamed = was.iter().find(|(it, definition)| {
            !is.contains_key(*it) && is.get(name) == Some(definition) && !was.contains_key(name)
        });
        renamed.map(|(name, _)| name)
    };
    let renamed: Vec<&String> = is.keys().filter_map(|name| before(name)).collect();
    let mut all: Vec<&String> = is.keys().chain(was.keys()).collect();
    all.sort();
    all.dedup();
    all.retain(|name| !renamed.contains(name));
    let of = |name: &String| {
        let mut details = Vec::new();
        let fate = match (was.get(name), is.get(name)) {
            (Some(was), Some(is)) => match of_all {
                Some(of_all) => {
                    details.extend_from_slice(of_all);
                    Fate::Reset
                }
                None if was == is => Fate::Kept,
                None => {
                    details = parts(was, is);
                    Fate::Reset
                }
            },
            (None, _) => match before(name) {
                Some(before) => {
                    details.push(format!("~ was `{before}`"));
                    Fate::Changed
                }
                None => Fate::Added,
            },
            (_, None) => Fate::Removed,
        };
        Difference {
            kind,
            name: name.clone(),
            fate,
            details,
        }
    };
    all.into_iter().map(of).collect()
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
            let mut nodes = old.nodes_of(name);
            let begins_anew = nodes.any(|node| aggregates::begin_anew(node, old, new));
            let aggregates = match kind {
                Kind::Metrics => Vec::new(),
                _ => aggregates::details(name, old, new),
            };
            // A query may have lost a window of several, or all.
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
