//! Results that `DataFusion` does not check.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::RangeInclusive,
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray},
    compute::{
        cast, is_null,
        kernels::{boolean::and_not, numeric::neg},
    },
    datatypes::{DataType, Decimal128Type, Decimal256Type, FieldRef, Float64Type, Schema},
    record_batch::RecordBatch,
};
use datafusion::{
    common::exec_err, error::Result, logical_expr::ColumnarValue, physical_plan::PhysicalExpr,
};

/// An expression whose result is checked.
#[derive(Debug, Clone, Eq)]
pub(super) struct Checked {
    expr: Arc<dyn PhysicalExpr>,
    check: Check,
}

/// The kind of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Check {
    /// A negation: the least integer has none.
    Negation,
    /// A decimal has no more digits than its type.
    Digits,
    /// A function of seconds as a float, whose result has nanoseconds: `DataFusion` limits
    /// other times to the first or last one.
    Seconds,
    /// A function of time that is null only where an argument is null: `DataFusion` gives
    /// null for times that are out of range.
    Time,
}

/// The seconds whose nanoseconds have 64 bits.
const SECONDS: RangeInclusive<f64> = -9_223_372_036.0..=9_223_372_036.0;

impl Checked {
    pub(super) fn new(expr: Arc<dyn PhysicalExpr>, check: Check) -> Self {
        Self { expr, check }
    }
}

fn check_digits(value: &dyn Array) -> Result<()> {
    match value.data_type() {
        DataType::Decimal128(precision, _) => value
            .as_primitive::<Decimal128Type>()
            .validate_decimal_precision(*precision)?,
        DataType::Decimal256(precision, _) => value
            .as_primitive::<Decimal256Type>()
            .validate_decimal_precision(*precision)?,
        _ => {}
    }
    Ok(())
}

fn check_seconds(values: &dyn Array) -> Result<()> {
    let seconds = cast(values, &DataType::Float64)?;
    let seconds = seconds.as_primitive::<Float64Type>();
    match seconds.iter().flatten().find(|it| !SECONDS.contains(it)) {
        Some(seconds) => exec_err!("{seconds} seconds are no timestamp in nanoseconds"),
        None => Ok(()),
    }
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.expr.eq(&other.expr) && self.check == other.check
    }
}

impl Hash for Checked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expr.hash(state);
        self.check.hash(state);
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl PhysicalExpr for Checked {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.expr.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.expr.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.expr.return_field(schema)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        match self.check {
            Check::Negation => {
                let values = self.expr.children()[0].evaluate(rows)?;
                let values = values.into_array(rows.num_rows())?;
                Ok(ColumnarValue::Array(neg(&values)?))
            }
            Check::Digits => {
                let values = self.expr.evaluate(rows)?;
                match &values {
                    ColumnarValue::Array(values) => check_digits(values)?,
                    ColumnarValue::Scalar(value) => check_digits(&value.to_array()?)?,
                }
                Ok(values)
            }
            Check::Seconds => {
                let seconds = self.expr.children()[0].evaluate(rows)?;
                check_seconds(&seconds.into_array(rows.num_rows())?)?;
                self.expr.evaluate(rows)
            }
            Check::Time => {
                let values = self.expr.evaluate(rows)?.into_array(rows.num_rows())?;
                if values.null_count() > 0 {
                    let mut missing = is_null(&values)?;
                    for argument in self.expr.children() {
                        let argument = argument.evaluate(rows)?;
                        let argument = argument.into_array(rows.num_rows())?;
                        missing = and_not(&missing, &is_null(&argument)?)?;
                    }
                    if missing.has_true() {
                        return exec_err!("a timestamp is out of range");
                    }
                }
                Ok(ColumnarValue::Array(values))
            }
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.expr.children()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let expr = Arc::clone(&self.expr).with_new_children(children)?;
        Ok(Arc::new(Self::new(expr, self.check)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt_sql(f)
    }
}
