//! A span of event time.

/// A span of event time: from `start` to before `end`, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first instant in it.
    pub start: i64,
    /// The first instant after it.
    pub end: i64,
}
