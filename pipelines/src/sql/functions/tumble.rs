//! `tumble(ts, interval)`: fixed windows, one after the other.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray},
    datatypes::{
        DataType, Field, FieldRef, Fields, IntervalMonthDayNano, IntervalUnit, TimeUnit,
        TimestampMicrosecondType,
    },
};
use datafusion::{
    common::{Result, ScalarValue, exec_err, internal_err, plan_err},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
    },
};

/// The function's name.
pub(crate) const TUMBLE: &str = "tumble";

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// The window `[start, end)` that a time lies in. Windows begin at multiples
/// of their width since 1970-01-01T00:00:00Z.
///
/// On a stream the planner turns it into a windowed aggregate and never calls
/// it; in batch it computes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tumble {
    signature: Signature,
}

impl Tumble {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Tumble {
    fn name(&self) -> &str {
        TUMBLE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if let [DataType::Timestamp(..), DataType::Interval(_)] = types {
            return Ok(vec![time(), DataType::Interval(IntervalUnit::MonthDayNano)]);
        }
        plan_err!("`tumble` takes an event time and an interval: `tumble(ts, INTERVAL '1 minute')`")
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(bounds()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(
            TUMBLE,
            DataType::Struct(bounds()),
            nullable,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [times, ColumnarValue::Scalar(width)] = args.args.as_slice() else {
            return exec_err!("the width of a window must be a constant");
        };
        let width = match width_us(width) {
            Ok(width) => width,
            Err(reason) => return exec_err!("{reason}"),
        };
        let times = times.to_array(args.number_rows)?;
        let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return internal_err!("`tumble` was called without coercion");
        };
        Ok(ColumnarValue::Array(windows(times, width)?))
    }
}

fn windows(times: &TimestampMicrosecondArray, width: i64) -> Result<ArrayRef> {
    let start = |time: i64| time.div_euclid(width).wrapping_mul(width);
    let starts: TimestampMicrosecondArray = times.unary(start);
    let ends: TimestampMicrosecondArray = times.unary(|time| start(time).wrapping_add(width));
    Ok(Arc::new(StructArray::try_new(
        bounds(),
        vec![
            Arc::new(starts.with_timezone("UTC")),
            Arc::new(ends.with_timezone("UTC")),
        ],
        times.nulls().cloned(),
    )?))
}

/// The width of a window in microseconds, or why it can be none.
pub(crate) fn width_us(interval: &ScalarValue) -> Result<i64, String> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = interval else {
        return Err("the width of a window must be an interval".into());
    };
    let IntervalMonthDayNano {
        months,
        days,
        nanoseconds,
    } = *interval;
    if months != 0 {
        return Err("a window of months has no fixed width".into());
    }
    if nanoseconds % 1_000 != 0 {
        return Err("a window's width must be whole microseconds".into());
    }
    let width = i64::from(days)
        .checked_mul(DAY_US)
        .and_then(|width| width.checked_add(nanoseconds / 1_000));
    match width {
        Some(width) if width > 0 => Ok(width),
        Some(0) => Err("a window cannot be 0 wide".into()),
        Some(_) => Err("a window cannot be of negative width".into()),
        None => Err("the window is too wide".into()),
    }
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}

fn bounds() -> Fields {
    Fields::from(vec![
        Field::new("start", time(), false),
        Field::new("end", time(), false),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(months: i32, days: i32, nanoseconds: i64) -> ScalarValue {
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(
            months,
            days,
            nanoseconds,
        )))
    }

    #[test]
    fn widths_are_fixed_and_positive() {
        assert_eq!(width_us(&interval(0, 1, 1_000)), Ok(DAY_US + 1));
        for (width, reason) in [
            (interval(1, 0, 0), "a window of months has no fixed width"),
            (interval(0, 0, 0), "a window cannot be 0 wide"),
            (interval(0, -1, 0), "a window cannot be of negative width"),
            (
                interval(0, 0, 1),
                "a window's width must be whole microseconds",
            ),
            (
                ScalarValue::Int64(Some(1)),
                "the width of a window must be an interval",
            ),
        ] {
            assert_eq!(width_us(&width), Err(reason.into()));
        }
    }

    #[test]
    fn windows_contain_their_times() {
        let times = TimestampMicrosecondArray::from(vec![Some(-1), Some(0), Some(9), None])
            .with_timezone("UTC");
        let windows = windows(&times, 10).unwrap();
        let windows = windows.as_struct();
        let column = |index: usize| {
            windows
                .column(index)
                .as_primitive::<TimestampMicrosecondType>()
        };
        assert_eq!(&column(0).values()[..3], &[-10, 0, 0]);
        assert_eq!(&column(1).values()[..3], &[0, 10, 10]);
        assert!(windows.is_null(3));
    }
}
