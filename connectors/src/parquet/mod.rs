//! The Parquet sink: rows become files in Hive folders on an object store.
//!
//! Writers wrap writers, each with one worry:
//!
//! | | worry |
//! | --- | --- |
//! | [`ParquetSinkFactory`] | one open file a partition, memory, cuts, state |
//! | `partition` | which rows belong to which Hive folder |
//! | `rolling` | when a partition's file is due |
//! | `carry` | rows of an open file that a crash must not lose |
//! | `writer` | one Parquet file: encoding and row groups |
//! | `staging` | its bytes on their way to the store, and their SHA-256 |
//! | `replace` | instead of the first and `rolling`: rows that replace published ones |
//!
//! **Closing a file is not publishing it.** Files are uploaded to the staging
//! folder under a unique name. A cut reports them, the commit log names them,
//! and only then does anybody copy them to where readers look. A file that no
//! commit names is deleted by recovery, so nothing here cleans up after an
//! error.
//!
//! **A checkpoint is not a file.** Commits come every few seconds and files
//! should be large, so a cut leaves young files open and hands over the rows
//! that it put into them since the cut before, as state. After a crash those
//! rows are written to new files, which the next cut finishes.

mod carry;
mod config;
mod footer;
mod layout;
mod partition;
mod replace;
mod rolling;
mod sink;
mod sort;
mod staging;
mod writer;

#[cfg(test)]
mod tests;

pub use config::{Compression, FileOptions, Newest, ParquetSinkConfig, PartitionColumn, Revisions};
pub use footer::footer_rows;
pub use sink::ParquetSinkFactory;
