//! The checks and connections that can fail before a job claims the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{checkpoint::Output, job_config::JobConfig, replay::Replay, restore};
use crate::{
    Result,
    commit::{Checkpoint, CommitLog, Recovered, Unclaimed},
    graph::{Graph, NodeKind},
    source::{Positions, Source, SourceReader, Systems},
};

/// A claimed log, and the sources that were opened before the claim.
pub(super) struct Claimed {
    pub(super) log: CommitLog,
    pub(super) recovered: Recovered,
    pub(super) readers: Readers,
    /// Withdrawals for the first commit, because the rows are read again.
    pub(super) withdrawn: Output,
}

/// Open sources, with the positions at which they were opened.
#[derive(Default)]
pub(super) struct Readers(BTreeMap<Arc<str>, (Start, Box<dyn SourceReader>)>);

/// Where a source begins in this run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) positions: Positions,
    /// The systems that the positions belong to.
    pub(super) systems: Systems,
}

impl Start {
    async fn open(&self, source: &dyn Source) -> Result<Box<dyn SourceReader>> {
        source.open_in(&self.positions, &self.systems).await
    }
}

/// Checks that `graph` can continue from the last commit, and returns the state to drop.
///
/// # Errors
/// `Config` if it cannot, or if rows would count twice.
pub(super) fn check(graph: &Graph, config: &JobConfig, log: &Unclaimed) -> Result<Replay> {
    let last = log.checkpoint();
    let replay = Replay::of(graph, last, &config.reset, config.old_files)?;
    if let Some(last) = last {
        restore::check(graph, last, &replay.reset)?;
    }
    Ok(replay)
}

impl Claimed {
    /// Claims the log after every step that can fail without the claim. A run that cannot start
    /// does not affect the owner of the log.
    ///
    /// Loads the lookup tables and opens the sources at the last commit.
    ///
    /// # Errors
    /// Those of a source, a table or the log.
    pub(super) async fn claim(graph: &Graph, replay: &Replay, log: Unclaimed) -> Result<Self> {
        let last = log.checkpoint();
        for input in &graph.side_inputs {
            input.load().await?;
        }
        let mut readers = Readers::default();
        for node in &graph.nodes {
            if let NodeKind::Source(source) = &node.kind {
                let start = start(last, &node.name, &replay.reset);
                let reader = start.open(source.source.as_ref()).await?;
                readers.0.insert(Arc::clone(&node.name), (start, reader));
            }
        }
        let (log, recovered) = log.claim().await?;
        let mut withdrawn = Output::new();
        for target in &replay.tables {
            let committables = log.withdraw(target).await?;
            if !committables.is_empty() {
                withdrawn.insert(Arc::clone(target), committables);
            }
        }
        Ok(Self {
            log,
            recovered,
            readers,
            withdrawn,
        })
    }
}

impl Readers {
    /// The reader of a source at `start`. If the previous owner has committed since the source
    /// was opened, it is opened again.
    pub(super) async fn take(
        &mut self,
        name: &str,
        source: &dyn Source,
        start: &Start,
    ) -> Result<Box<dyn SourceReader>> {
        match self.0.remove(name) {
            Some((opened_at, reader)) if opened_at == *start => Ok(reader),
            _ => start.open(source).await,
        }
    }
}

/// The positions from which a source continues.
fn start(last: Option<&Checkpoint>, source: &str, reset: &BTreeSet<String>) -> Start {
    let Some(last) = last.filter(|_| !reset.contains(source)) else {
        return Start::default();
    };
    Start {
        positions: last.positions.get(source).cloned().unwrap_or_default(),
        systems: last.systems.get(source).cloned().unwrap_or_default(),
    }
}
