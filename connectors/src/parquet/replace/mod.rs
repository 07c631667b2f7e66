//! Rows that replace published ones: a window that is emitted again is in the table once.
//!
//! Files are immutable. If the newest row of a window and key replaces one in a published file,
//! that file is rewritten in the same Hive folder. It then has the new row instead of the old one.
//! The commit that publishes the new file removes the old one.
//!
//! Rows are buffered in memory (`pending`) and, for crashes, in the state, as those of an open file
//! are, until their folder is due. A folder is rewritten once for all changes since the last time.
//! The sink remembers the published files with windows that may still be emitted again
//! (`published`), each by its name and the ends of its windows. So it reads back only files with an
//! affected window.
//!
//! All rows arrive at one lane. At a barrier every window behind the table's newest final one is
//! final on all lanes, which determines the settled files.
//!
//! The rows of `snapshot` are simpler: rows of a newer time replace all of them. Each lane writes
//! some of their folders.

mod files;
mod pending;
mod published;
mod revisions;
mod sink;
mod snapshot;

#[cfg(test)]
mod tests;

pub(super) use revisions::RevisionColumns;
pub(super) use sink::ReplacingSink;
pub(super) use snapshot::{Share, SnapshotSink};
