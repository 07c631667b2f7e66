//! Work that holds a thread.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::spawn_blocking,
};

use crate::{Error, Result};

/// Runs what would hold up the async threads. Where there is one thread for
/// everything, there is no one to be held up, and what runs beside it would only
/// make the order of events a matter of chance.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("work on state panicked").with_source(error))?
}
