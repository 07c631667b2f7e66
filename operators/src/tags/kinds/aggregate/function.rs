//! Functions, and the spans of events that they aggregate.

use std::time::Duration;

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// The number of rows: `Int64`, 0 without rows.
    Count,
    /// The sum, 0 without rows: `Int64` (saturating), `Decimal128(38, s)` or `Float64`.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The mean: `Float64`.
    Avg,
    /// The sample standard deviation: `Float64`, null with fewer than two.
    Std,
    /// The number of distinct values: `Int64`, 0 without rows. Exact up to a bound; above it an
    /// estimate with a relative standard error of 1 / √bound.
    Distinct {
        /// The bound.
        exact_up_to: u32,
    },
    /// The value with the lowest event time.
    First,
    /// The value with the highest event time.
    Last,
    /// The values with the highest event times, the newest first: a list.
    LastK {
        /// The length of the list.
        k: u32,
    },
}

/// The span of events of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Over {
    /// All events.
    Lifetime,
    /// At T, the events in (T − window, T].
    Rolling {
        /// The length of the window.
        window: Duration,
        /// Events leave together with the last instant of their tile of this width. A microsecond
        /// is exact.
        tile: Duration,
    },
}
