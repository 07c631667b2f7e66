//! The admin endpoint: health, metrics and status over HTTP, on loopback.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | 200 unless the job has failed |
//! | `/readyz` | 200 while rows flow, else 503 with the reason |
//! | `/metrics` | Prometheus (OpenMetrics) text |
//! | `/status` | the [`JobStatus`] as JSON; its process in [`PROCESS_HEADER`] |

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tagflow_engine::{
    Error,
    status::{JobState, JobStatus},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::telemetry::Metrics;

/// Names the process that answers, so that nobody takes another for it.
pub(crate) const PROCESS_HEADER: &str = "x-tagflow-process";

/// What to do where the address is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfTaken {
    /// It was asked for: fail.
    Fail,
    /// Nobody asked for that one: take a free port.
    UseAnother,
}

/// An endpoint that listens and does not answer yet.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Listens at `address`.
    ///
    /// # Errors
    /// `Config` where it cannot.
    pub(crate) async fn bind(address: SocketAddr, if_taken: IfTaken) -> Result<Self, Error> {
        let mut bound = TcpListener::bind(address).await;
        if let (Err(error), IfTaken::UseAnother) = (&bound, if_taken)
            && error.kind() == io::ErrorKind::AddrInUse
        {
            bound = TcpListener::bind(SocketAddr::new(address.ip(), 0)).await;
        }
        let refused = |error: io::Error| {
            Error::config(format!(
                "the admin endpoint cannot listen at `{address}`; choose another with `--admin`"
            ))
            .with_source(error)
        };
        let listener = bound.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for the job with this status, until the task is aborted.
    pub(crate) fn serve(self, status: watch::Receiver<JobStatus>) -> JoinHandle<()> {
        let app = router(status);
        tokio::spawn(async move {
            if let Err(error) = axum::serve(self.listener, app).await {
                tracing::warn!(%error, "the admin endpoint has ended");
            }
        })
    }
}

#[derive(Clone)]
struct Admin {
    status: watch::Receiver<JobStatus>,
    metrics: Arc<Metrics>,
}

fn router(status: watch::Receiver<JobStatus>) -> Router {
    let metrics = Arc::new(Metrics::of(status.clone()));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/status", get(status_json))
        .with_state(Admin { status, metrics })
}

async fn healthz(State(admin): State<Admin>) -> Response {
    answer(&admin, |state| state != JobState::Failed)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    answer(&admin, |state| state == JobState::Running)
}

fn answer(admin: &Admin, is_good: impl Fn(JobState) -> bool) -> Response {
    let status = admin.status.borrow();
    let code = if is_good(status.state) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let text = match &status.message {
        Some(message) => format!("{}: {message}\n", status.state),
        None => format!("{}\n", status.state),
    };
    (code, text).into_response()
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match admin.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status_json(State(admin): State<Admin>) -> Response {
    let status = admin.status.borrow().clone();
    let process = std::process::id().to_string();
    ([(PROCESS_HEADER, process)], Json(status)).into_response()
}

#[cfg(test)]
mod tests {
    use tagflow_engine::EventTime;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{address}{path}"))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn it_answers_for_the_job() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::bind(any, IfTaken::Fail).await.unwrap();
        let address = endpoint.address();
        let starting = JobStatus::starting("clicks", EventTime::from_micros(0));
        let (sender, receiver) = watch::channel(starting);
        let server = endpoint.serve(receiver);

        assert_eq!(get(address, "/healthz").await, (200, "starting\n".into()));
        assert_eq!(get(address, "/readyz").await, (503, "starting\n".into()));
        sender.send_modify(|status| status.state = JobState::Running);
        assert_eq!(get(address, "/readyz").await, (200, "running\n".into()));
        let (code, text) = get(address, "/status").await;
        let status: JobStatus = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &status), (200, &*sender.borrow()));
        let (code, text) = get(address, "/metrics").await;
        assert_eq!(code, 200);
        assert!(
            text.contains("tagflow_up{pipeline=\"clicks\"} 1.0"),
            "{text}"
        );
        sender.send_modify(|status| {
            status.state = JobState::Failed;
            status.message = Some("no such topic".into());
        });
        let failed = (503, "failed: no such topic\n".into());
        assert_eq!(get(address, "/healthz").await, failed);
        assert_eq!(get(address, "/nothing").await.0, 404);
        server.abort();
    }

    #[tokio::test]
    async fn a_taken_port_is_left_alone() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = Endpoint::bind(any, IfTaken::Fail).await.unwrap();
        let second = Endpoint::bind(first.address(), IfTaken::UseAnother)
            .await
            .unwrap();
        assert_ne!(first.address(), second.address());
        let third = Endpoint::bind(first.address(), IfTaken::Fail).await;
        let message = third.err().unwrap().chain();
        assert!(
            message.contains("choose another with `--admin`"),
            "{message}"
        );
    }
}
