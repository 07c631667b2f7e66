//! The operator of a step.

use std::sync::Arc;

use tagflow_engine::operator::OperatorFactory;

use super::{sorted_process::SortedProcess, spec::Ordered};

impl Ordered {
    /// The operator of one lane.
    pub fn factory(self: &Arc<Self>) -> OperatorFactory {
        let ordered = Arc::clone(self);
        Arc::new(move |_| Ok(Box::new(SortedProcess::new(Arc::clone(&ordered))?)))
    }
}
