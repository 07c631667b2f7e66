//! Rows joined with the row of a table that has their key.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array},
    compute::{filter, filter_record_batch, is_not_null, not, nullif, take},
    datatypes::{Schema, SchemaRef},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{
    Batch, Port, Result,
    operator::{Operator, OperatorFactory, Output},
};

use super::{CurrentDimension, Dimension};
use crate::{
    expr::{Failure, can_fail, evaluate, holds},
    row_errors::{RowErrors, attempt},
};

/// How rows are looked up.
#[derive(Debug, Clone)]
pub struct LookupSpec {
    /// The table.
    pub dimension: CurrentDimension,
    /// The table's key, computed from an input row. A null in it matches nothing.
    pub key: Vec<Arc<dyn PhysicalExpr>>,
    /// A condition over an input row and all columns of the table. A match counts only
    /// where it is true.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// How to handle a row without a match.
    pub missing: Missing,
    /// The columns of the input that precede those of the table.
    pub before: Vec<usize>,
    /// The columns of the table that follow.
    pub found: Vec<usize>,
    /// The columns of the input that are last.
    pub after: Vec<usize>,
    /// The output.
    pub schema: SchemaRef,
    /// How to handle rows on which a key or the condition fails.
    pub errors: RowErrors,
}

impl LookupSpec {
    /// Whether a key can fail on a row of `input`, or there is a condition.
    pub fn can_fail(&self, input: &Schema) -> bool {
        self.condition.is_some() || self.key.iter().any(|key| can_fail(key, input))
    }
}

/// How to handle a row without a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The row is dropped, and counted as filtered.
    Drop,
    /// The columns of the table are null.
    Null,
}

/// Operators that look rows up, keeping each batch's origin.
pub fn factory(spec: LookupSpec) -> OperatorFactory {
    let spec = Arc::new(spec);
    Arc::new(move |lane| {
        Ok(Box::new(Lookup {
            node: Arc::clone(&lane.node),
            spec: Arc::clone(&spec),
        }))
    })
}

struct Lookup {
    node: Arc<str>,
    spec: Arc<LookupSpec>,
}

impl Operator for Lookup {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let dimension = self.spec.dimension.get()?;
        let attempt = attempt(&batch.records, |rows| {
            Ok((rows.clone(), self.places(rows, &dimension)?))
        })?;
        self.spec
            .errors
            .set_aside(&self.node, &batch.origin, &attempt.failed, out)?;
        for (rows, places) in attempt.parts {
            let missed = places.null_count();
            out.missed(missed);
            let joined = if self.spec.missing == Missing::Null || missed == 0 {
                self.join(&rows, dimension.rows(), &places)?
            } else {
                out.filtered(&batch.origin, missed);
                let found = is_not_null(&places)?;
                let rows = filter_record_batch(&rows, &found)?;
                let places = filter(&places, &found)?;
                self.join(&rows, dimension.rows(), places.as_primitive())?
            };
            out.emit(batch.with_records(joined));
        }
        Ok(())
    }
}

impl Lookup {
    /// The position in the table of each row's match.
    fn places(&self, rows: &RecordBatch, dimension: &Dimension) -> Result<UInt32Array, Failure> {
        let keys = self.spec.key.iter();
        let keys: Vec<ArrayRef> = keys
            .map(|key| evaluate(key, rows))
            .collect::<Result<_, _>>()?;
        let places = dimension.find(&keys)?;
        let Some(condition) = &self.spec.condition else {
            return Ok(places);
        };
        let fails = not(&Self::holds(condition, rows, dimension.rows(), &places)?)?;
        Ok(nullif(&places, &fails)?.as_primitive().clone())
    }

    /// Keeps matches for which `condition` is true; a null counts as false.
    fn holds(
        condition: &Arc<dyn PhysicalExpr>,
        rows: &RecordBatch,
        table: &RecordBatch,
        places: &UInt32Array,
    ) -> Result<BooleanArray, Failure> {
        let found = is_not_null(places)?;
        let rows = filter_record_batch(rows, &found)?;
        let only_found = filter(places, &found)?;
        let of_table = table.columns().iter();
        let of_table = of_table.map(|column| take(column, &only_found, None));
        let of_table: Vec<ArrayRef> = of_table.collect::<Result<_, _>>()?;
        let fields = rows.schema_ref().fields().iter();
        let fields = fields.chain(table.schema_ref().fields());
        let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = [rows.columns(), &of_table].concat();
        let holds = if rows.num_rows() == 0 {
            BooleanArray::from(Vec::<bool>::new())
        } else {
            holds(condition, &RecordBatch::try_new(schema, columns)?)?
        };
        let mut next = holds.iter();
        let all = found
            .iter()
            .map(|is_found| is_found == Some(true) && next.next().flatten().unwrap_or_default());
        Ok(all.map(Some).collect())
    }

    /// The output: each of `rows` with the table row at its position.
    fn join(
        &self,
        rows: &RecordBatch,
        table: &RecordBatch,
        places: &UInt32Array,
    ) -> Result<RecordBatch> {
        let spec = &self.spec;
        let of_row = |column: &usize| Ok(Arc::clone(rows.column(*column)));
        let found = |column: &usize| Ok(take(table.column(*column), places, None)?);
        let columns = (spec.before.iter().map(of_row))
            .chain(spec.found.iter().map(found))
            .chain(spec.after.iter().map(of_row))
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let schema = Arc::clone(&spec.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}
