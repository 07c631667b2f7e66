//! Columns that became non-nullable while state may contain nulls.

use std::collections::BTreeSet;

use serde_json::Value;
use tagflow_engine::{Error, Result};

use super::Version;

/// A source's column that lost its `?`.
pub(super) struct Tightened {
    source: String,
    column: String,
    /// The nodes whose state may hold nulls of the column.
    pub(super) nodes: BTreeSet<String>,
}

impl Tightened {
    /// The change as a detail of a node's difference.
    pub(super) fn detail(&self) -> String {
        format!("- nulls in `{}.{}`", self.source, self.column)
    }
}

/// The columns that lost their `?`, in sources that both versions have.
pub(super) fn tightened(old: &Version, new: &Version) -> Vec<Tightened> {
    let mut all = Vec::new();
    for (source, below) in &new.below {
        let of = |version: &Version| version.plan.pipeline["sources"][source]["columns"].clone();
        let (was, is) = (of(old), of(new));
        for (column, data_type) in columns(&was) {
            let strict = data_type.strip_suffix('?');
            if strict.is_some() && columns(&is).any(|it| Some(it.1) == strict && it.0 == column) {
                let nodes = below.iter().filter(|node| old.holds_state(node));
                all.push(Tightened {
                    source: source.clone(),
                    column: column.to_owned(),
                    nodes: nodes.cloned().collect(),
                });
            }
        }
    }
    all
}

/// The names and types of a plan's columns.
fn columns(all: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = all.as_array().into_iter().flatten();
    all.filter_map(|column| Some((column[0].as_str()?, column[1].as_str()?)))
}

/// Rejects a column that lost its `?` if state that continues may contain its nulls.
///
/// # Errors
/// `Config` where such state is not reset.
pub fn check_columns(old: &Version, new: &Version, reset: &BTreeSet<String>) -> Result<()> {
    for change in tightened(old, new) {
        let Tightened {
            source,
            column,
            nodes,
        } = &change;
        let mut kept = nodes.iter().filter(|node| !reset.contains(*node));
        if let Some(node) = kept.next()
            && !reset.contains(source)
        {
            return Err(Error::config(format!(
                "column `{column}` of source `{source}` had a `?` and has none, and the state of \
                 `{node}` may hold nulls of it; write the `?` again, or run with `--reset {node}` \
                 to drop its state (open windows, rows not yet published)"
            )));
        }
    }
    Ok(())
}
