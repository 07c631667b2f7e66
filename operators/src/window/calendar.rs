//! Calendar days, weeks and months in a time zone.

use std::time::Duration;

pub use chrono::Weekday;
use chrono::{
    DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta,
    TimeZone,
};
pub use chrono_tz::{TZ_VARIANTS, Tz};

use super::span::Span;

/// A calendar period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalendarUnit {
    /// From midnight to midnight.
    Day,
    /// Seven days from midnight of this weekday.
    Week(Weekday),
    /// From the first day's midnight to the next month's.
    Month,
}

impl CalendarUnit {
    /// The first day of the period that contains `day`, and of the next one.
    fn around(self, day: NaiveDate) -> Option<(NaiveDate, NaiveDate)> {
        let first = match self {
            Self::Day => day,
            Self::Week(starts) => {
                let since = day.weekday().days_since(starts);
                day.checked_sub_days(Days::new(u64::from(since)))?
            }
            Self::Month => day.with_day(1)?,
        };
        Some((first, self.after(first)?))
    }

    /// The first day of the period after the one that begins with `first`.
    fn after(self, first: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Day => first.succ_opt(),
            Self::Week(_) => first.checked_add_days(Days::new(7)),
            Self::Month => first.checked_add_months(Months::new(1)),
        }
    }
}

/// The period of `unit` in `zone` that contains `time_us`; `None` outside the years of the
/// calendar.
///
/// A day begins at the first instant that has its date. If a clock is set forward over midnight,
/// that is later than 00:00. If it is set back over midnight, that is the first of two 00:00. A
/// date that a zone skipped has no instant.
pub(super) fn containing(unit: CalendarUnit, zone: Tz, time_us: i64) -> Option<Span> {
    let local = DateTime::from_timestamp_micros(time_us)?.with_timezone(&zone);
    let (first, next) = unit.around(local.date_naive())?;
    let (mut start, mut end) = (first_instant(first, zone)?, first_instant(next, zone)?);
    let mut next = next;
    // After it is set back over midnight, a clock shows the date before once more. A skipped date
    // has nothing between its instants.
    while time_us >= end {
        next = unit.after(next)?;
        (start, end) = (end, first_instant(next, zone)?);
    }
    Some(Span { start, end })
}

/// An offset of `zone` from UTC in seconds, between 2015 and 2037, that is no multiple of `width`:
/// windows of that width since 1970 (UTC) then do not begin on the zone's hours.
pub fn misaligned(zone: Tz, width: Duration) -> Option<i64> {
    let days = (2015..=2037).filter_map(|year| NaiveDate::from_ymd_opt(year, 1, 1));
    let days = days.flat_map(|first| first.iter_days().take(366));
    let mut offsets = days.map(|day| {
        let offset = zone.offset_from_utc_date(&day).fix();
        i64::from(offset.local_minus_utc())
    });
    offsets.find(|offset| {
        let micros = i128::from(*offset) * 1_000_000;
        micros % (width.as_micros().max(1) as i128) != 0
    })
}

/// The first instant in `zone` with `day` or a later date.
fn first_instant(day: NaiveDate, zone: Tz) -> Option<i64> {
    let midnight = day.and_time(NaiveTime::MIN);
    if let Some(first) = zone.from_local_datetime(&midnight).earliest() {
        return Some(first.timestamp_micros());
    }
    // The clock was set forward over this midnight: search for the instant.
    let around = TimeDelta::hours(26);
    let utc = |time: NaiveDateTime| time.and_utc().timestamp_micros();
    let mut before = utc(midnight.checked_sub_signed(around)?);
    let mut after = utc(midnight.checked_add_signed(around)?);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        let shown = DateTime::from_timestamp_micros(middle)?.with_timezone(&zone);
        if shown.naive_local() < midnight {
            before = middle;
        } else {
            after = middle;
        }
    }
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_micros()
    }

    fn check(unit: CalendarUnit, zone: &str, time: &str, start: &str, hours: f64) {
        let zone: Tz = zone.parse().unwrap();
        let span = containing(unit, zone, micros(time)).unwrap();
        assert_eq!(span.start, micros(start), "{zone} {time}");
        let length = (span.end - span.start) as f64 / 3.6e9;
        assert!(
            (length - hours).abs() < 1e-9,
            "{zone} {time}: {length} hours"
        );
        for inside in [span.start, span.end - 1] {
            assert_eq!(containing(unit, zone, inside), Some(span), "{zone} {time}");
        }
        assert_ne!(containing(unit, zone, span.end), Some(span));
    }

    #[test]
    fn days_are_as_long_as_their_zone_says() {
        let day = CalendarUnit::Day;
        for (zone, time, start, hours) in [
            ("UTC", "2026-01-05T23:59:59Z", "2026-01-05T00:00:00Z", 24.0),
            (
                "Asia/Shanghai",
                "2026-01-05T15:59:59Z",
                "2026-01-04T16:00:00Z",
                24.0,
            ),
            // Forward and back by an hour, in the night and at midnight.
            (
                "Europe/Berlin",
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                23.0,
            ),
            (
                "Europe/Berlin",
                "2026-10-25T12:00:00Z",
                "2026-10-24T22:00:00Z",
                25.0,
            ),
            (
                "America/Havana",
                "2026-03-08T12:00:00Z",
                "2026-03-08T05:00:00Z",
                23.0,
            ),
            (
                "America/Havana",
                "2026-11-01T12:00:00Z",
                "2026-11-01T04:00:00Z",
                25.0,
            ),
            (
                "Africa/Cairo",
                "2026-04-24T12:00:00Z",
                "2026-04-23T22:00:00Z",
                23.0,
            ),
            (
                "America/Sao_Paulo",
                "2018-02-17T12:00:00Z",
                "2018-02-17T02:00:00Z",
                25.0,
            ),
            // By half an hour.
            (
                "Australia/Lord_Howe",
                "2026-04-05T00:00:00Z",
                "2026-04-04T13:00:00Z",
                24.5,
            ),
            (
                "Australia/Lord_Howe",
                "2026-10-04T00:00:00Z",
                "2026-10-03T13:30:00Z",
                23.5,
            ),
            // The last day before 2011-12-30, which Apia skipped, and the next.
            (
                "Pacific/Apia",
                "2011-12-30T09:59:59Z",
                "2011-12-29T10:00:00Z",
                24.0,
            ),
            (
                "Pacific/Apia",
                "2011-12-30T10:00:00Z",
                "2011-12-30T10:00:00Z",
                24.0,
            ),
        ] {
            check(day, zone, time, start, hours);
        }
    }

    #[test]
    fn weeks_begin_where_they_are_told() {
        let monday = CalendarUnit::Week(Weekday::Mon);
        let sunday = CalendarUnit::Week(Weekday::Sun);
        check(
            monday,
            "Europe/Berlin",
            "2026-03-29T12:00:00Z",
            "2026-03-22T23:00:00Z",
            167.0,
        );
        check(
            sunday,
            "Europe/Berlin",
            "2026-03-29T12:00:00Z",
            "2026-03-28T23:00:00Z",
            167.0,
        );
        check(
            sunday,
            "UTC",
            "2026-01-03T12:00:00Z",
            "2025-12-28T00:00:00Z",
            168.0,
        );
    }

    #[test]
    fn months_have_their_days() {
        let month = CalendarUnit::Month;
        check(
            month,
            "UTC",
            "2024-02-29T12:00:00Z",
            "2024-02-01T00:00:00Z",
            29.0 * 24.0,
        );
        check(
            month,
            "America/New_York",
            "2026-03-15T12:00:00Z",
            "2026-03-01T05:00:00Z",
            743.0,
        );
        check(
            month,
            "Pacific/Apia",
            "2011-12-31T09:00:00Z",
            "2011-12-01T10:00:00Z",
            30.0 * 24.0,
        );
    }

    #[test]
    fn a_clock_set_back_over_midnight_shows_a_date_twice() {
        // 2006-10-29 00:01 became 2006-10-28 23:01.
        let zone: Tz = "America/St_Johns".parse().unwrap();
        let first = micros("2006-10-29T00:00:00-02:30");
        let again = micros("2006-10-28T23:30:00-03:30");
        let day = containing(CalendarUnit::Day, zone, first).unwrap();
        assert_eq!(day.start, first);
        assert_eq!(containing(CalendarUnit::Day, zone, again), Some(day));
        assert_eq!(
            containing(CalendarUnit::Day, zone, first - 1).unwrap().end,
            first
        );
    }

    #[test]
    fn widths_that_divide_every_offset_are_aligned() {
        for (zone, minutes, offset) in [
            ("Asia/Shanghai", 60, None),
            ("Europe/Berlin", 60, None),
            ("Europe/Berlin", 120, Some(3_600)),
            ("Asia/Kolkata", 60, Some(19_800)),
            ("Asia/Kolkata", 30, None),
            // Eleven hours in summer, ten and a half in winter.
            ("Australia/Lord_Howe", 60, Some(37_800)),
            ("Asia/Kathmandu", 15, None),
            ("UTC", 24 * 60, None),
        ] {
            let width = Duration::from_mins(minutes);
            let zone: Tz = zone.parse().unwrap();
            assert_eq!(misaligned(zone, width), offset, "{zone} {minutes}");
        }
    }

    #[test]
    fn times_beyond_the_calendar_have_no_day() {
        for time in [i64::MIN, i64::MAX] {
            assert_eq!(containing(CalendarUnit::Day, Tz::UTC, time), None);
        }
    }
}
