//! Restores from a checkpoint: checks that its state fits the graph, and assigns its rows to lanes.

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

use super::replay;
use crate::{
    Error, Priority, Result, blocking,
    commit::{Checkpoint, CommitLog, StateRef},
    graph::{Graph, NodeKind},
    operator::Operator,
    state::{KEY_GROUP_COLUMN, LaneState, Restore, StatePart, lane_of, part_number},
};

/// The number of state parts that a lane loads at the same time.
const CONCURRENT_LOADS: usize = 8;

/// The state of a checkpoint, loaded on demand: the whole state could exceed the memory.
pub(super) struct Restored<'a> {
    log: &'a CommitLog,
    lanes: usize,
    nodes: BTreeMap<String, Vec<StateRef>>,
}

/// The fingerprints of each node's state, by the node's name.
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

/// Checks that the graph can continue from `checkpoint`. `reset` names the state that may be
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
                if let Some(error) = changed_table(graph, node, seq) {
                    return Err(error);
                }
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

/// Why a sink cannot go on that has changed and that replaces rows of its table: without
/// its state they would be there twice. None where `node` is another one.
fn changed_table(graph: &Graph, node: &str, seq: u64) -> Option<Error> {
    let id = graph.ids().find(|id| *graph.node(*id).name == *node)?;
    match &graph.node(id).kind {
        NodeKind::Sink(sink) if sink.replaces() => Some(Error::config(format!(
            "`{node}` has changed, and its state in commit #{seq} no longer fits; undo the change, \
             or rewrite its table from its sources: {}",
            replay::rewrite_flags(graph, id)
        ))),
        _ => None,
    }
}

impl<'a> Restored<'a> {
    /// The state of `checkpoint`, if there is one, without the nodes in `reset`.
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

    /// Restores the state of `operator` on `lane`, if it has any.
    pub(super) async fn restore(
        &self,
        node: &str,
        lane: usize,
        lanes: Placement,
        mut operator: Box<dyn Operator>,
    ) -> Result<Box<dyn Operator>> {
        let parts = self.nodes.get(node).map_or(&[][..], Vec::as_slice);
        let kept = self.stays(parts, lanes);
        let is_mine = |part: &&StateRef| kept == Restore::Rescaled || part.lane == lane;
        let mine = parts.iter().filter(is_mine).cloned();
        let (mut alone, together): (Vec<_>, Vec<_>) =
            mine.partition(|part| operator.restores_alone(&part.key));
        alone.sort_by_key(|part| part_number(&part.key));
        let load = |parts: Vec<StateRef>| {
            let parts = parts.into_iter().map(move |part| async move {
                let part = self.load(part).await?;
                Ok::<_, Error>(match kept {
                    Restore::InPlace => part,
                    Restore::Rescaled => StatePart {
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
            operator = blocking(Priority::Normal, restore).await?;
        }
        let mut parts = pin!(load(alone));
        while let Some(part) = parts.try_next().await? {
            let restore = move || operator.restore_part(part, kept).map(|()| operator);
            operator = blocking(Priority::Normal, restore).await?;
        }
        Ok(operator)
    }

    /// The parts for `lane` of a sink. Each part belongs to one lane as a whole.
    pub(super) async fn of_sink(
        &self,
        node: &str,
        lane: usize,
        lanes: Placement,
    ) -> Result<Vec<StatePart>> {
        let parts = self.nodes.get(node).map_or(&[][..], Vec::as_slice);
        let kept = self.stays(parts, lanes);
        let is_mine = |(index, part): &(usize, &StateRef)| match kept {
            Restore::InPlace => part.lane == lane,
            Restore::Rescaled => index % lanes.node == lane,
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

    /// The parts of a node that stay in the state.
    pub(super) fn live(&self, node: &str, lanes: Placement) -> Vec<StateRef> {
        let Some(parts) = self.nodes.get(node) else {
            return Vec::new();
        };
        match self.stays(parts, lanes) {
            Restore::InPlace => parts.clone(),
            Restore::Rescaled => Vec::new(),
        }
    }

    fn stays(&self, parts: &[StateRef], lanes: Placement) -> Restore {
        if self.lanes == lanes.job && parts.iter().all(|part| part.lane < lanes.node) {
            Restore::InPlace
        } else {
            Restore::Rescaled
        }
    }
}

/// The number of lanes of the job and of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    pub(super) job: usize,
    pub(super) node: usize,
}

/// The rows whose key group `lane` owns, and the rows without a key group.
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
