//! Rows that take the place of published ones: a window that comes out again is
//! in the table once.
//!
//! Files are never changed. Where the newest row of a window and key is to
//! replace one in a published file, that file is written anew without the old
//! row and with the new one, in the same Hive folder; the commit that publishes
//! the new file removes the old one.
//!
//! Rows wait in memory (`pending`) and, for crashes, in the state, as those of
//! an open file do, until their folder is due: a folder is rewritten once for
//! all that changed in it since. Of what is published, the sink remembers the
//! files with windows that may still come out again (`published`), each by its
//! name and the ends of its windows, so that only files with a window in
//! question are read back.
//!
//! All rows come to one lane. At a barrier every window behind the table's
//! newest final one is final on all lanes, so then it is known which files have
//! settled.
//!
//! Simpler are the rows of `snapshot`, all of which give way to those of a newer
//! time. Each lane writes some of their folders.

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
