//! Tags and segments of two versions.

use super::{Difference, Fate, Kind, Version, names, parts, settings};

/// The node that has the state of all tags.
pub(super) const TAGS: &str = "tags";

/// What becomes of each tag: its state goes by its definition, not by its name.
pub(super) fn tags(old: &Version, new: &Version) -> Vec<Difference> {
    let (was, is) = (&old.plan.tags, &new.plan.tags);
    // Whose tags they are, and when events happen, matters to all of them.
    let of_all = old.fingerprints.get(TAGS).zip(new.fingerprints.get(TAGS));
    let of_all = of_all.map_or_else(Vec::new, |(was, is)| parts(was, is));
    // A tag that goes by another name now.
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
            (Some(_), Some(_)) if !of_all.is_empty() => {
                details.clone_from(&of_all);
                Fate::Reset
            }
            (Some(was), Some(is)) if was != is => {
                details = parts(was, is);
                Fate::Reset
            }
            (Some(_), Some(_)) => Fate::Kept,
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
            kind: Kind::Tag,
            name: name.clone(),
            fate,
            details,
        }
    };
    all.into_iter().map(of).collect()
}

/// What becomes of each segment: whoever is in it stays until the new rule says
/// otherwise.
pub(super) fn segments(old: &Version, new: &Version) -> Vec<Difference> {
    let block = |version: &Version| version.plan.pipeline["segments"].clone();
    let (was, is) = (block(old), block(new));
    let of = |name: &str| {
        let (was, is) = (&was[name], &is[name]);
        let fate = match (was.is_null(), is.is_null()) {
            (true, _) => Fate::Added,
            (_, true) => Fate::Removed,
            _ if was == is => Fate::Kept,
            _ => Fate::Changed,
        };
        Difference {
            kind: Kind::Segment,
            name: name.to_owned(),
            fate,
            details: match fate {
                Fate::Changed => settings(was, is),
                _ => Vec::new(),
            },
        }
    };
    names(&was, &is).into_iter().map(of).collect()
}
