//! What operators look up beside the stream.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{Clock, Result};

/// A table that operators look up, which is none of the stream's elements: it
/// is loaded before the operators are made, and kept current while they run.
///
/// What a row finds in it depends on when it is processed, so it is no part of
/// the state, and a replay may find something else.
pub trait SideInput: Send + Sync {
    /// The name, for the log.
    fn name(&self) -> &str;

    /// Loads what is there now, unless that is what was loaded last. After an
    /// error the one before stays.
    fn load(&self) -> BoxFuture<'_, Result<()>>;

    /// How often to look whether it has changed.
    fn refresh_every(&self) -> Duration;
}

/// Keeps `input` current until it is dropped.
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
