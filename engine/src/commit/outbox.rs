//! S9: hands the output of commits to the committers.

use std::{collections::BTreeMap, sync::Arc};

use object_store::path::Path;

use super::{
    identity::LogId,
    reader::LogReader,
    record::{Attempt, Checkpoint, Record},
};
use crate::{
    Error, EventTime, Result,
    committer::{Claim, Committable, Committer, Inspected, Output, Past, Unsealed},
};

/// The committer of each target.
pub type Committers = BTreeMap<Arc<str>, Box<dyn Committer>>;

/// The targets of a pipeline.
pub(super) struct Outbox {
    committers: Committers,
}

/// A draft of a commit's output.
pub(super) struct Draft {
    pub(super) outbox: BTreeMap<Arc<str>, Vec<Committable>>,
    pub(super) notes: Option<BTreeMap<Arc<str>, String>>,
}

/// The summary of the commits up to `last` to a target.
fn past<'a>(last: Option<&'a Checkpoint>, target: &str) -> Past<'a> {
    last.map_or(Past::Nothing, |last| last.past(target))
}

impl Outbox {
    pub(super) fn new(committers: Committers) -> Self {
        Self { committers }
    }

    /// Refuses targets that belong to another log. Writes nothing. `log` and `last` are `None` if
    /// the log does not exist yet.
    pub(super) async fn check(
        &mut self,
        log: Option<LogId>,
        last: Option<&Checkpoint>,
        state: &str,
    ) -> Result<()> {
        for (target, committer) in &mut self.committers {
            let inspected = Inspected {
                log,
                state,
                past: past(last, target),
            };
            committer.check(&inspected).await?;
        }
        Ok(())
    }

    /// Begins to deliver for the owner with the record `claim`. `commits` are those in the log.
    pub(super) async fn open(
        &mut self,
        log: &LogReader,
        id: LogId,
        claim: &Record,
        commits: &[Record],
        delivered_upto: u64,
    ) -> Result<()> {
        let (pipeline, state) = (log.paths.pipeline(), log.location());
        let staging: Path = log.paths.staging(id);
        for (target, committer) in &mut self.committers {
            let outputs = commits.iter().map(|commit| Output {
                seq: commit.seq,
                committables: commit.output(target).to_vec(),
            });
            let outputs: Vec<Output> = outputs.collect();
            let claim = Claim {
                log: id,
                seq: claim.seq,
                owner: &claim.owner,
                pipeline: &pipeline,
                state: &state,
                staging: &staging,
                past: past(claim.checkpoint.as_ref(), target),
                outputs: &outputs,
                delivered_upto,
            };
            committer.open(&claim).await?;
        }
        Ok(())
    }

    /// Completes the output of the commit `seq`.
    pub(super) fn seal(
        &mut self,
        seq: u64,
        attempt: Attempt,
        at: EventTime,
        last: Option<&Checkpoint>,
        mut output: BTreeMap<Arc<str>, Vec<Committable>>,
    ) -> Result<Draft> {
        // The notes of targets without a sink stay.
        let mut notes = last.map_or_else(|| Some(BTreeMap::new()), |last| last.notes.clone());
        let mut outbox = BTreeMap::new();
        for (target, committer) in &mut self.committers {
            let sealed = committer.seal(Unsealed {
                seq,
                attempt,
                at,
                past: past(last, target),
                committables: output.remove(target).unwrap_or_default(),
            })?;
            if !sealed.committables.is_empty() {
                outbox.insert(Arc::clone(target), sealed.committables);
            }
            if let Some(note) = sealed.note {
                notes
                    .get_or_insert_default()
                    .insert(Arc::clone(target), note);
            }
        }
        match output.into_keys().next() {
            Some(target) => Err(Error::internal(format!(
                "output was prepared for `{target}`, which has no committer"
            ))),
            None => Ok(Draft { outbox, notes }),
        }
    }

    /// Delivers the output of a commit.
    pub(super) async fn deliver(&mut self, commit: &Record) -> Result<()> {
        let seq = commit.seq;
        for (target, output) in &commit.outbox {
            let Some(committer) = self.committers.get_mut(target) else {
                return Err(Error::config(format!(
                    "commit #{seq} has yet to publish files to `{target}`, and no sink writes there any more; run the pipeline once with that sink"
                )));
            };
            committer.commit(seq, output).await?;
        }
        Ok(())
    }

    /// Deletes everything that earlier owners staged and no record names.
    pub(super) async fn sweep(&mut self) -> Result<()> {
        let mut swept = Ok(());
        for committer in self.committers.values_mut() {
            swept = swept.and(committer.sweep().await);
        }
        swept
    }

    /// Committables that withdraw everything delivered to a target.
    pub(super) async fn withdraw(&mut self, target: &str) -> Result<Vec<Committable>> {
        match self.committers.get_mut(target) {
            Some(committer) => committer.withdraw().await,
            None => Ok(Vec::new()),
        }
    }
}
