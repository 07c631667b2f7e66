//! Parses a value from its text, by the rules that all formats share.

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use tagflow_schemas::TimeUnit;

/// How to treat digits after the last place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// They must be zeros.
    Refuse,
    /// They are cut off, towards the past.
    Floor,
}

/// A decimal number (`-12.50`, `1.25e3`) times ten to the power of `scale`, which may be negative.
/// The result is computed from the digits, never through a float. `None` if it is no number, or
/// does not fit.
pub(super) fn decimal(text: &str, scale: i8, excess: Excess) -> Option<i128> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    let mut mantissa = 0_i128;
    let mut power = i32::from(scale);
    let mut point = false;
    let mut any = false;
    // Zeros wait until a digit follows, so that `1.000…0` fits.
    let mut zeros = 0_u32;
    let mut rest = digits.iter();
    let mut exponent = None;
    while let Some(&byte) = rest.next() {
        match byte {
            b'0' => {
                any = true;
                zeros += u32::from(mantissa != 0);
                power -= i32::from(point);
            }
            b'1'..=b'9' => {
                any = true;
                let shift = match zeros {
                    0 => 10,
                    zeros => power_of_ten(zeros + 1)?,
                };
                mantissa = mantissa
                    .checked_mul(shift)?
                    .checked_add(i128::from(byte - b'0'))?;
                zeros = 0;
                power -= i32::from(point);
            }
            b'.' if !point => point = true,
            b'e' | b'E' if any => {
                exponent = Some(std::str::from_utf8(rest.as_slice()).ok()?);
                break;
            }
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    if let Some(exponent) = exponent {
        power = power.checked_add(exponent.parse().ok()?)?;
    }
    if mantissa == 0 {
        return Some(0);
    }
    let mantissa = if negative { -mantissa } else { mantissa };
    let power = power.checked_add(i32::try_from(zeros).ok()?)?;
    if power >= 0 {
        return mantissa.checked_mul(power_of_ten(power.unsigned_abs())?);
    }
    match (excess, power_of_ten(power.unsigned_abs())) {
        // The last digit of the mantissa is not a zero.
        (Excess::Refuse, _) => None,
        (Excess::Floor, Some(divisor)) => Some(mantissa.div_euclid(divisor)),
        (Excess::Floor, None) => Some(if negative { -1 } else { 0 }),
    }
}

/// A decimal of at most `precision` digits, `scale` of them after the point.
pub(super) fn fixed(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let value = decimal(text, scale, Excess::Refuse)?;
    let limit = power_of_ten(u32::from(precision))?;
    (value.abs() < limit).then_some(value)
}

fn power_of_ten(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

/// A timestamp from a number in the input, in microseconds. Smaller fractions are cut off, towards
/// the past.
pub(super) fn timestamp_number(text: &str, unit: TimeUnit) -> Option<i64> {
    let scale = match unit {
        TimeUnit::Second => 6,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 0,
        TimeUnit::Nanosecond => -3,
        TimeUnit::Rfc3339 => return None,
    };
    // Nearly all numbers are whole; they take the faster path.
    match (text.parse::<i64>(), unit) {
        (Ok(whole), TimeUnit::Second) => whole.checked_mul(1_000_000),
        (Ok(whole), TimeUnit::Millisecond) => whole.checked_mul(1_000),
        (Ok(whole), TimeUnit::Nanosecond) => Some(whole.div_euclid(1_000)),
        (Ok(whole), _) => Some(whole),
        (Err(_), _) => i64::try_from(decimal(text, scale, Excess::Floor)?).ok(),
    }
}

/// Why a text is no point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeTextError {
    /// It is not in the form of RFC 3339.
    Malformed,
    /// It is a local time without a zone.
    Zoneless,
    /// The assumed zone's clocks skip this local time.
    Skipped,
}

/// A timestamp as RFC 3339 text, in microseconds. A text without a zone is local time in `assumed`;
/// if its clocks show a time twice, the first is used.
pub(super) fn timestamp_text(text: &str, assumed: Option<Tz>) -> Result<i64, TimeTextError> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_micros());
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"))
        .map_err(|_| TimeTextError::Malformed)?;
    at_local(local, assumed.ok_or(TimeTextError::Zoneless)?)
}

/// The instant at which the clocks of `zone` first showed `local`, in microseconds.
pub(super) fn at_local(local: NaiveDateTime, zone: Tz) -> Result<i64, TimeTextError> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => Ok(time.timestamp_micros()),
        LocalResult::None => Err(TimeTextError::Skipped),
    }
}

/// `YYYY-MM-DD` to days since 1970-01-01.
pub(super) fn date(text: &str) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u32, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + u32::from(digit - b'0'))
        })
    };
    let year = number(&[y1, y2, y3, y4])?;
    let date = NaiveDate::from_ymd_opt(year as i32, number(&[m1, m2])?, number(&[d1, d2])?)?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// A finite float.
pub(super) fn float64(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests;
