//! A job with its environment: the admin endpoint, progress and signals.

use std::{io::Write as _, sync::Arc};

use tagflow_engine::{
    Result,
    runtime::{Control, Outcome},
};
use tagflow_pipelines::Spec;
use tagflow_service::{http::Endpoint, profiles::Live};

use crate::{progress, signals::Requests};

/// How a session ended without an error.
pub(crate) enum Ended {
    /// After a final commit.
    Stopped(Box<Outcome>),
    /// At once, at the second request.
    Aborted,
}

/// Runs `job` to its end. The first Ctrl-C or SIGTERM stops it after a final commit, the second at
/// once.
pub(crate) async fn run(
    control: Control,
    job: impl Future<Output = Result<Outcome>> + Send,
    endpoint: Option<Endpoint>,
    spec: Arc<Spec>,
) -> Result<Ended> {
    let Control {
        stop,
        status,
        inquiry,
    } = control;
    let mut requests = Requests::listen()?;
    let live = Live { inquiry, spec };
    let admin = endpoint.map(|endpoint| endpoint.serve(status.clone(), live));
    let progress = tokio::spawn(progress::follow(status));
    let mut job = Box::pin(job);
    let mut asked = false;
    let ended = loop {
        tokio::select! {
            // A second request before the end takes precedence.
            biased;
            () = requests.next() => {
                if asked {
                    break Ok(Ended::Aborted);
                }
                asked = true;
                // Failing to show it is no error.
                let _ = writeln!(
                    progress::Stderr,
                    "stopping after a last commit; once more stops at once, without it"
                );
                stop.cancel();
            }
            result = &mut job => break result.map(|outcome| Ended::Stopped(Box::new(outcome))),
        }
    };
    if let Some(admin) = admin {
        admin.abort();
    }
    progress.abort();
    // The line is removed before any further output.
    let _ = progress.await;
    ended
}
