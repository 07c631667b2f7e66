//! Proves that a log is complete and that the tables match it, from the log and from listings
//! alone.
//!
//! | subject | proof |
//! | --- | --- |
//! | [`Subject::Log`] | every slot after the collected ones contains a record with the written bytes, and each record follows the one that it names |
//! | [`Subject::Offsets`] | a commit starts at the end of the one before, and advances by at least the rows that it counts; positions decrease only where a record resets them |
//! | [`Subject::Rows`] | the conservation law, for each partition, each commit and all together |
//! | [`Subject::Tables`] | the files that commits name exist, with their bytes; removed files do not; no others do |
//! | [`Subject::State`] | the state that commits name exists, with its bytes |
//!
//! Old commits are collected, and their files stay. The last checkpoint has the number of all
//! published and removed files. If none was removed, it also has a sum of their hashes
//! ([`FileSet`](crate::files::FileSet)).
//!
//! [`History::read`] reads the log. The caller, which knows the location of the tables, then calls
//! [`History::check_table`](crate::files::audit) for each.

mod chain;
mod finding;
mod history;
mod state;

pub use finding::{Finding, Severity, Subject};
pub use history::{History, Span};
pub use state::AuditedState;

/// The depth of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Names and sizes.
    Sizes,
    /// Every byte of the objects that the log names.
    Bytes,
}

/// The number of objects to read at the same time if only sizes are compared.
const CONCURRENT_READS: usize = 64;

/// The number of objects to read at the same time if they may be large.
pub(crate) const CONCURRENT_DIGESTS: usize = 8;
