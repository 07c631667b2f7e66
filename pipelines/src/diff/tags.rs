//! Tags and segments of two versions.

use super::{Difference, Fate, Kind, Version, each, names, parts, settings};

/// The node that has the state of all tags.
pub(super) const TAGS: &str = "tags";

/// What becomes of each tag: its state goes by its definition, not by its name.
pub(super) fn tags(old: &Version, new: &Version) -> Vec<Difference> {
    let (was, is) = (&old.plan.tags, &new.plan.tags);
    // Whose tags they are, and when events happen, matters to all of them.
    let of_all = old.fingerprints.get(TAGS).zip(new.fingerprints.get(TAGS));
    let of_all = of_all.map_or_else(Vec::new, |(was, is)| parts(was, is));
    let of_all = (!of_all.is_empty()).then_some(of_all.as_slice());
    each(Kind::Tag, was, is, of_all)
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
