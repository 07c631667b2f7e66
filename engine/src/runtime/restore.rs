//! Going on from a checkpoint: whether its state still fits the graph, and
//! which lane gets which rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::UInt8Type,
};
use futures::{StreamExt, TryStreamExt, future, stream};

use crate::{
    Error, Result, Urgency, blocking,
    commit::{Checkpoint, CommitLog, StateRef},
    graph::{Graph, NodeKind},
    operator::Operator,
    state::{KEY_GROUP_COLUMN, LaneState, Lanes, StatePart, lane_of, part_number},
};

/// How many state parts a lane loads at once.
const CONCURRENT_LOADS: usize = 8;

/// The state of a checkpoint, which is loaded as it is asked for: all of it at once could
/// be too much for memory.
pub(super) struct Restored<'a> {
    log: &'a CommitLog,
    lanes: usize,
    nodes: BTreeMap<String, Vec<StateRef>>,
}

/// What determines the meaning of each node's state, by the node's name.
pub fn fingerprints(graph: &Graph) -> BTreeMap<String, String> {
    let fingerprint = |kind: &NodeKind| match kind {
        NodeKind::Source(_) => None,
        NodeKind::Operator(operator) => operator.fingerprint.clone(),
        NodeKind::Sink(sink) => sink.fingerprint(),
    };
    let nodes = graph.nodes.iter();
    nodes
        .filter_map(|node| Some((node.name.to_string(), fingerprint(&node.kind)?)))
        .collect()
}

/// Checks that the graph can go on from `checkpoint`; `reset` names what may be
/// dropped.
pub(super) fn check(
    graph: &Graph,
    checkpoint: &Checkpoint,
    reset: &BTreeSet<String>,
) -> Result<()> {
    let seq = checkpoint.seq;
    let now = fingerprints(graph);
    let stateful: BTreeSet<&String> = checkpoint.state.iter().map(|part| &part.node).collect();
    for node in stateful.into_iter().filter(|node| !reset.contains(*node)) {
        match (now.get(node), checkpoint.fingerprints.get(node)) {
            (Some(now), Some(before)) if now == before => {}
            (Some(_), _) => {
                return Err(Error::config(format!(
                    "`{node}` has changed, and its state in commit #{seq} no longer fits; give it \
                     a new name to start it afresh, undo the change, or run with `--reset {node}` \
                     to drop its state (open windows, rows not yet published)"
                )));
            }
            (None, _) => {
                return Err(Error::config(format!(
                    "`{node}` is gone from the pipeline, but commit #{seq} holds state of it; put \
                     it back, or run with `--reset {node}` to drop that state (open windows, rows \
                     not yet published)"
                )));
            }
        }
    }
    for source in checkpoint
        .positions
        .keys()
        .filter(|source| !reset.contains(source.as_ref()))
    {
        let is_source = |kind: &NodeKind| matches!(kind, NodeKind::Source(_));
        if !graph
            .nodes
            .iter()
            .any(|node| node.name == *source && is_source(&node.kind))
        {
            return Err(Error::config(format!(
                "source `{source}` is gone from the pipeline, but commit #{seq} says how far it \
                 was read; put it back, or run with `--reset {source}` to forget that (under \
                 another name it is read from its start again)"
            )));
        }
    }
    Ok(())
}

impl<'a> Restored<'a> {
    /// The state of `checkpoint`, if there is one, but for the nodes in `reset`.
    pub(super) fn new(
        log: &'a CommitLog,
        checkpoint: Option<&Checkpoint>,
        reset: &BTreeSet<String>,
    ) -> Self {
        let mut nodes: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let parts = checkpoint.into_iter().flat_map(|last| &last.state);
        for part in parts.filter(|part| !reset.contains(&part.node)) {
            nodes
                .entry(part.node.clone())
                .or_default()
                .push(part.clone());
        }
        Self {
            log,
            lanes: checkpoint.map_or(0, |last| last.lanes),
            nodes,
        }
    }

    /// Gives `operator`, of `lane` of `lanes`, what it had, if it had anything.
    pub(super) async fn restore(
        &self,
        node: &str,
        lane: usize,
        lanes: Placement,
        mut operator: Box<dyn Operator>,
    ) -> Result<Box<dyn Operator>> {
        let parts = self.nodes.get(node).map_or(&[][..], Vec::as_slice);
        let kept = self.stays(parts, lanes);
        let is_mine = |part: &&StateRef| kept == Lanes::Changed || part.lane == lane;
        let mine = parts.iter().filter(is_mine).cloned();
        let (mut alone, together): (Vec<_>, Vec<_>) =
            mine.partition(|part| operator.restores_alone(&part.key));
        alone.sort_by_key(|part| part_number(&part.key));
        let load = |parts: Vec<StateRef>| {
            let parts = parts.into_iter().map(move |part| async move {
                let part = self.load(part).await?;
                Ok::<_, Error>(match kept {
                    Lanes::Same => part,
                    Lanes::Changed => StatePart {
                        rows: rows_of_lane(&part.rows, lane, lanes.node)?,
                        ..part
                    },
                })
            });
            let parts = stream::iter(parts).buffered(CONCURRENT_LOADS);
            parts.try_filter(|part| future::ready(part.rows.num_rows() > 0))
        };
        let parts: Vec<StatePart> = load(together).try_collect().await?;
        if !parts.is_empty() {
            let state = LaneState { parts, lanes: kept };
            let restore = move || operator.restore(state).map(|()| operator);
            operator = blocking(Urgency::Pressing, restore).await?;
        }
        let mut parts = pin!(load(alone));
        while let Some(part) = parts.try_next().await? {
            let restore = move || operator.restore_part(part, kept).map(|()| operator);
            operator = blocking(Urgency::Pressing, restore).await?;
        }
        Ok(operator)
    }

    /// What `lane` of a sink gets: each part goes to one lane, whole.
    pub(super) async fn of_sink(
        &self,
        node: &str,
        lane: usize,
        lanes: Placement,
    ) -> Result<Vec<StatePart>> {
        let parts = self.nodes.get(node).map_or(&[][..], Vec::as_slice);
        let kept = self.stays(parts, lanes);
        let is_mine = |(index, part): &(usize, &StateRef)| match kept {
            Lanes::Same => part.lane == lane,
            Lanes::Changed => index % lanes.node == lane,
        };
        let mine = parts.iter().enumerate().filter(is_mine);
        let mine: Vec<StateRef> = mine.map(|(_, part)| part.clone()).collect();
        stream::iter(mine.into_iter().map(|part| self.load(part)))
            .buffered(CONCURRENT_LOADS)
            .try_collect()
            .await
    }

    async fn load(&self, part: StateRef) -> Result<StatePart> {
        let rows = self.log.load(&part).await?;
        Ok(StatePart {
            key: part.key,
            rows,
        })
    }

    /// The parts of a node that stay in force.
    pub(super) fn in_force(&self, node: &str, lanes: Placement) -> Vec<StateRef> {
        let Some(parts) = self.nodes.get(node) else {
            return Vec::new();
        };
        match self.stays(parts, lanes) {
            Lanes::Same => parts.clone(),
            Lanes::Changed => Vec::new(),
        }
    }

    fn stays(&self, parts: &[StateRef], lanes: Placement) -> Lanes {
        if self.lanes == lanes.job && parts.iter().all(|part| part.lane < lanes.node) {
            Lanes::Same
        } else {
            Lanes::Changed
        }
    }
}

/// On how many lanes the job runs, and one node of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    pub(super) job: usize,
    pub(super) node: usize,
}

/// The rows whose key group `lane` owns, and those without one.
fn rows_of_lane(rows: &RecordBatch, lane: usize, lanes: usize) -> Result<RecordBatch> {
    let groups = rows
        .column_by_name(KEY_GROUP_COLUMN)
        .and_then(|column| Arc::clone(column).as_primitive_opt::<UInt8Type>().cloned())
        .ok_or_else(|| {
            Error::data(format!(
                "a state part lacks the column `{KEY_GROUP_COLUMN}`"
            ))
        })?;
    let mine: BooleanArray = (0..groups.len())
        .map(|row| Some(groups.is_null(row) || lane_of(groups.value(row), lanes) == lane))
        .collect();
    Ok(filter_record_batch(rows, &mine)?)
}
