//! The admin endpoint: health, metrics and status over HTTP, on loopback.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | 200 unless the job has failed |
//! | `/readyz` | 200 while rows flow, else 503 with the reason |
//! | `/metrics` | Prometheus (OpenMetrics) text |
//! | `/status` | the [`JobStatus`] as JSON; its process in [`PROCESS_HEADER`] |
//! | `/tags/KEY` | what is known of a key, as JSON; `?as_of=TIME`, `?scene=NAME` |

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use reqwest::Url;
use serde_json::{Value, json};
use tagflow_engine::{
    Error, ErrorKind,
    status::{JobState, JobStatus},
};
use tagflow_pipelines::known::{self, Answer, Live, Lookup};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::{cli::parse_time, telemetry::Metrics};

/// A lane that waits this long for those behind it does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

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
    pub(crate) fn serve(self, status: watch::Receiver<JobStatus>, live: Live) -> JoinHandle<()> {
        let app = router(status, live);
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
    live: Live,
}

fn router(status: watch::Receiver<JobStatus>, live: Live) -> Router {
    let metrics = Arc::new(Metrics::of(status.clone()));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/status", get(status_json))
        .route("/tags/{key}", get(tags_json))
        .with_state(Admin {
            status,
            metrics,
            live,
        })
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
    (process(), Json(status)).into_response()
}

async fn tags_json(State(admin): State<Admin>, Path(key): Path<String>, uri: Uri) -> Response {
    let (code, answer) = match tags_of(&admin, &key, &uri).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::Config => {
            (StatusCode::BAD_REQUEST, fault(error.chain()))
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, fault(error.chain())),
    };
    (code, process(), Json(answer)).into_response()
}

async fn tags_of(admin: &Admin, key: &str, uri: &Uri) -> Result<(StatusCode, Value), Error> {
    let mut lookup = Lookup {
        key: key.to_owned(),
        as_of: None,
    };
    let mut scene = None;
    for (name, value) in parameters(uri) {
        match name.as_str() {
            "as_of" => lookup.as_of = Some(parse_time(&value).map_err(Error::config)?),
            "scene" => scene = Some(value),
            _ => {
                let message = format!("unknown parameter `{name}` (have: as_of, scene)");
                return Err(Error::config(message));
            }
        }
    }
    let answer = timeout(PATIENCE, admin.live.get(&lookup, scene.as_deref())).await;
    Ok(match answer.unwrap_or(Ok(Answer::None))? {
        Answer::Known(known) => (StatusCode::OK, known::json(key, &known, true)?),
        Answer::Unknown => (
            StatusCode::NOT_FOUND,
            fault(format!("`{key}` is not known")),
        ),
        Answer::None => {
            let state = admin.status.borrow().state;
            let message = format!("nobody answers for `{key}` now: the pipeline is {state}");
            (StatusCode::SERVICE_UNAVAILABLE, fault(message))
        }
    })
}

/// The parameters of an address.
fn parameters(uri: &Uri) -> Vec<(String, String)> {
    let url = Url::parse("http://localhost").map(|mut url| {
        url.set_query(uri.query());
        url
    });
    url.iter()
        .flat_map(Url::query_pairs)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

fn fault(message: String) -> Value {
    json!({"error": message})
}

fn process() -> [(&'static str, String); 1] {
    [(PROCESS_HEADER, std::process::id().to_string())]
}

#[cfg(test)]
mod tests {
    use tagflow_engine::{EventTime, inquiry::Inquiry};
    use tagflow_pipelines::{LoadOptions, Pipeline};

    use super::*;

    /// A pipeline with a tag that does not run.
    fn at_rest() -> Live {
        const FILE: &str = "name: clicks\nsources: {s: {generator: {}}}\n\
             tags: {from: s, key: user_id, define: {n: {agg: count}}}\n\
             sinks: {out: {from: tags.changes, console: {}}}\n";
        let pipeline = Pipeline::open_str("p.yaml", FILE, &LoadOptions::default());
        Live {
            inquiry: Inquiry::default(),
            spec: Arc::new(pipeline.unwrap().spec),
        }
    }

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
        let server = endpoint.serve(receiver, at_rest());

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
        let (code, text) = get(address, "/tags/u1").await;
        assert_eq!(code, 503);
        assert!(text.contains("nobody answers for `u1` now"), "{text}");
        for (path, said) in [
            ("/tags/u1?scene=till", "there is no scene `till`"),
            ("/tags/u1?as_of=soon", "expected a time like"),
            ("/tags/u1?at=noon", "unknown parameter `at`"),
        ] {
            let (code, text) = get(address, path).await;
            assert_eq!(code, 400, "{path}");
            assert!(text.contains(said), "{text}");
        }
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
