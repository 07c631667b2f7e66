//! The value that a tag reads from a shared state.

use super::function::Function;

/// A function over a window of a shared state.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(super) function: Function,
    /// The length of the window.
    pub(super) window_us: i64,
    /// Its index among the windows.
    pub(super) window: usize,
}
