//! S9: hands the output of commits to the committers.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use object_store::path::Path;

use super::{
    attempt::Attempt,
    delivery::Delivery,
    identity::LogId,
    reader::LogReader,
    record::{Checkpoint, Record},
};
use crate::{
    Error, EventTime, Result,
    committer::{Claim, Committable, Committer, Inspected, Output, Past, Unsealed},
};

/// The committer of each target.
pub type Committers = BTreeMap<Arc<str>, Box<dyn Committer>>;

/// The targets of a pipeline.
pub(super) struct Outbox {
    targets: BTreeMap<Arc<str>, Arc<Delivery>>,
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
        let delivery = |(target, committer): (Arc<str>, _)| {
            let delivery = Delivery::new(Arc::clone(&target), committer);
            (target, Arc::new(delivery))
        };
        Self {
            targets: committers.into_iter().map(delivery).collect(),
        }
    }

    /// The deliveries of all targets.
    pub(super) fn deliveries(&self) -> impl Iterator<Item = &Arc<Delivery>> {
        self.targets.values()
    }

    /// Refuses targets that belong to another log. Writes nothing. `log` and `last` are `None` if
    /// the log does not exist yet.
    pub(super) async fn check(
        &self,
        log: Option<LogId>,
        last: Option<&Checkpoint>,
        state: &str,
    ) -> Result<()> {
        for (target, delivery) in &self.targets {
            let inspected = Inspected {
                log,
                state,
                past: past(last, target),
            };
            delivery.committer.check(&inspected).await?;
        }
        Ok(())
    }

    /// Begins to deliver for the owner with the record `claim`. `commits` are those in the log.
    pub(super) async fn open(
        &self,
        log: &LogReader,
        id: LogId,
        claim: &Record,
        commits: &[Record],
        delivered_upto: u64,
    ) -> Result<()> {
        let (pipeline, state) = (log.paths.pipeline(), log.location());
        let staging: Path = log.paths.staging(id);
        for (target, delivery) in &self.targets {
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
            delivery.committer.open(&claim).await?;
            delivery.begin(delivered_upto);
        }
        Ok(())
    }

    /// Completes the output of the commit `seq`.
    pub(super) fn seal(
        &self,
        seq: u64,
        attempt: Attempt,
        at: EventTime,
        last: Option<&Checkpoint>,
        mut output: BTreeMap<Arc<str>, Vec<Committable>>,
    ) -> Result<Draft> {
        // The notes of targets without a sink stay.
        let mut notes = last.map_or_else(|| Some(BTreeMap::new()), |last| last.notes.clone());
        let mut outbox = BTreeMap::new();
        for (target, delivery) in &self.targets {
            let sealed = delivery.committer.seal(Unsealed {
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

    /// Adds a commit to the deliveries of its targets.
    pub(super) fn push(&self, commit: &Record) -> Result<()> {
        let mut targets = commit.outbox.keys();
        if let Some(target) = targets.find(|target| !self.targets.contains_key(*target)) {
            return Err(Error::config(format!(
                "commit #{} has yet to publish files to `{target}`, and no sink writes there any more; run the pipeline once with that sink",
                commit.seq
            )));
        }
        for (target, delivery) in &self.targets {
            delivery.push(commit.seq, commit.at, commit.output(target));
        }
        Ok(())
    }

    /// Tries to deliver all output of all targets.
    pub(super) async fn deliver(&self) -> Result<()> {
        let deliveries = self.targets.values().map(|delivery| delivery.deliver());
        join_all(deliveries).await.into_iter().collect()
    }

    /// The first commit that a target does not have.
    pub(super) fn first_pending(&self) -> Option<u64> {
        let pending = self.targets.values();
        pending
            .filter_map(|delivery| delivery.first_pending())
            .min()
    }

    /// Deletes everything that earlier owners staged and no record names.
    pub(super) async fn sweep(&self) -> Result<()> {
        let mut swept = Ok(());
        for delivery in self.targets.values() {
            swept = swept.and(delivery.committer.sweep().await);
        }
        swept
    }

    /// Committables that withdraw everything delivered to a target, and delivers the rest before.
    pub(super) async fn withdraw(&self, target: &str) -> Result<Vec<Committable>> {
        match self.targets.get(target) {
            Some(delivery) => {
                delivery.deliver().await?;
                delivery.committer.withdraw().await
            }
            None => Ok(Vec::new()),
        }
    }
}
