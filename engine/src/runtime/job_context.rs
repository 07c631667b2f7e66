//! The dependencies of a job.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Clock, state_query::StateQuery, status::JobStatus};

/// The dependencies of a job.
pub(super) struct JobContext {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: CancellationToken,
    pub(super) status: watch::Sender<JobStatus>,
    pub(super) inquiry: StateQuery,
}
