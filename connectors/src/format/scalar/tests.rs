use super::*;
use proptest::prelude::*;

#[test]
fn decimals_are_exact() {
    for (text, precision, scale, expected) in [
        ("12.5", 18, 2, Some(1250)),
        ("-12.50", 18, 2, Some(-1250)),
        ("+1", 18, 2, Some(100)),
        ("0.1", 18, 2, Some(10)),
        (".5", 18, 2, Some(50)),
        ("5.", 18, 2, Some(500)),
        ("0", 18, 2, Some(0)),
        ("-0.00", 18, 2, Some(0)),
        ("1.25e3", 18, 2, Some(125_000)),
        ("125E-2", 18, 2, Some(125)),
        (
            "1.2300000000000000000000000000000000000000000000",
            18,
            2,
            Some(123),
        ),
        (
            "10000000000000000000000000000000000000000e-38",
            18,
            2,
            Some(10_000),
        ),
        ("99.99", 4, 2, Some(9999)),
        (
            "123456789012345678.99",
            38,
            2,
            Some(12_345_678_901_234_567_899),
        ),
        // One digit too many, on either side.
        ("1.234", 18, 2, None),
        ("100.00", 4, 2, None),
        ("1e40", 38, 0, None),
        ("1e99999999999", 38, 0, None),
        ("0e5", 38, 0, Some(0)),
        ("", 18, 2, None),
        ("-", 18, 2, None),
        (".", 18, 2, None),
        ("e5", 18, 2, None),
        ("1e", 18, 2, None),
        ("1.2.3", 18, 2, None),
        ("abc", 18, 2, None),
        ("1 ", 18, 2, None),
        ("NaN", 18, 2, None),
    ] {
        assert_eq!(fixed(text, precision, scale), expected, "{text}");
    }
}

#[test]
fn seconds_keep_their_fraction() {
    for (text, expected) in [
        ("1767225600", Some(1_767_225_600_000_000)),
        ("1767225600.123456", Some(1_767_225_600_123_456)),
        ("1767225600.1234569", Some(1_767_225_600_123_456)),
        ("1.7672256005E9", Some(1_767_225_600_500_000)),
        ("-0.0000001", Some(-1)),
        ("-1e-60", Some(-1)),
        ("1e-60", Some(0)),
        ("1e30", None),
    ] {
        assert_eq!(timestamp_number(text, TimeUnit::Second), expected, "{text}");
    }
}

#[test]
fn regression_other_units_have_fractions_too() {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond};
    for (text, unit, expected) in [
        ("1500", Millisecond, Some(1_500_000)),
        ("-1", Millisecond, Some(-1_000)),
        ("1767614400000.5", Millisecond, Some(1_767_614_400_000_500)),
        ("1767614400000.0", Millisecond, Some(1_767_614_400_000_000)),
        ("1.7676144e12", Millisecond, Some(1_767_614_400_000_000)),
        // A float has no more than 17 digits.
        (
            "1767614400000.4567",
            Millisecond,
            Some(1_767_614_400_000_456),
        ),
        ("-0.0001", Millisecond, Some(-1)),
        (
            "1767614400000000.0",
            Microsecond,
            Some(1_767_614_400_000_000),
        ),
        (
            "1767614400000001.9",
            Microsecond,
            Some(1_767_614_400_000_001),
        ),
        (
            "1.767614400000001e15",
            Microsecond,
            Some(1_767_614_400_000_001),
        ),
        (
            "1767614400123456789.0",
            Nanosecond,
            Some(1_767_614_400_123_456),
        ),
        (
            "1.767614400123456789e18",
            Nanosecond,
            Some(1_767_614_400_123_456),
        ),
        ("-0.5", Nanosecond, Some(-1)),
        ("1e30", Nanosecond, None),
        ("1.5.0", Millisecond, None),
        ("NaN", Millisecond, None),
        ("9223372036854775807", Millisecond, None),
        ("9223372036854775807", Microsecond, Some(i64::MAX)),
        ("9223372036854775808", Microsecond, None),
        ("1999", Nanosecond, Some(1)),
        ("-1", Nanosecond, Some(-1)),
    ] {
        assert_eq!(timestamp_number(text, unit), expected, "{text} {unit}");
    }
}

#[test]
fn times_as_text_need_a_zone() {
    let shanghai = Some(Tz::Asia__Shanghai);
    let berlin = Some(Tz::Europe__Berlin);
    for (text, zone, expected) in [
        ("1970-01-01T00:00:01Z", None, Ok(1_000_000)),
        ("1970-01-01T08:00:00.5+08:00", None, Ok(500_000)),
        ("1970-01-01 00:00:00.0000019Z", None, Ok(1)),
        ("1969-12-31T23:59:59.999999Z", None, Ok(-1)),
        ("1970-01-01T08:00:01", None, Err(TimeTextError::Zoneless)),
        ("1970-01-01T08:00:01", shanghai, Ok(1_000_000)),
        ("1970-01-01 08:00:01.25", shanghai, Ok(1_250_000)),
        ("1970-01-01T00:00:01Z", shanghai, Ok(1_000_000)),
        ("2026-03-29T02:30:00", berlin, Err(TimeTextError::Skipped)),
        ("2026-10-25T02:30:00", berlin, Ok(1_792_888_200_000_000)),
        ("2026-01-05", None, Err(TimeTextError::Malformed)),
        ("yesterday", None, Err(TimeTextError::Malformed)),
        ("2026-02-30T00:00:00Z", None, Err(TimeTextError::Malformed)),
    ] {
        assert_eq!(timestamp_text(text, zone), expected, "{text}");
    }
}

#[test]
fn dates_are_days() {
    for (text, expected) in [
        ("1970-01-01", Some(0)),
        ("1969-12-31", Some(-1)),
        ("2024-02-29", Some(19_782)),
        ("2026-02-29", None),
        ("2026-1-05", None),
        ("2026-01-05Z", None),
        ("", None),
    ] {
        assert_eq!(date(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn a_decimal_reads_what_its_digits_say(value in -10_i128.pow(17)..10_i128.pow(17), scale in 0_i8..10) {
        let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
        let sign = if value < 0 { "-" } else { "" };
        let (whole, rest) = (value.abs() / unit, value.abs() % unit);
        let text = format!("{sign}{whole}.{rest:0width$}", width = usize::from(scale.unsigned_abs()));
        prop_assert_eq!(decimal(&text, scale, Excess::Refuse), Some(value));
    }

    #[test]
    fn no_text_panics(text in "[-+0-9.eE]{0,50}") {
        let _ = fixed(&text, 38, 10);
        let _ = timestamp_number(&text, TimeUnit::Second);
    }
}
