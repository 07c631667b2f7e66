//! `date_part(part, x)` and `extract(part FROM x)`.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Float64Array},
    compute::cast,
    datatypes::{DataType, FieldRef, Int64Type, TimeUnit},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
        Signature,
        planner::{ExprPlanner, PlannerResult},
    },
};

/// `DataFusion`'s function. For the difference of two times, it returns the seconds with their
/// fraction, as `PostgreSQL` and `DuckDB` do; `DataFusion` 55 loses the fraction.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatePart {
    datafusion: Arc<ScalarUDF>,
}

impl DatePart {
    pub(crate) fn new() -> Self {
        Self {
            datafusion: datafusion::functions::datetime::date_part(),
        }
    }
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        self.datafusion.name()
    }

    fn aliases(&self) -> &[String] {
        self.datafusion.aliases()
    }

    fn signature(&self) -> &Signature {
        self.datafusion.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.datafusion.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.datafusion.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [ColumnarValue::Scalar(part), value] = args.args.as_slice()
            && let Some(part) = part.try_as_str().flatten()
            && part.eq_ignore_ascii_case("epoch")
            && let DataType::Duration(unit) = value.data_type()
        {
            return seconds(value, unit);
        }
        self.datafusion.invoke_with_args(args)
    }
}

/// The number of seconds in a duration.
fn seconds(value: &ColumnarValue, unit: TimeUnit) -> Result<ColumnarValue> {
    let units = match unit {
        TimeUnit::Second => 1.0,
        TimeUnit::Millisecond => 1e3,
        TimeUnit::Microsecond => 1e6,
        TimeUnit::Nanosecond => 1e9,
    };
    let numbers = match value {
        ColumnarValue::Array(durations) => cast(durations, &DataType::Int64)?,
        ColumnarValue::Scalar(duration) => cast(&duration.to_array()?, &DataType::Int64)?,
    };
    let numbers = numbers.as_primitive::<Int64Type>();
    let seconds: Float64Array = numbers.unary(|number| number as f64 / units);
    Ok(match value {
        ColumnarValue::Array(_) => ColumnarValue::Array(Arc::new(seconds)),
        ColumnarValue::Scalar(_) => {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&seconds, 0)?)
        }
    })
}

/// Plans `extract(part FROM x)` with [`DatePart`].
#[derive(Debug)]
pub(crate) struct ExtractPlanner {
    date_part: Arc<ScalarUDF>,
}

impl ExtractPlanner {
    pub(crate) fn new() -> Self {
        Self {
            date_part: Arc::new(ScalarUDF::new_from_impl(DatePart::new())),
        }
    }
}

impl ExprPlanner for ExtractPlanner {
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(self.date_part.call(args)))
    }
}
