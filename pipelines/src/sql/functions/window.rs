//! The functions that divide event time into windows, for GROUP BY.
//!
//! On a stream the planner turns a call into a windowed aggregate and never executes it. In batch,
//! functions that assign a row to one window are executed.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray},
    compute::cast,
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
use tagflow_config::diagnostic::closest;
use tagflow_operators::window::{CalendarUnit, Period, Span, Tz, Weekday, Windows};

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// A function of the dialect that defines a window of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WindowKind {
    /// Adjacent windows of one width.
    Tumble,
    /// Days of a time zone.
    TumbleDay,
    /// Weeks of a time zone.
    TumbleWeek,
    /// Months of a time zone.
    TumbleMonth,
    /// Windows that overlap.
    Hop,
    /// Windows that grow from the start of a period.
    Cumulate,
    /// Windows separated by gaps without rows.
    Session,
}

impl WindowKind {
    /// All window functions.
    pub(crate) const ALL: [Self; 7] = [
        Self::Tumble,
        Self::TumbleDay,
        Self::TumbleWeek,
        Self::TumbleMonth,
        Self::Hop,
        Self::Cumulate,
        Self::Session,
    ];

    /// The kind that `function` names.
    pub(crate) fn named(function: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == function)
    }

    /// The function's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tumble => "tumble",
            Self::TumbleDay => "tumble_day",
            Self::TumbleWeek => "tumble_week",
            Self::TumbleMonth => "tumble_month",
            Self::Hop => "hop",
            Self::Cumulate => "cumulate",
            Self::Session => "session",
        }
    }

    /// An example call over `time`.
    pub(crate) fn example(self, time: &str) -> String {
        match self {
            Self::Tumble => format!("tumble({time}, INTERVAL '1 minute')"),
            Self::TumbleDay => format!("tumble_day({time}, 'Asia/Shanghai')"),
            Self::TumbleWeek => format!("tumble_week({time}, 'Asia/Shanghai', 'monday')"),
            Self::TumbleMonth => format!("tumble_month({time}, 'Asia/Shanghai')"),
            Self::Hop => format!("hop({time}, INTERVAL '1 minute', INTERVAL '1 hour')"),
            Self::Cumulate => {
                format!("cumulate({time}, INTERVAL '10 minutes', INTERVAL '1 day')")
            }
            Self::Session => format!("session({time}, INTERVAL '30 minutes')"),
        }
    }

    /// The types of the arguments after the time, for each way to call it.
    fn arguments(self) -> &'static [&'static [Argument]] {
        use Argument::{Interval, Text};
        match self {
            Self::Tumble | Self::Session => &[&[Interval]],
            Self::TumbleDay | Self::TumbleMonth => &[&[Text]],
            Self::TumbleWeek => &[&[Text, Text]],
            Self::Hop => &[&[Interval, Interval]],
            Self::Cumulate => &[&[Interval, Interval], &[Interval, Text]],
        }
    }

    /// The windows for constant arguments (those after the time).
    ///
    /// # Errors
    /// The reason why they are invalid, for a user.
    pub(crate) fn windows(self, arguments: &[ScalarValue]) -> Result<Windows, String> {
        let windows = match (self, arguments) {
            (Self::Tumble, [size]) => Windows::Tumble(Period::Fixed(width(size)?)),
            (Self::TumbleDay, [zone]) => Windows::Tumble(day(zone)?),
            (Self::TumbleWeek, [zone, starts]) => {
                let unit = CalendarUnit::Week(weekday(starts)?);
                Windows::Tumble(Period::Calendar(unit, zone_of(zone)?))
            }
            (Self::TumbleMonth, [zone]) => {
                Windows::Tumble(Period::Calendar(CalendarUnit::Month, zone_of(zone)?))
            }
            (Self::Hop, [slide, size]) => Windows::Hop {
                slide: width(slide)?,
                size: width(size)?,
            },
            (Self::Cumulate, [step, within]) => Windows::Cumulate {
                step: width(step)?,
                within: match within {
                    ScalarValue::Utf8(_) => day(within)?,
                    size => Period::Fixed(width(size)?),
                },
            },
            (Self::Session, [gap]) => Windows::Session { gap: width(gap)? },
            _ => return Err(format!("write `{}`", self.example("ts"))),
        };
        windows.check()?;
        Ok(windows)
    }
}

#[derive(Debug, Clone, Copy)]
enum Argument {
    Interval,
    Text,
}

/// A [`WindowKind`] as a DataFusion function. From an event time, or from a window (which counts
/// where it ends), it computes the window `[start, end)` around it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowFunction {
    kind: WindowKind,
    signature: Signature,
}

impl WindowFunction {
    pub(crate) fn new(kind: WindowKind) -> Self {
        Self {
            kind,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let first = match types.first() {
            Some(DataType::Timestamp(..)) => Some(time()),
            Some(window) if *window == DataType::Struct(bounds()) => Some(window.clone()),
            _ => None,
        };
        let fits = |argument: &Argument, given: &DataType| match argument {
            Argument::Interval => matches!(given, DataType::Interval(_)),
            Argument::Text => matches!(
                given,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            ),
        };
        if let Some(first) = first {
            let rest = &types[1..];
            for arguments in self.kind.arguments() {
                let all_fit = arguments.len() == rest.len()
                    && arguments
                        .iter()
                        .zip(rest)
                        .all(|(argument, given)| fits(argument, given));
                if all_fit {
                    let rest = arguments.iter().map(|argument| match argument {
                        Argument::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
                        Argument::Text => DataType::Utf8,
                    });
                    return Ok(std::iter::once(first).chain(rest).collect());
                }
            }
        }
        let name = self.kind.name();
        plan_err!("`{name}` is written `{}`", self.kind.example("ts"))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(bounds()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(
            self.kind.name(),
            DataType::Struct(bounds()),
            nullable,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((times, rest)) = args.args.split_first() else {
            return internal_err!("`{}` was called without arguments", self.kind.name());
        };
        let mut constants = Vec::with_capacity(rest.len());
        for argument in rest {
            let ColumnarValue::Scalar(constant) = argument else {
                return exec_err!("but for the time, a window is given by constants");
            };
            constants.push(constant.clone());
        }
        let windows = match self.kind.windows(&constants) {
            Ok(windows) => windows,
            Err(reason) => return exec_err!("{reason}"),
        };
        if !matches!(windows, Windows::Tumble(_)) {
            return exec_err!(
                "a row lies in several windows of `{}`: in a batch, group as the window does",
                self.kind.name()
            );
        }
        let times = times.to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(around(&times_of(&times)?, &windows)?))
    }
}

/// The event times; for windows, the last instant of each.
fn times_of(values: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    if let Some(windows) = values.as_struct_opt() {
        let ends = cast(windows.column(1), &time())?;
        let ends = ends.as_primitive::<TimestampMicrosecondType>();
        let last: TimestampMicrosecondArray = ends.unary(|end| end - 1);
        let (_, last, _) = last.into_parts();
        return Ok(TimestampMicrosecondArray::new(
            last,
            windows.nulls().cloned(),
        ));
    }
    if let Some(times) = values.as_primitive_opt::<TimestampMicrosecondType>() {
        Ok(times.clone())
    } else {
        internal_err!("a window function was called without coercion")
    }
}

fn around(times: &TimestampMicrosecondArray, windows: &Windows) -> Result<ArrayRef> {
    let mut starts = Vec::with_capacity(times.len());
    let mut ends = Vec::with_capacity(times.len());
    for time in times {
        let window = match time {
            None => Span { start: 0, end: 0 },
            Some(time) => match windows.pane(time) {
                Some(window) => window,
                None => return exec_err!("the time {time} µs is too far off for a window"),
            },
        };
        starts.push(window.start);
        ends.push(window.end);
    }
    let bound = |values: Vec<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    };
    Ok(Arc::new(StructArray::try_new(
        bounds(),
        vec![bound(starts), bound(ends)],
        times.nulls().cloned(),
    )?))
}

/// A width, or why it is invalid.
fn width(interval: &ScalarValue) -> Result<Duration, String> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = interval else {
        return Err("the width of a window must be an interval".into());
    };
    let IntervalMonthDayNano {
        months,
        days,
        nanoseconds,
    } = *interval;
    if months != 0 {
        return Err(
            "a month has no fixed width; write `tumble_month(ts, 'UTC')` for calendar months"
                .into(),
        );
    }
    if nanoseconds % 1_000 != 0 {
        return Err("a window's width must be whole microseconds".into());
    }
    let width = i64::from(days)
        .checked_mul(DAY_US)
        .and_then(|width| width.checked_add(nanoseconds / 1_000));
    match width {
        Some(width) if width > 0 => Ok(Duration::from_micros(width.unsigned_abs())),
        Some(0) => Err("a window cannot be 0 wide".into()),
        Some(_) => Err("a window cannot be of negative width".into()),
        None => Err("the window is too wide".into()),
    }
}

fn day(zone: &ScalarValue) -> Result<Period, String> {
    Ok(Period::Calendar(CalendarUnit::Day, zone_of(zone)?))
}

fn text<'a>(value: &'a ScalarValue, what: &str) -> Result<&'a str, String> {
    match value {
        ScalarValue::Utf8(Some(text)) => Ok(text),
        _ => Err(format!("the {what} of a window must be a text")),
    }
}

fn zone_of(value: &ScalarValue) -> Result<Tz, String> {
    time_zone(text(value, "time zone")?)
}

/// The IANA time zone `name`.
///
/// # Errors
/// It does not exist, in words for a user.
pub(crate) fn time_zone(name: &str) -> Result<Tz, String> {
    let all = tagflow_operators::window::TZ_VARIANTS;
    name.parse().map_err(|_| {
        let close = closest(name, all.iter().map(|zone| zone.name()));
        let close = close.map_or(String::new(), |close| format!("; did you mean `{close}`?"));
        format!("there is no time zone `{name}`{close}")
    })
}

fn weekday(value: &ScalarValue) -> Result<Weekday, String> {
    let name = text(value, "first day")?;
    name.parse()
        .map_err(|_| format!("there is no weekday `{name}`; write `'monday'` or `'sunday'`"))
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

    fn text(text: &str) -> ScalarValue {
        ScalarValue::from(text)
    }

    #[test]
    fn arguments_make_windows() {
        let minute = || interval(0, 0, 60_000_000_000);
        for (kind, arguments, windows) in [
            (WindowKind::Tumble, vec![minute()], "tumble 1m"),
            (
                WindowKind::TumbleDay,
                vec![text("Asia/Shanghai")],
                "tumble day in Asia/Shanghai",
            ),
            (
                WindowKind::TumbleWeek,
                vec![text("UTC"), text("Sunday")],
                "tumble week from Sun in UTC",
            ),
            (
                WindowKind::TumbleMonth,
                vec![text("UTC")],
                "tumble month in UTC",
            ),
            (
                WindowKind::Hop,
                vec![minute(), interval(0, 1, 0)],
                "hop 1day every 1m",
            ),
            (
                WindowKind::Cumulate,
                vec![minute(), interval(0, 1, 0)],
                "cumulate 1day every 1m",
            ),
            (
                WindowKind::Cumulate,
                vec![minute(), text("UTC")],
                "cumulate day in UTC every 1m",
            ),
            (WindowKind::Session, vec![minute()], "session 1m"),
        ] {
            assert_eq!(kind.windows(&arguments).unwrap().to_string(), windows);
        }
    }

    #[test]
    fn what_makes_no_window_says_why() {
        for (kind, arguments, reason) in [
            (
                WindowKind::Tumble,
                vec![interval(1, 0, 0)],
                "write `tumble_month(ts, 'UTC')`",
            ),
            (
                WindowKind::Tumble,
                vec![interval(0, 0, 0)],
                "cannot be 0 wide",
            ),
            (
                WindowKind::Tumble,
                vec![interval(0, -1, 0)],
                "of negative width",
            ),
            (
                WindowKind::Tumble,
                vec![interval(0, 0, 1)],
                "whole microseconds",
            ),
            (
                WindowKind::Tumble,
                vec![ScalarValue::Int64(Some(1))],
                "must be an interval",
            ),
            (
                WindowKind::TumbleDay,
                vec![text("Asia/Shangai")],
                "no time zone `Asia/Shangai`; did you mean `Asia/Shanghai`?",
            ),
            (
                WindowKind::TumbleWeek,
                vec![text("UTC"), text("x")],
                "no weekday `x`",
            ),
            (
                WindowKind::Hop,
                vec![interval(0, 2, 0), interval(0, 1, 0)],
                "slide by more than their size",
            ),
            (
                WindowKind::Cumulate,
                vec![interval(0, 2, 0), interval(0, 3, 0)],
                "must fill it",
            ),
        ] {
            let error = kind.windows(&arguments).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn windows_contain_their_times() {
        let times = TimestampMicrosecondArray::from(vec![Some(-1), Some(0), Some(9), None])
            .with_timezone("UTC");
        let size = Duration::from_micros(10);
        let windows = around(&times, &Windows::Tumble(Period::Fixed(size))).unwrap();
        let windows = windows.as_struct();
        let column = |index: usize| {
            windows
                .column(index)
                .as_primitive::<TimestampMicrosecondType>()
        };
        assert_eq!(&column(0).values()[..3], &[-10, 0, 0]);
        assert_eq!(&column(1).values()[..3], &[0, 10, 10]);
        assert!(windows.is_null(3));
        let nested: ArrayRef = Arc::new(windows.clone());
        assert_eq!(&times_of(&nested).unwrap().values()[..3], &[-1, 9, 9]);
    }
}
