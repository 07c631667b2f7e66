//! The text of a value to the value: the rules that all formats share.

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use tagflow_schemas::TimeUnit;

/// What becomes of digits after the last place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// They must be zeros.
    Refuse,
    /// They are cut off, towards the past.
    Floor,
}

/// A decimal number (`-12.50`, `1.25e3`) times ten to the power of `scale`,
/// computed from its digits and never through a float. `None` if it is no
/// number, or does not fit.
pub(super) fn decimal(text: &str, scale: u8, excess: Excess) -> Option<i128> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    let mut mantissa = 0_i128;
    let mut power = i32::from(scale);
    let mut point = false;
    let mut any = false;
    // Zeros are held back until a digit follows, so that `1.000…0` fits.
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
    let value = decimal(text, u8::try_from(scale).ok()?, Excess::Refuse)?;
    let limit = power_of_ten(u32::from(precision))?;
    (value.abs() < limit).then_some(value)
}

fn power_of_ten(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

/// A timestamp that the input writes as a number, in microseconds.
pub(super) fn timestamp_number(text: &str, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => i64::try_from(decimal(text, 6, Excess::Floor)?).ok(),
        TimeUnit::Millisecond => text.parse::<i64>().ok()?.checked_mul(1_000),
        TimeUnit::Microsecond => text.parse().ok(),
        TimeUnit::Nanosecond => Some(text.parse::<i64>().ok()?.div_euclid(1_000)),
        TimeUnit::Rfc3339 => None,
    }
}

/// Why a text is no point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeTextError {
    /// It is not written as RFC 3339 says.
    Malformed,
    /// It names a local time without a zone.
    Zoneless,
    /// The assumed zone's clocks skip this local time.
    Skipped,
}

/// A timestamp as RFC 3339 text, in microseconds. A text without a zone is
/// local time in `assumed`; where its clocks show a time twice, the first is
/// meant.
pub(super) fn timestamp_text(text: &str, assumed: Option<Tz>) -> Result<i64, TimeTextError> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_micros());
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"))
        .map_err(|_| TimeTextError::Malformed)?;
    match assumed
        .ok_or(TimeTextError::Zoneless)?
        .from_local_datetime(&local)
    {
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
