//! Filter and projection.

use std::sync::Arc;

use arrow::{
    compute::{concat_batches, filter_record_batch},
    datatypes::{Schema, SchemaRef},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{
    Batch, Error, Port, Result,
    operator::{Operator, OperatorFactory, Output},
};

use crate::{
    expr::{Failure, can_fail, evaluate, holds},
    row_errors::{RowErrors, attempt},
};

/// How a [`factory`]'s operators process each row.
#[derive(Debug, Clone)]
pub struct MapSpec {
    /// A predicate: other rows are dropped, and counted as filtered.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The columns of the output, over the columns of the input.
    pub projection: Vec<(Arc<dyn PhysicalExpr>, String)>,
    /// The output: the projection's names and types.
    pub schema: SchemaRef,
    /// How to handle rows on which one of the expressions fails.
    pub errors: RowErrors,
}

impl MapSpec {
    /// Whether one of the expressions can fail on a row of `input`.
    pub fn can_fail(&self, input: &Schema) -> bool {
        let projection = self.projection.iter().map(|(expr, _)| expr);
        let mut all = projection.chain(&self.predicate);
        all.any(|expr| can_fail(expr, input))
    }
}

/// Operators that filter, then project, keeping each batch's origin. A projected
/// column reference copies nothing.
pub fn factory(spec: MapSpec) -> OperatorFactory {
    let spec = Arc::new(spec);
    Arc::new(move |lane| {
        Ok(Box::new(Map {
            node: Arc::clone(&lane.node),
            spec: Arc::clone(&spec),
        }))
    })
}

struct Map {
    node: Arc<str>,
    spec: Arc<MapSpec>,
}

impl Operator for Map {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let attempt = attempt(&batch.records, |rows| {
            let kept = self.filter(rows)?;
            self.project(&kept)
        })?;
        let mut parts = attempt.parts;
        let failed = attempt.failed.len();
        self.spec
            .errors
            .set_aside(&self.node, &batch.origin, &attempt.failed, out)?;
        let kept: usize = parts.iter().map(RecordBatch::num_rows).sum();
        out.filtered(&batch.origin, batch.num_rows() - kept - failed);
        if kept > 0 {
            let rows = match parts.pop() {
                Some(rows) if parts.is_empty() => rows,
                last => concat_batches(&self.spec.schema, parts.iter().chain(&last))?,
            };
            out.emit(batch.with_records(rows));
        }
        Ok(())
    }
}

impl Map {
    fn filter(&self, rows: &RecordBatch) -> Result<RecordBatch, Failure> {
        let Some(predicate) = &self.spec.predicate else {
            return Ok(rows.clone());
        };
        let keep = holds(predicate, rows)?;
        if keep.true_count() == rows.num_rows() {
            return Ok(rows.clone());
        }
        Ok(filter_record_batch(rows, &keep)?)
    }

    fn project(&self, rows: &RecordBatch) -> Result<RecordBatch, Failure> {
        let schema = Arc::clone(&self.spec.schema);
        if rows.num_rows() == 0 {
            // A constant may fail even if no row is read.
            return Ok(RecordBatch::new_empty(schema));
        }
        let columns = self
            .spec
            .projection
            .iter()
            .map(|(expr, _)| evaluate(expr, rows))
            .collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| {
            let message = format!("`{}` got a row that does not fit its columns", self.node);
            Error::data(message).with_source(error).into()
        })
    }
}

#[cfg(test)]
mod tests;
