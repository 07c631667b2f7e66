//! The Parquet sink: it writes rows to files in Hive folders on an object store.
//!
//! Writers wrap writers, each with one task:
//!
//! | | task |
//! | --- | --- |
//! | [`ParquetSinkFactory`] | one open file a partition, memory, cuts, state |
//! | `partition` | which rows belong to which Hive folder; `folder` names it |
//! | `rolling` | when a partition's file is due |
//! | `unflushed` | rows of an open file that a crash must not lose |
//! | `writer` | one Parquet file: encoding and row groups |
//! | `staging` | the upload to the store, and the SHA-256 |
//! | `replace` | instead of the first and `rolling`: rows that replace published ones |
//!
//! **Closing a file is not publishing it.** Files are uploaded to the staging folder under a unique
//! name. A cut reports them, the commit log names them, and only then are they copied to where
//! readers look. Recovery deletes files that no commit names, so this module cleans up nothing
//! after an error.
//!
//! **A checkpoint is not a file.** Commits happen every few seconds and files should be large. So a
//! cut leaves young files open, and returns their rows since the cut before as state. After a crash
//! those rows are written to new files, which the next cut finishes.

mod block;
mod config;
mod factory;
mod folder;
mod footer;
mod layout;
mod partition;
mod replace;
mod rolling;
mod sink;
mod sort;
mod staging;
mod unflushed;
mod writer;

#[cfg(test)]
mod tests;

pub use block::{PROFILE_EVERY, ParquetConfig, ParquetFiles, WriteMode};
pub use config::{Compression, FileOptions, Newest, ParquetSinkConfig, PartitionColumn, Revisions};
pub use factory::ParquetSinkFactory;
pub use folder::FolderValue;
pub use footer::{first_value, footer_rows};
