//! Committers deliver the output of commits to the outside.
//!
//! A sink prepares its output before the commit: it stages objects, and describes each in a small
//! [`Committable`]. The record of the commit names the committables. That one write decides: the
//! output counts if the record exists, and only then. A [`Committer`] delivers it afterwards.
//!
//! ```
//! use std::{collections::BTreeMap, sync::{Arc, Mutex}};
//! use async_trait::async_trait;
//! use tagflow_engine::{
//!     Result,
//!     committer::{Committable, Committer, Receipt},
//! };
//!
//! /// A database with one row for each commit.
//! #[derive(Clone, Default)]
//! struct Database(Arc<Mutex<BTreeMap<u64, Vec<String>>>>);
//!
//! #[async_trait]
//! impl Committer for Database {
//!     async fn commit(&self, seq: u64, output: &[Committable]) -> Result<Receipt> {
//!         let mut commits = self.0.lock().expect("no thread panics");
//!         if commits.keys().next_back().is_some_and(|last| *last >= seq) {
//!             return Ok(Receipt::Repeated);
//!         }
//!         let rows = output.iter().map(|row| row.content.clone());
//!         commits.insert(seq, rows.collect());
//!         Ok(Receipt::Delivered)
//!     }
//!
//!     async fn last_committed(&self) -> Result<Option<u64>> {
//!         let commits = self.0.lock().expect("no thread panics");
//!         Ok(commits.keys().next_back().copied())
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let database = Database::default();
//! let row = Committable { rows: 1, bytes: 3, content: "abc".to_owned() };
//! let row = [row];
//! assert_eq!(database.commit(2, &row).await?, Receipt::Delivered);
//! // After a crash, the same commit is delivered again.
//! assert_eq!(database.commit(2, &row).await?, Receipt::Repeated);
//! assert_eq!(database.last_committed().await?, Some(2));
//! # Ok::<(), tagflow_engine::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::{
    Clock, EventTime, Result,
    commit::{Attempt, LogId, Owner},
};

/// A part of a sink's output, as a record names it. The engine never reads `content`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committable {
    /// The rows that it delivers.
    pub rows: u64,
    /// The bytes that are staged for it.
    pub bytes: u64,
    /// A short text for the committer, such as the name of a staged object in JSON. It contains no
    /// secret: records are stored.
    pub content: String,
}

/// The output of a commit for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The number of the commit.
    pub seq: u64,
    /// Its output, in the order of the record.
    pub committables: Vec<Committable>,
}

/// The undelivered output at which a pipeline stops reading, until its target has less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryBounds {
    /// The number of commits.
    pub max_pending_commits: u64,
    /// The bytes that are staged for them.
    pub max_pending_bytes: u64,
}

impl Default for DeliveryBounds {
    fn default() -> Self {
        Self {
            max_pending_commits: 64,
            max_pending_bytes: 1 << 30,
        }
    }
}

/// The result of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Receipt {
    /// The outside has the output now.
    Delivered,
    /// The outside had the output before this call.
    Repeated,
}

/// Delivers the output of commits to one *target*: a table, a database, a topic.
///
/// **Calls.** [`check`](Self::check) before the log is claimed, and [`open`](Self::open) after it.
/// Then [`commit`](Self::commit) once for each commit with output for the target, in ascending
/// order, beginning with the commits that earlier owners may not have delivered. A commit is
/// repeated until it succeeds. [`sweep`](Self::sweep) follows the first deliveries.
/// [`seal`](Self::seal) is called before each commit, maybe while an older one is delivered.
///
/// **Guarantee.** Only output that a record names is delivered. All of it is delivered at least
/// once. The committer makes that exactly once: a commit that the outside has, or an older one,
/// changes nothing.
///
/// **Failure.** An error that is retryable repeats the call after a pause, in this process or the
/// next. Other targets do not wait for it. Another error stops the pipeline. A process that was
/// replaced may still deliver a commit, at the same time as its successor or later. It delivers the
/// bytes that the record fixes, so that does no harm.
#[async_trait]
pub trait Committer: Send + Sync {
    /// Makes the output of commit `seq` visible outside.
    ///
    /// # Errors
    /// `External` if the outside fails; `Data` if staged output is missing or damaged.
    async fn commit(&self, seq: u64, output: &[Committable]) -> Result<Receipt>;

    /// The last commit that the outside has; `None` if it has none or cannot be asked.
    ///
    /// # Errors
    /// `External` if the outside fails.
    async fn last_committed(&self) -> Result<Option<u64>>;

    /// Refuses a target that belongs to another log. Writes nothing.
    ///
    /// # Errors
    /// `Config` if the target is another log's; `External` if the outside fails.
    async fn check(&self, _log: &Inspected<'_>) -> Result<()> {
        Ok(())
    }

    /// Begins to deliver for the owner of the log.
    ///
    /// # Errors
    /// `Config` if the target belongs to another log by now; `External` if the outside fails.
    async fn open(&self, _claim: &Claim<'_>) -> Result<()> {
        Ok(())
    }

    /// Completes the output of a commit that is about to be written. Does no I/O. The commit takes
    /// effect if its record is written, and may never do so. Called for each commit, also if it has
    /// no output for the target.
    ///
    /// # Errors
    /// `Internal` if the committables are not of this target's sink.
    fn seal(&self, unsealed: Unsealed<'_>) -> Result<Sealed> {
        Ok(Sealed {
            committables: unsealed.committables,
            note: None,
        })
    }

    /// Deletes everything that earlier owners staged and no record names. An error costs only
    /// space.
    ///
    /// # Errors
    /// `External` if a store fails.
    async fn sweep(&self) -> Result<()> {
        Ok(())
    }

    /// Committables that withdraw everything delivered so far, for a commit that replaces it.
    ///
    /// # Errors
    /// `External` if the outside fails.
    async fn withdraw(&self) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }
}

/// The dependencies of a committer.
#[derive(Clone)]
pub struct CommitterContext {
    /// The task that commits.
    pub task: Arc<str>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// The folders of all tables of the pipeline. One may be inside another.
    pub folders: Vec<Path>,
}

/// A log that is not claimed yet.
#[derive(Debug, Clone, Copy)]
pub struct Inspected<'a> {
    /// Its identity; `None` if it does not exist.
    pub log: Option<LogId>,
    /// The location of the pipeline's state, for messages.
    pub state: &'a str,
    /// The commits so far.
    pub past: Past<'a>,
}

/// A log that this process has claimed.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Its identity.
    pub log: LogId,
    /// The slot of the claim.
    pub seq: u64,
    /// This process.
    pub owner: &'a Owner,
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The location of its state, for messages.
    pub state: &'a str,
    /// The folder of the objects that owners of this log have staged, each under its claim's
    /// number. Relative to the target's folder.
    pub staging: &'a Path,
    /// The commits so far.
    pub past: Past<'a>,
    /// The output of the last commits, oldest first. Older commits are delivered and collected.
    pub outputs: &'a [Output],
    /// Every commit up to here is delivered. Others may be, too.
    pub delivered_upto: u64,
}

/// The summary of all earlier commits to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past<'a> {
    /// No commit had output for the target.
    Nothing,
    /// The log began with a build that kept no summary.
    Unknown,
    /// The note of the last commit.
    Note(&'a str),
}

/// The output of a commit whose record is about to be written.
#[derive(Debug)]
pub struct Unsealed<'a> {
    /// The slot of the commit.
    pub seq: u64,
    /// The attempt to write it.
    pub attempt: Attempt,
    /// The time of the attempt.
    pub at: EventTime,
    /// The commits before it.
    pub past: Past<'a>,
    /// The output of the target's sink, from all lanes.
    pub committables: Vec<Committable>,
}

/// The output of a commit as its record contains it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// The committables.
    pub committables: Vec<Committable>,
    /// A summary of this commit and all earlier ones, if the committer needs one. Old commits are
    /// collected, and the next committer begins with this note.
    pub note: Option<String>,
}
