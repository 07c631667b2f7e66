//! Rows with the row of a table that has their key.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array},
    compute::{filter, filter_record_batch, is_not_null, not, nullif, prep_null_mask_filter, take},
    datatypes::{Schema, SchemaRef},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{
    Batch, Error, Port, Result,
    operator::{Operator, OperatorFactory, Output},
};

use super::CurrentDimension;
use crate::expr::evaluate;

/// How rows are looked up.
#[derive(Debug, Clone)]
pub struct LookupSpec {
    /// The table.
    pub dimension: CurrentDimension,
    /// The table's key, from a row of the input; a null in it finds nothing.
    pub key: Vec<Arc<dyn PhysicalExpr>>,
    /// Over a row of the input and all columns of the table: what is found counts
    /// only where this is true.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// What becomes of a row that finds nothing.
    pub missing: Missing,
    /// The columns of the input that come out first.
    pub before: Vec<usize>,
    /// The columns of the table that follow.
    pub found: Vec<usize>,
    /// The columns of the input that come last.
    pub after: Vec<usize>,
    /// The output.
    pub schema: SchemaRef,
}

/// What becomes of a row that finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is dropped, and counted as filtered.
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
        let rows = &batch.records;
        let dimension = self.spec.dimension.get()?;
        let keys = self.spec.key.iter();
        let keys: Vec<ArrayRef> = keys
            .map(|key| evaluate(&self.node, key, rows))
            .collect::<Result<_>>()?;
        let mut places = dimension.find(&keys)?;
        if let Some(condition) = &self.spec.condition {
            let fails = not(&self.holds(condition, rows, dimension.rows(), &places)?)?;
            places = nullif(&places, &fails)?.as_primitive().clone();
        }
        let missed = places.null_count();
        out.missed(missed);
        if self.spec.missing == Missing::Null || missed == 0 {
            out.emit(batch.with_records(self.join(rows, dimension.rows(), &places)?));
            return Ok(());
        }
        out.filtered(&batch.origin, missed);
        let found = is_not_null(&places)?;
        let rows = filter_record_batch(rows, &found)?;
        let places = filter(&places, &found)?;
        let joined = self.join(&rows, dimension.rows(), places.as_primitive())?;
        out.emit(batch.with_records(joined));
        Ok(())
    }
}

impl Lookup {
    /// Where `condition` is true; a null counts as false.
    fn holds(
        &self,
        condition: &Arc<dyn PhysicalExpr>,
        rows: &RecordBatch,
        table: &RecordBatch,
        places: &UInt32Array,
    ) -> Result<BooleanArray> {
        let found = table.columns().iter();
        let found = found.map(|column| take(column, places, None));
        let found: Vec<ArrayRef> = found.collect::<Result<_, _>>()?;
        let fields = rows.schema_ref().fields().iter();
        let fields = fields.chain(table.schema_ref().fields());
        let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = [rows.columns(), &found].concat();
        let holds = evaluate(
            &self.node,
            condition,
            &RecordBatch::try_new(schema, columns)?,
        )?;
        let holds = holds.as_boolean_opt().ok_or_else(|| {
            Error::internal(format!("the ON of `{}` is not a condition", self.node))
        })?;
        Ok(match holds.null_count() {
            0 => holds.clone(),
            _ => prep_null_mask_filter(holds),
        })
    }

    /// The output: each of `rows` with the row at its place.
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
