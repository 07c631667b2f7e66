//! Which window a row belongs to.

use arrow::{array::Array as _, array::TimestampMicrosecondArray, buffer::ScalarBuffer};
use tagflow_engine::{Error, EventTime, Result};

/// The window starts of a batch's rows, and the span of them.
#[derive(Debug)]
pub(super) struct Assigned {
    /// Each row's window start, `Timestamp(µs, "UTC")`.
    pub(super) starts: TimestampMicrosecondArray,
    /// The earliest start.
    pub(super) min_us: i64,
    /// The latest start.
    pub(super) max_us: i64,
}

/// Puts each of `times` into its window of `size_us` microseconds:
/// `floor(time / size) * size`, for times before 1970 too.
///
/// # Errors
/// `Data` where a time is null, or its window ends outside of what 64 bits of
/// microseconds can say.
pub(super) fn assign(times: &TimestampMicrosecondArray, size_us: i64) -> Result<Assigned> {
    if times.null_count() > 0 {
        return Err(Error::data("a row without an event time came to a window"));
    }
    let (mut min_us, mut max_us) = (i64::MAX, i64::MIN);
    // Neighbours mostly share a window: divide only when a row leaves it.
    let (mut start, mut end) = (0, 0);
    let mut starts = Vec::with_capacity(times.len());
    for &time in times.values() {
        if time < start || time >= end {
            (start, end) = window_of(time, size_us)?;
            min_us = min_us.min(start);
            max_us = max_us.max(start);
        }
        starts.push(start);
    }
    Ok(Assigned {
        starts: TimestampMicrosecondArray::new(ScalarBuffer::from(starts), None)
            .with_timezone("UTC"),
        min_us,
        max_us,
    })
}

fn window_of(time: i64, size_us: i64) -> Result<(i64, i64)> {
    time.checked_sub(time.rem_euclid(size_us))
        .and_then(|start| Some((start, start.checked_add(size_us)?)))
        .ok_or_else(|| {
            let time = EventTime::from_micros(time);
            Error::data(format!(
                "the event time `{time}` is too far off for a window"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(times: Vec<i64>, size_us: i64) -> Vec<i64> {
        let assigned = assign(&times.into(), size_us).unwrap();
        assigned.starts.values().to_vec()
    }

    #[test]
    fn windows_start_at_multiples_of_their_size() {
        assert_eq!(starts(vec![0, 9, 10, 19, 5], 10), [0, 0, 10, 10, 0]);
        assert_eq!(starts(vec![-1, -10, -11, 0], 10), [-10, -10, -20, 0]);
        assert_eq!(starts(vec![], 10), [0; 0]);
    }

    #[test]
    fn the_span_is_of_starts() {
        let assigned = assign(&vec![25, -1, 12].into(), 10).unwrap();
        assert_eq!((assigned.min_us, assigned.max_us), (-10, 20));
    }

    #[test]
    fn times_that_no_window_can_hold_are_errors() {
        for time in [i64::MAX, i64::MIN, i64::MAX - 3] {
            let error = assign(&vec![time].into(), 10).unwrap_err();
            assert!(error.to_string().contains("too far off"), "{error}");
        }
        let missing = TimestampMicrosecondArray::from(vec![None]);
        assert!(assign(&missing, 10).is_err());
    }
}
