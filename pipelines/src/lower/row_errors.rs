//! The target of rows on which an expression fails.

use std::{collections::BTreeMap, sync::Arc};

use tagflow_engine::{
    Port,
    graph::{NodeId, NodeKind, OnError},
};
use tagflow_operators::row_errors::{DeadLetterPolicy, RowErrors};

use super::{Lowering, flow::Flow, sources};

impl Lowering<'_> {
    /// How to treat rows of `flow` on which an expression of the next node fails. They become dead
    /// letters, unless all its sources are set to stop the job.
    pub(super) fn row_errors(&self, flow: &Flow) -> RowErrors {
        let on_error = self.on_error(&flow.ends);
        let is_any_set_aside = on_error.values().any(|it| *it == OnError::DeadLetter);
        let policy = DeadLetterPolicy {
            pipeline: Arc::clone(&self.pipeline),
            clock: Arc::clone(&self.options.clock),
            on_error,
        };
        RowErrors {
            dead_letters: is_any_set_aside.then_some(policy),
            personal: flow.personal.clone(),
        }
    }

    /// Connects `node`, which treats failing rows by `errors`, with the dead letters.
    pub(super) fn rejects(&mut self, node: NodeId, errors: &RowErrors) {
        if errors.dead_letters.is_some() {
            self.rejecting.push((node, Port::DEAD_LETTERS));
        }
    }

    /// The sources that `nodes` read, directly or not, with their setting for bad rows.
    fn on_error(&self, nodes: &[NodeId]) -> BTreeMap<Arc<str>, OnError> {
        let mut found = BTreeMap::new();
        let mut seen = vec![false; self.graph.nodes.len()];
        let mut next = nodes.to_vec();
        while let Some(id) = next.pop() {
            if std::mem::replace(&mut seen[id.0], true) {
                continue;
            }
            let node = self.graph.node(id);
            if let (NodeKind::Source(_), Some(source)) =
                (&node.kind, self.spec.sources.get(&node.name))
            {
                found.insert(Arc::clone(&node.name), sources::on_error(source));
            }
            next.extend(self.graph.inputs(id).map(|edge| edge.from));
        }
        found
    }
}
