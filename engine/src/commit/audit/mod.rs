//! Proves that a log is whole and that the tables hold what it says, from the
//! log, from listings, and from nothing else.
//!
//! | what | how it is proved |
//! | --- | --- |
//! | [`Subject::Log`] | every slot after the collected ones holds a record that is byte for byte what was written, after the one that it says it follows |
//! | [`Subject::Offsets`] | a commit goes on where the one before ended, by at least the rows that it counts; positions go back only where a record says that they were reset |
//! | [`Subject::Rows`] | the conservation law, for each partition, each commit and all together |
//! | [`Subject::Tables`] | the files that commits name are there, with their bytes; those that they remove are not; no others are |
//! | [`Subject::State`] | the state that commits name is there, with its bytes |
//!
//! Old commits are collected, and their files stay. What proves those is that
//! the last checkpoint says how many files were published and removed in all, and,
//! where none was removed, a sum of their hashes ([`FileSet`](super::FileSet)).
//!
//! [`History::read`] reads the log. Whoever knows where the tables lie then asks
//! for [`History::check_table`] one by one.

mod chain;
mod finding;
mod history;
mod state;
mod table;

pub use finding::{Finding, Severity, Subject};
pub use history::{History, Span};
pub use state::AuditedState;
pub use table::{AuditedTable, Place, VisibleFile};

/// How far an audit looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// At names and sizes.
    Sizes,
    /// At every byte of what the log names.
    Bytes,
}

/// How many objects are read at once where only sizes are compared.
const CONCURRENT_READS: usize = 64;

/// How many objects are read at once where they may be large.
const CONCURRENT_DIGESTS: usize = 8;
