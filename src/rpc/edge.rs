//! What every call passes before its handler: it is counted and timed, its caller is recognised, and
//! the permission of its method is checked. One layer, so that a call pays for one boxed future less
//! per concern.

use super::status::{refined, status};
use crate::auth::permission::{Permission, needed};
use crate::auth::{Authenticator, Principal};
use crate::error::{Error, Result};
use http::{HeaderMap, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use prost::Message;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tonic::Code;
use tower::{Layer, Service};

/// A method of the contract. Its place in [`methods`] is its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// `/package.Service/Method`
    pub path: String,
    /// `Service/Method`, without the package: short enough for a label.
    pub label: String,
}

/// All methods this server has, in a fixed order. The number after the last one stands for all others.
pub fn methods() -> &'static [Method] {
    static METHODS: LazyLock<Vec<Method>> = LazyLock::new(list_methods);
    &METHODS
}

fn list_methods() -> Vec<Method> {
    let mut methods = Vec::new();
    let mut add = |service: &str, method: &str| {
        let short = service.trim_start_matches("casemate.v1.").trim_start_matches("grpc.");
        methods.push(Method { path: format!("/{service}/{method}"), label: format!("{short}/{method}") });
    };
    if let Ok(set) = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTORS) {
        for file in set.file.iter().filter(|file| file.package() == "casemate.v1") {
            for service in &file.service {
                for method in &service.method {
                    add(&format!("casemate.v1.{}", service.name()), method.name());
                }
            }
        }
    }
    for method in ["Check", "List", "Watch"] {
        add("grpc.health.v1.Health", method);
    }
    add("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo");
    add("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo");
    methods
}

/// Hears of every call that ended; the metrics do.
pub trait RpcObserver: Send + Sync + 'static {
    /// The call of a method, by its number, ended with this code after this time.
    fn ended(&self, method: usize, code: Code, time: Duration);
}

/// The layer.
#[derive(Clone)]
pub(super) struct EdgeLayer {
    shared: Arc<Shared>,
}

struct Shared {
    methods: HashMap<&'static str, usize>,
    other: usize,
    authenticator: Authenticator,
    observer: Arc<dyn RpcObserver>,
    /// Largest message, to say so where one is refused.
    max_message: usize,
}

impl EdgeLayer {
    pub(super) fn new(authenticator: Authenticator, observer: Arc<dyn RpcObserver>, max_message: usize) -> Self {
        let other = methods().len();
        let methods = methods().iter().enumerate().map(|(number, method)| (method.path.as_str(), number)).collect();
        EdgeLayer { shared: Arc::new(Shared { methods, other, authenticator, observer, max_message }) }
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Edge { inner, shared: self.shared.clone() }
    }
}

/// The service the layer makes.
#[derive(Clone)]
pub(super) struct Edge<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl Shared {
    /// Recognises the caller and checks that it may call the method.
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Option<Arc<Principal>>> {
        match needed(path) {
            Some(Permission::Public) => Ok(None),
            // A method without a permission does not exist; only who is let in learns that.
            permission => {
                let authorization = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
                let principal = self.authenticator.authenticate(authorization)?;
                match permission {
                    Some(permission) => principal.allowed(path, permission)?,
                    None => return Err(Error::Unimplemented { feature: "this method" }),
                }
                Ok(Some(principal))
            }
        }
    }
}

impl<S, B> Service<Request<B>> for Edge<S>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>>,
{
    type Response = Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = EdgeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let ended = Ended {
            shared: self.shared.clone(),
            method: self.shared.methods.get(path).copied().unwrap_or(self.shared.other),
            began: Instant::now(),
            code: None,
        };
        match self.shared.admit(path, request.headers()) {
            Ok(principal) => {
                if let Some(principal) = principal {
                    request.extensions_mut().insert(principal);
                }
                EdgeFuture { inner: Inner::Called { future: self.inner.call(request) }, ended: Some(ended) }
            }
            Err(error) => {
                let response = status(error).into_http();
                EdgeFuture { inner: Inner::Refused { response: Some(response) }, ended: Some(ended) }
            }
        }
    }
}

pin_project! {
    /// The future of a call.
    pub(super) struct EdgeFuture<F> {
        #[pin]
        inner: Inner<F>,
        ended: Option<Ended>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<F> {
        Called { #[pin] future: F },
        Refused { response: Option<Response<tonic::body::Body>> },
    }
}

impl<F, E> Future for EdgeFuture<F>
where
    F: Future<Output = std::result::Result<Response<tonic::body::Body>, E>>,
{
    type Output = std::result::Result<Response<tonic::body::Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.inner.project() {
            InnerProjection::Called { future } => ready!(future.poll(cx))?,
            InnerProjection::Refused { response } => match response.take() {
                Some(response) => response,
                None => return Poll::Pending,
            },
        };
        let Some(mut ended) = this.ended.take() else { return Poll::Ready(Ok(response)) };
        let path = methods().get(ended.method).map_or("", |method| &method.path);
        let response = match refined(response.headers(), path, ended.shared.max_message) {
            Some(better) => better.into_http(),
            None => response,
        };
        ended.read(response.headers());
        if ended.code.is_some() {
            // A status in the headers: there is no body to follow.
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Ok(response.map(|inner| tonic::body::Body::new(Followed { inner, ended }))))
    }
}

/// Reports the call when it is dropped, however it ended.
struct Ended {
    shared: Arc<Shared>,
    method: usize,
    began: Instant,
    code: Option<Code>,
}

impl Ended {
    fn read(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // No status was sent: the caller went away.
        let code = self.code.unwrap_or(Code::Cancelled);
        self.shared.observer.ended(self.method, code, self.began.elapsed());
    }
}

/// A response body that is watched for the status in its trailers.
struct Followed {
    inner: tonic::body::Body,
    ended: Ended,
}

impl Body for Followed {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.ended.read(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_numbers_and_labels() {
        let methods = methods();
        assert!(methods.iter().any(|method| method.label == "Tools/ExecuteTool"));
        assert!(methods.iter().any(|method| method.path == "/grpc.health.v1.Health/Check"));
        let labels: std::collections::HashSet<_> = methods.iter().map(|method| &method.label).collect();
        assert_eq!(labels.len(), methods.len(), "labels are distinct");
    }
}
