//! Assigns rows to panes.

use arrow::{array::Array as _, array::TimestampMicrosecondArray, buffer::ScalarBuffer};
use tagflow_engine::{Error, EventTime, Result};

use super::{span::Span, windows::Windows};

/// The pane starts of a batch's rows, and the first and last of the panes.
#[derive(Debug)]
pub(super) struct Assigned {
    /// Each row's pane start, `Timestamp(µs, "UTC")`.
    pub(super) starts: TimestampMicrosecondArray,
    /// The earliest pane; `None` without rows.
    pub(super) first: Option<Span>,
    /// The latest pane.
    pub(super) last: Option<Span>,
}

/// Assigns each of `times` to its pane.
///
/// # Errors
/// `Data` if a time is null, or if the end of its windows overflows 64 bits of microseconds.
pub(super) fn assign(times: &TimestampMicrosecondArray, windows: &Windows) -> Result<Assigned> {
    if times.null_count() > 0 {
        return Err(Error::data("a row without an event time came to a window"));
    }
    let mut first: Option<Span> = None;
    let mut last: Option<Span> = None;
    // Neighbours mostly share a pane: compute another one only when a row is outside.
    let mut pane = Span { start: 0, end: 0 };
    let mut starts = Vec::with_capacity(times.len());
    for &time in times.values() {
        if time < pane.start || time >= pane.end {
            pane = pane_of(time, windows)?;
            first = Some(first.map_or(pane, |first| first.min(pane)));
            last = Some(last.map_or(pane, |last| last.max(pane)));
        }
        starts.push(pane.start);
    }
    Ok(Assigned {
        starts: TimestampMicrosecondArray::new(ScalarBuffer::from(starts), None)
            .with_timezone("UTC"),
        first,
        last,
    })
}

/// The pane that starts at `start`, or that contains this time.
///
/// # Errors
/// `Data` if it overflows 64 bits of microseconds.
pub(super) fn pane_of(time: i64, windows: &Windows) -> Result<Span> {
    windows.pane(time).ok_or_else(|| {
        let time = EventTime::from_micros(time);
        Error::data(format!(
            "the event time `{time}` is too far off for a window"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::window::Period;

    fn tumble(size_us: u64) -> Windows {
        Windows::Tumble(Period::Fixed(Duration::from_micros(size_us)))
    }

    fn starts(times: Vec<i64>, size_us: u64) -> Vec<i64> {
        let assigned = assign(&times.into(), &tumble(size_us)).unwrap();
        assigned.starts.values().to_vec()
    }

    #[test]
    fn windows_start_at_multiples_of_their_size() {
        assert_eq!(starts(vec![0, 9, 10, 19, 5], 10), [0, 0, 10, 10, 0]);
        assert_eq!(starts(vec![-1, -10, -11, 0], 10), [-10, -10, -20, 0]);
        assert_eq!(starts(vec![], 10), [0; 0]);
    }

    #[test]
    fn the_span_is_of_panes() {
        let assigned = assign(&vec![25, -1, 12].into(), &tumble(10)).unwrap();
        let starts = (assigned.first.unwrap().start, assigned.last.unwrap().start);
        assert_eq!(starts, (-10, 20));
    }

    #[test]
    fn times_that_no_window_can_hold_are_errors() {
        for time in [i64::MAX, i64::MIN, i64::MAX - 3] {
            let error = assign(&vec![time].into(), &tumble(10)).unwrap_err();
            assert!(error.to_string().contains("too far off"), "{error}");
        }
        let missing = TimestampMicrosecondArray::from(vec![None]);
        assert!(assign(&missing, &tumble(10)).is_err());
    }
}
