//! The admin endpoint: health, metrics and status over HTTP, on loopback.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | 200 unless the job has failed |
//! | `/readyz` | 200 while rows flow, else 503 with the reason |
//! | `/metrics` | Prometheus (OpenMetrics) text |
//! | `/status` | the [`JobStatus`] as JSON; its process in [`PROCESS_HEADER`] |
//! | `/tags/KEY` | the profile of a key, as JSON; `?as_of=TIME`, `?scene=NAME` |

mod hosts;
mod server;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use crate::profiles::{self, Answer, Live, Lookup};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, Uri, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use reqwest::Url;
use serde_json::{Value, json};
use tagflow_engine::{
    Error, ErrorKind,
    status::{JobState, JobStatus},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use self::hosts::AllowedHosts;
use crate::{metrics::Metrics, time::parse_time};

/// The timeout of a query to a lane, which may be waiting for later lanes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Identifies the process that answers.
pub const PROCESS_HEADER: &str = "x-tagflow-process";

/// The reaction to an address that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfTaken {
    /// The user requested this address: fail.
    Fail,
    /// The address is the default: use a free port.
    UseAnother,
}

/// A listening endpoint that does not answer yet.
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Listens at `address`.
    ///
    /// # Errors
    /// `Config` where it cannot.
    pub async fn bind(address: SocketAddr, if_taken: IfTaken) -> Result<Self, Error> {
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

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for the job with this status, until the task is aborted.
    pub fn serve(self, status: watch::Receiver<JobStatus>, live: Live) -> JoinHandle<()> {
        let hosts = live.spec.admin.allowed_hosts.iter();
        let hosts = AllowedHosts::new(hosts.map(|host| host.value().as_str()));
        let app = router(status, live).layer(from_fn_with_state(hosts, hosts::check));
        tokio::spawn(server::serve(self.listener, app))
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
        Answer::Known(known) => (StatusCode::OK, profiles::json(key, &known, true)?),
        Answer::Unknown => (StatusCode::NOT_FOUND, fault(unknown(admin, key))),
        Answer::None => {
            let state = admin.status.borrow().state;
            let message = format!("nobody answers for `{key}` now: the pipeline is {state}");
            (StatusCode::SERVICE_UNAVAILABLE, fault(message))
        }
    })
}

/// The message about an unknown key. Its events may be buffered in a step before the tags.
fn unknown(admin: &Admin, key: &str) -> String {
    let totals = admin.status.borrow().totals;
    match totals.held.saturating_sub(totals.released) {
        0 => format!("`{key}` is not known"),
        1 => format!("`{key}` is not known; 1 event waits for the watermark"),
        waiting => format!("`{key}` is not known; {waiting} events wait for the watermark"),
    }
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
    use tagflow_engine::{EventTime, state_query::StateQuery};
    use tagflow_pipelines::{LoadOptions, Pipeline};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    /// A pipeline with a tag that is not running.
    fn at_rest() -> Live {
        const FILE: &str = "name: clicks\nsources: {s: {generator: {}}}\n\
             tags: {from: s, key: user_id, define: {n: {agg: count}}}\n\
             sinks: {out: {from: tags.changes, console: {}}}\n";
        let pipeline = Pipeline::open_str("p.yaml", FILE, &LoadOptions::default());
        Live {
            inquiry: StateQuery::default(),
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

    /// An endpoint that answers for a pipeline that is not running.
    async fn serving() -> (SocketAddr, JoinHandle<()>, watch::Sender<JobStatus>) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::bind(any, IfTaken::Fail).await.unwrap();
        let address = endpoint.address();
        let starting = JobStatus::starting("clicks", EventTime::from_micros(0));
        let (sender, receiver) = watch::channel(starting);
        (address, endpoint.serve(receiver, at_rest()), sender)
    }

    /// Sends `request` as it is; the answer up to the end of the connection.
    async fn send(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset connection has returned its whole answer.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn regression_a_foreign_host_is_refused() {
        let (address, server, _status) = serving().await;
        let get = |host: &str| format!("GET /status HTTP/1.1\r\n{host}\r\n\r\n");
        let answer = send(address, get("Host: evil.example").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("`admin.allowed_hosts`"), "{answer}");
        assert!(!answer.contains("evil"), "{answer}");
        let origin = "Host: localhost\r\nOrigin: http://evil.example";
        let answer = send(address, get(origin).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        let answer = send(address, get("Host: localhost").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server.abort();
    }

    #[tokio::test]
    async fn regression_half_requests_hold_few_connections_and_not_for_long() {
        let (address, server, _status) = serving().await;
        let half = b"GET /status HTTP/1.1\r\nHost: localhost\r\nX: ";
        let begun = std::time::Instant::now();
        let mut held = Vec::new();
        for _ in 0..server::MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(half).await.unwrap();
            held.push(stream);
        }
        let whole = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
        // The kernel may connect before the server has accepted the others.
        let answer = send(address, whole).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 503"),
            "{answer}"
        );
        for mut stream in held {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
        let took = begun.elapsed();
        assert!(took < server::HEAD_TIMEOUT * 3, "{took:?}");
        let answer = send(address, whole).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server.abort();
    }

    #[tokio::test]
    async fn an_overlong_head_is_refused() {
        let (address, server, _status) = serving().await;
        let request = format!(
            "GET /tags/{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "a".repeat(100_000)
        );
        let answer = send(address, request.as_bytes()).await;
        let is_refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 414")
            || answer.starts_with("HTTP/1.1 431");
        assert!(is_refused, "{answer}");
        server.abort();
    }
}
