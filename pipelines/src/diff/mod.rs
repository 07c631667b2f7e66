//! The effects of a changed pipeline file on the last run: kept state, reset state, and changed
//! tables.
//!
//! State belongs to a definition. A query keeps its state as long as its fingerprint is the same.
//! Each of its aggregates keeps its state as long as its own definition is the same. Other changes
//! in the file do not matter.

mod aggregates;
mod columns;
mod render;
mod tags;
#[cfg(test)]
mod tests;
mod version;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::plan::StoredTable;

pub use columns::check_columns;
pub use render::human;
pub use version::Version;

/// The difference of a thing in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its fate.
    pub fate: Fate,
    /// The changes: `- …` for the old version, `+ …` for the new one.
    pub details: Vec<String>,
}

/// The kind of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A source, with its positions.
    Source,
    /// A step, with its state if it has any.
    Step,
    /// A query, with its open windows or joins if it has some.
    Query,
    /// A block of metrics, with its open windows.
    Metrics,
    /// A measure of a block, with its aggregates in these windows.
    Measure,
    /// A table that streams are joined with.
    Lookup,
    /// A tag, with its state of each key.
    Tag,
    /// A segment, with its members.
    Segment,
    /// A table that is written.
    Table,
}

/// The fate of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It continues.
    Kept,
    /// It continues with other settings.
    Changed,
    /// It is new.
    Added,
    /// Its state no longer fits.
    Reset,
    /// It is removed.
    Removed,
}

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

/// The names in both maps.
fn names<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let maps = [old, new].into_iter().filter_map(Value::as_object);
    maps.flat_map(|map| map.keys().map(String::as_str))
        .collect()
}

/// The differences of things with state of their own. A definition identifies a thing, not its
/// name. `of_all` is the change that affects all things.
fn each(
    kind: Kind,
    was: &BTreeMap<String, String>,
    is: &BTreeMap<String, String>,
    of_all: Option<&[String]>,
) -> Vec<Difference> {
    // The same thing under another name.
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

/// The changed settings, by name.
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

/// The parts of a fingerprint, between semicolons outside of strings.
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
