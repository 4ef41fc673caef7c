//! The sidecar: `/health`, `/health/live`, `/health/ready` and `/metrics` over HTTP/1.1, for probes
//! and scrapers that speak no gRPC. Takes no token and shows nothing of callers.

use crate::health::{Health, Report};
use crate::telemetry::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Connections at the same time; one more ends the oldest, so that clients which hold theirs open
/// cannot keep a probe out.
const MAX_CONNECTIONS: usize = 128;
/// For a request's head to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole connection, however it is used; scrapers reconnect.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// Largest request head.
const MAX_HEAD: usize = 16 << 10;
/// For answers in progress when the sidecar is shut down.
const GRACE: Duration = Duration::from_secs(1);
/// Before accepting again after the system refused, say because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the sidecar shows.
#[derive(Clone)]
pub struct Sidecar {
    health: Health,
    metrics: Arc<Metrics>,
    started: Instant,
}

impl Sidecar {
    /// Shows this health and these metrics; uptime counts from now.
    pub fn new(health: Health, metrics: Arc<Metrics>) -> Self {
        Sidecar { health, metrics, started: Instant::now() }
    }

    /// The routes, for embedding into another server.
    pub fn router(self) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .route("/metrics", get(metrics))
            .fallback(nothing_here)
            .with_state(self)
    }
}

/// Serves the sidecar until `shutdown` completes; then ends within a second, whatever clients do.
pub async fn serve(listener: TcpListener, sidecar: Sidecar, shutdown: impl Future<Output = ()>) {
    let router = sidecar.router();
    let (stop, stopping) = watch::channel(());
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the HTTP sidecar could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let task = tokio::spawn(converse(stream, router.clone(), stopping.clone()));
        connections.push_back(task.abort_handle());
    }
    drop(listener);
    drop(stopping);
    // No receiver is left once every conversation is over.
    stop.send_replace(());
    if tokio::time::timeout(GRACE, stop.closed()).await.is_err() {
        for connection in &connections {
            connection.abort();
        }
    }
}

async fn converse(stream: TcpStream, router: Router, mut stopping: watch::Receiver<()>) {
    let mut server = auto::Builder::new(hyper_util::rt::TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let conversation = async {
        tokio::select! {
            result = connection.as_mut() => return result,
            _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    match tokio::time::timeout(CONNECTION_LIFETIME, conversation).await {
        Ok(Ok(())) | Err(_) => {}
        // A client's fault or a network's: worth a line only to whoever looks for it.
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the HTTP sidecar ended badly"),
    }
}

async fn health(State(sidecar): State<Sidecar>) -> Response {
    let report = sidecar.health.report();
    let components: serde_json::Map<_, _> = report
        .components
        .iter()
        .map(|(name, component)| {
            ((*name).to_owned(), json!({ "state": component.state.name(), "detail": component.detail }))
        })
        .collect();
    let body = json!({
        "status": report.status.name(),
        "ready": report.ready(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": sidecar.started.elapsed().as_secs(),
        "components": components,
    });
    answer(code(&report), &body)
}

/// 200 as long as the process answers at all: restarting it would not mend what is not ready.
async fn live() -> Response {
    answer(StatusCode::OK, &json!({ "status": "live" }))
}

async fn ready(State(sidecar): State<Sidecar>) -> Response {
    let report = sidecar.health.report();
    answer(code(&report), &json!({ "status": report.status.name(), "ready": report.ready() }))
}

async fn metrics(State(sidecar): State<Sidecar>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], sidecar.metrics.render()).into_response()
}

async fn nothing_here() -> Response {
    let paths = ["/health", "/health/live", "/health/ready", "/metrics"];
    let hint = "this is the HTTP sidecar; gRPC listens on server.address";
    answer(StatusCode::NOT_FOUND, &json!({ "error": "there is nothing at this path", "paths": paths, "hint": hint }))
}

fn code(report: &Report) -> StatusCode {
    if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn answer(code: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (code, headers, format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::ComponentState;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    struct Served {
        address: std::net::SocketAddr,
        health: Health,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start() -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health::new();
        let sidecar = Sidecar::new(health.clone(), Arc::new(Metrics::new([])));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, sidecar, async move { drop(stopped.await) }));
        Served { address, health, stop, task }
    }

    /// Status code and body.
    async fn fetch(address: std::net::SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    #[tokio::test]
    async fn health_follows_the_watched_value() {
        let served = start().await;
        assert_eq!(fetch(served.address, "/health").await.0, 503);
        assert_eq!(fetch(served.address, "/health/live").await.0, 200);
        served.health.set("tools", ComponentState::Degraded, "1 of 2 tools cannot be loaded");
        served.health.started();
        let (code, body) = fetch(served.address, "/health").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &body["status"], &body["ready"]), (200, &json!("degraded"), &json!(true)));
        assert_eq!(
            body["components"]["tools"],
            json!({"state": "degraded", "detail": "1 of 2 tools cannot be loaded"})
        );
        assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
        assert!(body["uptime_seconds"].is_u64());
        served.health.drain();
        assert_eq!(fetch(served.address, "/health/ready").await.0, 503);
        assert_eq!(fetch(served.address, "/health/live").await.0, 200);
        let (code, body) = fetch(served.address, "/elsewhere").await;
        assert!(code == 404 && body.contains("/metrics"));
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let served = start().await;
        let (code, body) = fetch(served.address, "/metrics").await;
        assert_eq!(code, 200);
        assert!(body.contains("# TYPE casemate_build_info gauge"), "{body}");
    }

    #[tokio::test]
    async fn clients_that_say_nothing_stall_neither_others_nor_the_end() {
        let served = start().await;
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS + 40 {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            stream.write_all(b"GET /health HTTP/1.1\r\nHo").await.unwrap();
            idle.push(stream);
        }
        assert_eq!(fetch(served.address, "/health/live").await.0, 200);
        served.stop.send(()).unwrap();
        tokio::time::timeout(GRACE * 5, served.task).await.expect("the sidecar should end in spite of them").unwrap();
        assert!(TcpStream::connect(served.address).await.is_err());
    }
}
