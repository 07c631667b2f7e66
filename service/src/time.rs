//! Times as users write them.

use tagflow_engine::EventTime;

/// Parses an RFC 3339 time or a date, in UTC.
///
/// # Errors
/// A message for the user.
pub fn parse_time(text: &str) -> Result<EventTime, String> {
    let time = text
        .parse::<humantime::Timestamp>()
        .map(std::time::SystemTime::from)
        .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")));
    let time = time.map_err(|_| "expected a time like `2026-01-05T12:00:00Z` or a date")?;
    let micros = match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()),
        Err(before) => i64::try_from(before.duration().as_micros()).map(|micros| -micros),
    };
    let micros = micros.map_err(|_| "the time is too far off")?;
    Ok(EventTime::from_micros(micros))
}
