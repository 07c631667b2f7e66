//! Tables of files: the committer for sinks that write files to a folder.
//!
//! A sink stages finished files in the folder `_staging` of the table, under unique names, and
//! prepares a [`Change`] for each. The committer copies the committed files to where readers look,
//! then deletes the staged ones, then the files that they replace. Every process that repeats a
//! step does the same: the record fixes names and bytes.
//!
//! | | task |
//! | --- | --- |
//! | `change` | the committables, and the names of files |
//! | `committer` | copies and deletes |
//! | `marker` | which log owns the table |
//! | `ghosts` | replaced files that a late copy may restore |
//! | `totals`, `file_set` | the expected files after their commits are collected |
//! | [`audit`] | whether the folder contains the files of commits, and nothing else |
//!
//! ```text
//! <table>/_tagflow.json                              the log that owns the table
//! <table>/_staging/<pipeline>/<task>/<log>/<claim>/<uuid>  finished files, not yet visible
//! <table>/<folder>/<task>-<log>-<seq>-<n>-<uuid8>.<suffix>  visible after the commit
//! <table>/<folder>/<log>-<name>.<suffix>             the same; a later commit may remove it
//! ```
//!
//! The module is part of the engine, and not of a connector, so that the simulation and the tests
//! of the commit log run it: they cover each crash and each fault of a store.

pub mod audit;
mod change;
mod committer;
mod file_set;
mod ghosts;
mod marker;
mod place;
mod totals;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use object_store::{ObjectStore, path::Path};

pub use change::{
    Change, CommittedFile, PreparedFiles, RemovedFile, StagedFile, changes, prepared,
};
pub use committer::FileCommitter;
pub use file_set::{FileSet, FileSets};
pub use ghosts::Ghost;
pub use marker::MARKER;
pub use totals::{Note, TableTotals};

use crate::commit::paths;

/// The staging folder in a table's folder. Each pipeline has a subfolder of its name.
pub const STAGING: &str = "_staging";

/// A folder of files on an object store.
#[derive(Debug, Clone)]
pub struct Table {
    /// The name for queries: the sink's name.
    pub name: Arc<str>,
    /// The URL as configured, without credentials. Commit records name the table by it.
    pub url: Arc<str>,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The table's folder in the store.
    pub root: Path,
    /// The columns of the rows, with the partition columns.
    pub schema: SchemaRef,
    /// Whether other commit logs may write there too.
    pub shared: bool,
    /// The suffix of its files, without a dot.
    pub suffix: &'static str,
}

impl Table {
    /// A fingerprint of the URL and the columns.
    pub fn fingerprint(&self) -> String {
        let fields = self.schema.fields().iter();
        let fields = fields.map(|field| format!("{} {}", field.name(), field.data_type()));
        format!("{}: {}", self.url, fields.collect::<Vec<_>>().join(", "))
    }
}

/// Whether readers that search a table for files with `suffix` read this one. The path is relative
/// to the table's folder.
fn is_visible(inside: &str, suffix: &str) -> bool {
    let is_hidden = |part: &str| part.starts_with(['_', '.']);
    has_suffix(inside, suffix) && !inside.split('/').any(is_hidden)
}

fn has_suffix(inside: &str, suffix: &str) -> bool {
    let stem = inside.strip_suffix(suffix);
    stem.is_some_and(|stem| stem.ends_with('.'))
}
