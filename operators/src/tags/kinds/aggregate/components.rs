//! The components of a shared state.

use super::tiled_state::TiledStateKind;

/// The windows and aggregates that tags share. They may change from one build to the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Components {
    /// The windows in microseconds.
    pub(crate) windows: Vec<i64>,
    pub(crate) parts: Vec<TiledStateKind>,
}
