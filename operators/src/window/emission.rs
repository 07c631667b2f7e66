//! When the results of a window are emitted.

use std::{sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, FieldRef};
use tagflow_engine::time::micros;

use super::{Period, Windows, columns::utc};

/// The column that numbers the results of a window: negative numbers are previews, 0 is the result
/// at the close, positive numbers are corrections.
pub const REVISION: &str = "revision";
/// The column that distinguishes results of a closed window from previews.
pub const IS_FINAL: &str = "is_final";
/// The column that marks sessions that no longer exist: they have grown, or were joined with
/// others.
pub const IS_RETRACTED: &str = "is_retracted";
/// The column with the change of a key without a window: `insert`, `update` or `delete`.
pub const OP: &str = "op";
/// The column with the event time up to which rows count in a change.
pub const CHANGED_AT: &str = "changed_at";

/// When the results of a window are emitted: once when it closes, and additionally as configured
/// here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Emission {
    /// Previews: while a window is open and has rows that no earlier window has, each time that the
    /// watermark passes a multiple of this. First all keys are emitted, then the changed ones. The
    /// last preview of a session that has grown since is retracted.
    pub previews: Option<Duration>,
    /// Corrections: for this long after its end, for the keys that late rows changed. Rows after
    /// that are late.
    pub lateness: Duration,
    /// Without windows: at the interval of [`Emission::previews`], which is the width of a pane,
    /// the keys are emitted whose aggregates over all rows changed. A key is forgotten when its
    /// last row is older than this.
    pub ttl: Option<Duration>,
}

impl Emission {
    /// Whether a window may be emitted more than once.
    pub fn revises(&self) -> bool {
        self.previews.is_some() || !self.lateness.is_zero()
    }

    /// The columns that distinguish repeated results of `windows`.
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

    /// Checks that such windows support the emission.
    ///
    /// # Errors
    /// The reason why they do not, for a user.
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
