//! A gate that lets nothing through, and says so.

use super::Gate;
use crate::container::ports::Connection;
use crate::domain::id::ContainerId;
use futures_core::future::BoxFuture;
use hyper::header::{CONNECTION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// How long a program may take to say what it wants.
const HEAD: Duration = Duration::from_secs(10);
/// How long it may take to hear the answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long it may take to go, once it was answered.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of what it wants, at most.
const MOST: usize = 16 << 10;

/// Refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed;

impl Gate for Closed {
    fn serve(&self, container: ContainerId, connection: Connection) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(MOST);
            let relaying = connection.relay(theirs);
            let answering = async {
                let answer = service_fn(|request| {
                    let answer = answer(&request);
                    let (status, wanted) = (answer.status(), request.uri().authority());
                    tracing::debug!(%container, ?wanted, %status, "a process wanted out");
                    std::future::ready(Ok::<_, Infallible>(answer))
                });
                let mut http = http1::Builder::new();
                http.keep_alive(false).max_buf_size(MOST).timer(TokioTimer::new()).header_read_timeout(HEAD);
                // One that speaks no HTTP is told so by then, and one that says nothing is left.
                let _ = timeout(ANSWER, http.serve_connection(TokioIo::new(ours), answer)).await;
            };
            let mut relaying = std::pin::pin!(relaying);
            tokio::select! {
                () = &mut relaying => {}
                () = answering => drop(timeout(LINGER, relaying).await),
            }
        })
    }
}

/// Why a request is not passed on.
fn answer<B>(request: &Request<B>) -> Response<String> {
    let wanted = |uri: &Uri| uri.authority().map(|authority| authority.as_str().to_owned());
    let (status, reason, message) = match (request.method(), request.uri().scheme(), wanted(request.uri())) {
        (&Method::CONNECT, _, Some(wanted)) | (_, Some(_), Some(wanted)) => {
            let message = format!("a connection to {wanted} is denied: this server has no gate to the network");
            (StatusCode::FORBIDDEN, "not_available", message)
        }
        _ => {
            let message = "this is a proxy: name the whole address, or CONNECT to it".to_owned();
            (StatusCode::BAD_REQUEST, "no_proxy_request", message)
        }
    };
    let mut response = Response::new(json!({ "error": message, "reason": reason }).to_string() + "\n");
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    headers.insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
    // RFC 9209: which of the proxies on the way it was, and what it did.
    let error = if status == StatusCode::FORBIDDEN { "http_request_denied" } else { "http_request_error" };
    if let Ok(told) = format!("casemate; error={error}").parse() {
        headers.insert("proxy-status", told);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_named() {
        let of = |method: Method, uri: &str| {
            let response = answer(&Request::builder().method(method).uri(uri).body(()).unwrap());
            let body: serde_json::Value = serde_json::from_str(response.body()).unwrap();
            (response.status().as_u16(), body["reason"].as_str().unwrap().to_owned(), body["error"].to_string())
        };
        let (status, reason, error) = of(Method::CONNECT, "api.example.com:443");
        assert_eq!((status, reason.as_str()), (403, "not_available"));
        assert!(error.contains("api.example.com:443"), "{error}");
        let (status, _, error) = of(Method::POST, "http://example.com/x?y");
        assert!(status == 403 && error.contains("example.com is denied"), "{error}");
        assert_eq!(of(Method::GET, "/x").0, 400);
        assert_eq!(of(Method::OPTIONS, "*").0, 400);
    }
}
