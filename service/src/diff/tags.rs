//! Tags and segments of two versions.

use super::{
    difference::{Difference, Fate, Kind, each, names, parts, settings},
    version::{TAGS, Version},
};

/// The fate of each tag: its definition identifies its state, not its name.
pub(super) fn tags(old: &Version, new: &Version) -> Vec<Difference> {
    let (was, is) = (&old.plan.tags, &new.plan.tags);
    // The key and the event time affect all tags.
    let of_all = old.fingerprints.get(TAGS).zip(new.fingerprints.get(TAGS));
    let of_all = of_all.map_or_else(Vec::new, |(was, is)| parts(was, is));
    let of_all = (!of_all.is_empty()).then_some(of_all.as_slice());
    each(Kind::Tag, was, is, of_all)
}

/// The fate of each segment: its members stay until the new rule removes them.
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
