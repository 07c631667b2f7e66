//! Connections to the admin endpoint: few at a time, none for long.

use std::{error, io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

/// The most concurrent connections. They share the process's file descriptors with sources and
/// sinks.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// The time limit for a request's head.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit of a connection, from its request to the end of the answer.
pub(super) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The size limit of a request's head.
const HEAD_BYTES: usize = 16 << 10;

/// How long to wait when the system provides no connection, as without a free file descriptor.
const PAUSE: Duration = Duration::from_millis(200);

const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Answers with `app` forever. Connections beyond [`MAX_CONNECTIONS`] are refused.
pub(super) async fn serve(listener: TcpListener, app: Router) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the admin endpoint cannot accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                let app = app.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    // A client that is too slow or speaks no HTTP is not our problem.
                    let _ = timeout(CONNECTION_TIMEOUT, answer(stream, app)).await;
                });
            }
            Err(_) => refuse(&stream),
        }
    }
}

async fn answer(stream: TcpStream, app: Router) -> Result<(), Box<dyn error::Error + Send + Sync>> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        // One request per connection: an idle one blocks no other.
        .keep_alive(false);
    let service = TowerToHyperService::new(app);
    builder
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// Sends the refusal if that does not block.
fn refuse(stream: &TcpStream) {
    let _: io::Result<usize> = stream.try_write(BUSY);
}
