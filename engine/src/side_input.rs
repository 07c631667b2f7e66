//! Tables that operators read in addition to the stream.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{Clock, Result};

/// A lookup table, separate from the stream. It is loaded before the operators are
/// created and kept current while they run.
///
/// The result of a lookup depends on processing time. The table is therefore not
/// part of the state, and a replay may find other rows.
pub trait SideInput: Send + Sync {
    /// The name, for the log.
    fn name(&self) -> &str;

    /// Loads the current table if it has changed. After an error the previous table
    /// stays in use.
    fn load(&self) -> BoxFuture<'_, Result<()>>;

    /// The interval between checks for changes.
    fn refresh_every(&self) -> Duration;
}

/// Keeps `input` current until the future is dropped.
pub(crate) async fn refresh(input: Arc<dyn SideInput>, clock: Arc<dyn Clock>) -> Result<()> {
    loop {
        clock.sleep(input.refresh_every()).await;
        if let Err(error) = input.load().await {
            tracing::warn!(
                table = input.name(),
                error = error.chain(),
                "a table could not be read again; the rows of before stay in use"
            );
        }
    }
}
