//! The operators of a windowed aggregation.

use std::sync::Arc;

use tagflow_engine::{
    Result,
    operator::{Operator, OperatorFactory},
};

use super::{
    finalize::Finalize,
    partial::Partial,
    session::Sessions,
    spec::{Aggregation, AggregationSpec},
    table::Table,
    updating::Updating,
    windows::Windows,
};

impl Aggregation {
    /// Checks `spec` and derives the columns between the stages.
    ///
    /// # Errors
    /// `Config` if the event time is not a UTC timestamp in microseconds, if the windows are
    /// invalid, or if an aggregate cannot be created.
    pub fn new(spec: AggregationSpec) -> Result<Arc<Self>> {
        let aggregation = Self::checked(spec)?;
        Table::new(&aggregation)?;
        Ok(Arc::new(aggregation))
    }

    /// The stage before the exchange.
    pub fn partial(self: &Arc<Self>) -> OperatorFactory {
        let aggregation = Arc::clone(self);
        Arc::new(move |context| {
            let aggregation = Arc::clone(&aggregation);
            Ok(Box::new(Partial::new(aggregation, context)?))
        })
    }

    /// The stage after the exchange.
    pub fn finalize(self: &Arc<Self>) -> OperatorFactory {
        let aggregation = Arc::clone(self);
        Arc::new(move |_| {
            let aggregation = Arc::clone(&aggregation);
            let spec = &aggregation.spec;
            let stage: Box<dyn Operator> = match (spec.emission.ttl, &spec.windows) {
                (Some(ttl), _) => Box::new(Updating::new(aggregation, ttl)?),
                (None, &Windows::Session { gap }) => Box::new(Sessions::new(aggregation, gap)?),
                (None, _) => Box::new(Finalize::new(aggregation)?),
            };
            Ok(stage)
        })
    }
}
