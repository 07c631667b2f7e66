//! Aggregates and measures of two versions.

use std::collections::BTreeMap;

use super::{
    difference::{Difference, Fate, Kind, each, parts},
    version::Version,
};

/// The fate of each measure of a block, given the fate of the block.
pub(super) fn measures(name: &str, block: Fate, old: &Version, new: &Version) -> Vec<Difference> {
    if [Fate::Added, Fate::Removed].contains(&block) {
        return Vec::new();
    }
    let (was, is) = (of(name, old), of(name, new));
    let all_anew = old
        .nodes_of(name)
        .any(|node| old.fingerprints.get(node) != new.fingerprints.get(node));
    let of_all: Option<&[String]> = all_anew.then_some(&[]);
    let mut measures = each(Kind::Measure, &was, &is, of_all);
    for measure in &mut measures {
        measure.name = format!("{name}.{}", measure.name);
    }
    measures
}

/// The aggregates of a query that are added, removed or changed.
pub(super) fn details(name: &str, old: &Version, new: &Version) -> Vec<String> {
    let (was, is) = (of(name, old), of(name, new));
    let mut details = Vec::new();
    for name in was.keys().filter(|name| !is.contains_key(*name)) {
        details.push(format!("- {name}"));
    }
    for (name, is) in &is {
        match was.get(name) {
            Some(was) => details.extend(parts(was, is)),
            None => details.push(format!("+ {name}, starts from now")),
        }
    }
    details
}

/// Whether no aggregate of a node is kept: then its state is empty.
pub(super) fn begin_anew(node: &str, old: &Version, new: &Version) -> bool {
    let Some(is) = new.plan.aggregates.get(node).filter(|is| !is.is_empty()) else {
        return false;
    };
    let was = old.plan.aggregates.get(node);
    let is_known = |is: &String| was.is_some_and(|was| was.values().any(|was| was == is));
    !is.values().any(is_known)
}

/// The aggregates of all nodes of a relation.
fn of(name: &str, version: &Version) -> BTreeMap<String, String> {
    let nodes = version.nodes_of(name);
    let aggregates = nodes.filter_map(|node| version.plan.aggregates.get(node));
    aggregates
        .flatten()
        .map(|(name, definition)| (name.clone(), definition.clone()))
        .collect()
}
