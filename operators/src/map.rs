//! Filter and projection.

use std::sync::Arc;

use arrow::{
    array::AsArray,
    compute::filter_record_batch,
    datatypes::SchemaRef,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{
    Batch, Error, Port, Result,
    operator::{Operator, OperatorFactory, Output},
};

use crate::expr::evaluate;

/// What a [`factory`]'s operators do to each row.
#[derive(Debug, Clone)]
pub struct MapSpec {
    /// Rows where this is not true are dropped, and counted as filtered.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The columns of the output, over the columns of the input.
    pub projection: Vec<(Arc<dyn PhysicalExpr>, String)>,
    /// The output: the projection's names and types.
    pub schema: SchemaRef,
}

/// Operators that filter, then project, keeping each batch's origin. A projected
/// column reference copies nothing.
///
/// # Errors
/// A row on which an expression fails is a `Data` error of the job.
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
        let kept = self.filter(&batch.records)?;
        out.filtered(&batch.origin, batch.num_rows() - kept.num_rows());
        if kept.num_rows() > 0 {
            out.emit(batch.with_records(self.project(&kept)?));
        }
        Ok(())
    }
}

impl Map {
    fn filter(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let Some(predicate) = &self.spec.predicate else {
            return Ok(rows.clone());
        };
        let keep = evaluate(&self.node, predicate, rows)?;
        let keep = keep.as_boolean_opt().ok_or_else(|| {
            Error::internal(format!("the filter of `{}` is not a condition", self.node))
        })?;
        // A null counts as false.
        if keep.true_count() == rows.num_rows() {
            return Ok(rows.clone());
        }
        Ok(filter_record_batch(rows, keep)?)
    }

    fn project(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self
            .spec
            .projection
            .iter()
            .map(|(expr, _)| evaluate(&self.node, expr, rows))
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let schema = Arc::clone(&self.spec.schema);
        RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| {
            Error::data(format!(
                "`{}` got a row that does not fit its columns",
                self.node
            ))
            .with_source(error)
        })
    }
}

#[cfg(test)]
mod tests;
