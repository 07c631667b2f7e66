//! `AND` and `OR` whose left side guards the right one.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, BooleanArray},
    compute::{and_kleene, not, or_kleene},
    datatypes::{DataType, FieldRef, Schema},
    record_batch::RecordBatch,
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, Operator},
    physical_expr::expressions::BinaryExpr,
    physical_plan::PhysicalExpr,
};

use super::failure::is_of_row;

/// If fewer rows than one in this number need the right side, it is computed for these rows only.
const FEW: usize = 5;

/// An `AND` or `OR` whose right side can fail. The right side is computed for all rows, as in
/// `DataFusion`. Only if that fails, it is computed for the rows that the left side does not
/// decide.
#[derive(Debug, Clone, Eq)]
pub(super) struct Guarded {
    /// The `AND` or `OR`.
    whole: BinaryExpr,
    nulls: Nulls,
}

/// The meaning of a null on the left side of an `AND` for the right side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Nulls {
    /// The right side decides between false and null.
    Open,
    /// The whole is a condition, in which null counts as false: nothing is left to decide.
    False,
}

impl Guarded {
    pub(super) fn new(whole: BinaryExpr, nulls: Nulls) -> Self {
        Self { whole, nulls }
    }

    /// Its `AND` or `OR`.
    pub(super) fn whole(&self) -> &BinaryExpr {
        &self.whole
    }

    /// The rows for which the right side matters.
    fn open(&self, left: &BooleanArray) -> BooleanArray {
        let is_null = |row: usize| left.is_null(row);
        match (self.whole.op(), self.nulls) {
            (Operator::And, Nulls::False) => (0..left.len())
                .map(|row| Some(!is_null(row) && left.value(row)))
                .collect(),
            (Operator::And, Nulls::Open) => (0..left.len())
                .map(|row| Some(is_null(row) || left.value(row)))
                .collect(),
            _ => (0..left.len())
                .map(|row| Some(is_null(row) || !left.value(row)))
                .collect(),
        }
    }

    fn right(&self, rows: &RecordBatch, open: &BooleanArray) -> Result<BooleanArray> {
        let right = self.whole.right();
        let is_few = open.true_count() * FEW < rows.num_rows();
        if !is_few && !contains_guard(right) {
            match right.evaluate(rows) {
                Ok(value) => return booleans(value, rows.num_rows()),
                Err(error) if !is_of_row(&error) => return Err(error),
                Err(_) => {}
            }
        }
        booleans(right.evaluate_selection(rows, open)?, rows.num_rows())
    }
}

/// Whether the expression contains a guard: a first try with all rows at each level would double
/// the cost with each level.
fn contains_guard(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Guarded>().is_some() || expr.children().into_iter().any(contains_guard)
}

fn booleans(value: ColumnarValue, rows: usize) -> Result<BooleanArray> {
    Ok(value.into_array(rows)?.as_boolean().clone())
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.whole == other.whole && self.nulls == other.nulls
    }
}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.whole.hash(state);
        self.nulls.hash(state);
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.fmt(f)
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.whole.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.whole.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.whole.return_field(schema)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let left = booleans(self.whole.left().evaluate(rows)?, rows.num_rows())?;
        let is_and = *self.whole.op() == Operator::And;
        let open = if left.null_count() > 0 {
            self.open(&left)
        } else if is_and {
            left.clone()
        } else {
            not(&left)?
        };
        let value = if open.true_count() == 0 {
            left
        } else {
            let right = self.right(rows, &open)?;
            if is_and {
                and_kleene(&left, &right)?
            } else {
                or_kleene(&left, &right)?
            }
        };
        Ok(ColumnarValue::Array(Arc::new(value)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![self.whole.left(), self.whole.right()]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let (left, right) = (Arc::clone(&children[0]), Arc::clone(&children[1]));
        let whole = BinaryExpr::new(left, *self.whole.op(), right);
        Ok(Arc::new(Self::new(whole, self.nulls)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.fmt_sql(f)
    }
}
