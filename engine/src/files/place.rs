//! A table with a store that retries.

use super::Table;
use crate::commit::store::LogStore;

/// The table, with a store that retries.
pub(super) struct Place {
    pub(super) table: Table,
    pub(super) store: LogStore,
}
