//! Formats numbers, sizes, times and shares for people.

use std::time::Duration;

use tagflow_engine::EventTime;

/// Replaces unknown values.
pub(crate) const NOTHING: &str = "-";

/// `81,204`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `81,204`, rounded.
pub(crate) fn rate(per_s: f64) -> String {
    count(per_s.max(0.0).round() as u64)
}

/// `3.1 MB`, in powers of ten.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if value < 1000 {
        return format!("{value} B");
    }
    let mut scaled = value as f64;
    let mut unit = "B";
    for larger in UNITS {
        // 999,950 would be written as `1000.0`.
        if scaled < 999.95 {
            break;
        }
        scaled /= 1000.0;
        unit = larger;
    }
    format!("{scaled:.1} {unit}")
}

/// `0.31%`; a dash where there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NOTHING.into();
    }
    format!("{:.2}%", part as f64 * 100.0 / whole as f64)
}

/// `0.4s`, `1.4s`, `2m 5s`, `3h 20m`, `4d 1h`.
pub(crate) fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", value.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `6s ago`, to the largest unit.
pub(crate) fn ago(at: EventTime, now: EventTime) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// `2026-01-06 08:29:51`, in UTC.
pub(crate) fn moment(at: Option<EventTime>) -> String {
    let Some(at) = at else {
        return NOTHING.into();
    };
    let text = at.to_string();
    match text.split_once('T') {
        Some((date, time)) => format!("{date} {}", time.get(..8).unwrap_or(time)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands() {
        for (value, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (81_204, "81,204"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(value), expected);
        }
        assert_eq!(rate(1_999.6), "2,000");
    }

    #[test]
    fn bytes_are_decimal() {
        for (value, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (3_100_000, "3.1 MB"),
            (2_500_000_000_000, "2.5 TB"),
        ] {
            assert_eq!(bytes(value), expected);
        }
    }

    #[test]
    fn shares_need_a_whole() {
        assert_eq!(share(31, 10_000), "0.31%");
        assert_eq!(share(0, 7), "0.00%");
        assert_eq!(share(0, 0), "-");
    }

    #[test]
    fn durations_keep_two_units() {
        for (seconds, expected) in [
            (1.4, "1.4s"),
            (59.0, "59s"),
            (125.0, "2m 5s"),
            (12_000.0, "3h 20m"),
            (349_200.0, "4d 1h"),
        ] {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), expected);
        }
    }

    #[test]
    fn moments_are_utc_to_the_second() {
        let at = EventTime::from_micros(1_767_688_191_500_000);
        assert_eq!(moment(Some(at)), "2026-01-06 08:29:51");
        assert_eq!(moment(None), "-");
        assert_eq!(moment(Some(EventTime::MAX)), "end");
        let later = at.saturating_add(Duration::from_secs(6));
        assert_eq!(ago(at, later), "6s ago");
        assert_eq!(ago(later, at), "0s ago");
    }
}
