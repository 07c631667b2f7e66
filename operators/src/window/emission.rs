//! When the results of a window come out.

use std::{sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, FieldRef};
use tagflow_engine::time::micros;

use super::{Period, Windows, spec::utc};

/// The column that numbers the results of one window: negative ones are
/// previews, 0 is what the window was when it closed, positive ones correct it.
pub const REVISION: &str = "revision";
/// The column that tells results of a closed window from previews.
pub const IS_FINAL: &str = "is_final";
/// The column that tells, of sessions, those that are none any more: they have grown, or
/// were joined with others.
pub const IS_RETRACTED: &str = "is_retracted";
/// The column that says what became of a key without a window: `insert`, `update`
/// or `delete`.
pub const OP: &str = "op";
/// The column with the event time up to which rows count in a change.
pub const CHANGED_AT: &str = "changed_at";

/// When the results of a window come out: once when it closes, and what is said
/// here besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Emission {
    /// While it is open and has rows that no window before it has, each time that the
    /// watermark passes a multiple of this: first all keys, then those that changed. What
    /// has come out of a session that has grown since is retracted.
    pub previews: Option<Duration>,
    /// For so long after its end, for the keys that late rows changed. Rows that
    /// come later still are late.
    pub lateness: Duration,
    /// There are no windows: [`Emission::previews`], and as wide as windows are,
    /// apart, the keys come out whose aggregates over all rows changed. A key is
    /// forgotten when its last row is longer ago than this.
    pub ttl: Option<Duration>,
}

impl Emission {
    /// Whether a window may come out more than once.
    pub fn revises(&self) -> bool {
        self.previews.is_some() || !self.lateness.is_zero()
    }

    /// The columns that tell apart what comes out more than once, of `windows`.
    pub fn columns(&self, windows: &Windows) -> Vec<FieldRef> {
        let mut columns = match (self.ttl, self.revises()) {
            (Some(_), _) => vec![(OP, DataType::Utf8), (CHANGED_AT, utc())],
            (None, true) => vec![(REVISION, DataType::Int64), (IS_FINAL, DataType::Boolean)],
            (None, false) => Vec::new(),
        };
        if let (true, Windows::Session { .. }) = (self.revises(), windows) {
            columns.push((IS_RETRACTED, DataType::Boolean));
        }
        let columns = columns.into_iter();
        columns
            .map(|(name, kind)| Arc::new(Field::new(name, kind, false)))
            .collect()
    }

    /// Whether it can be done for such windows.
    ///
    /// # Errors
    /// The reason why not, for a user.
    pub fn check(&self, windows: &Windows) -> Result<(), &'static str> {
        if let Some(ttl) = self.ttl {
            return match (self.previews, windows) {
                _ if !self.lateness.is_zero() => {
                    Err("`allowed_lateness` is for windows; a key takes rows until its `ttl`")
                }
                (Some(every), Windows::Tumble(Period::Fixed(width)))
                    if every == *width && micros(every) <= micros(ttl) =>
                {
                    Ok(())
                }
                _ => Err("`ttl` is shorter than changes are apart"),
            };
        }
        if self.previews.is_some_and(|every| micros(every) <= 0) {
            return Err("previews are at least a microsecond apart");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_said() {
        let minutes = Duration::from_mins;
        let windows = Windows::Tumble(Period::Fixed(minutes(2)));
        let check = |previews: Option<u64>, lateness, ttl: Option<u64>| {
            let emission = Emission {
                previews: previews.map(minutes),
                lateness: minutes(lateness),
                ttl: ttl.map(minutes),
            };
            emission.check(&windows)
        };
        for (previews, lateness, ttl) in [
            (None, 0, None),
            (Some(1), 3, None),
            (Some(2), 0, Some(2)),
            (Some(2), 0, Some(3)),
        ] {
            assert_eq!(check(previews, lateness, ttl), Ok(()));
        }
        let apart = "previews are at least a microsecond apart";
        assert_eq!(check(Some(0), 0, None), Err(apart));
        for (previews, ttl) in [(Some(2), 1), (Some(3), 4), (None, 4)] {
            let shorter = "`ttl` is shorter than changes are apart";
            assert_eq!(check(previews, 0, Some(ttl)), Err(shorter));
        }
        let late = check(Some(2), 1, Some(2)).unwrap_err();
        assert!(late.contains("`allowed_lateness` is for windows"), "{late}");
    }
}
