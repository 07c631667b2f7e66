//! A difference between two versions of a pipeline.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

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

/// The names in both maps.
pub(super) fn names<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let maps = [old, new].into_iter().filter_map(Value::as_object);
    maps.flat_map(|map| map.keys().map(String::as_str))
        .collect()
}

/// The differences of things with state of their own. A definition identifies a thing, not its
/// name. `of_all` is the change that affects all things.
pub(super) fn each(
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

/// The changed settings, by name.
pub(super) fn settings(was: &Value, is: &Value) -> Vec<String> {
    let changed = names(was, is)
        .into_iter()
        .filter(|name| was[name] != is[name]);
    changed.map(|name| format!("~ {name}")).collect()
}

/// The parts of two fingerprints that are not in both.
pub(super) fn parts(was: &str, is: &str) -> Vec<String> {
    let (was, is) = (split(was), split(is));
    let gone = was.iter().filter(|part| !is.contains(part));
    let come = is.iter().filter(|part| !was.contains(part));
    let gone = gone.map(|part| format!("- {part}"));
    gone.chain(come.map(|part| format!("+ {part}"))).collect()
}

/// The parts of a fingerprint, between semicolons outside of strings.
pub(super) fn split(fingerprint: &str) -> Vec<&str> {
    let mut quoted = false;
    let parts = fingerprint.split(|letter| {
        quoted ^= letter == '\'';
        letter == ';' && !quoted
    });
    parts.map(str::trim).collect()
}
