//! The gRPC edge: one file per service, conversions beside them, and the only maker of statuses.
//!
//! A handler has four beats: convert, authorise (the edge did), call the domain, convert back.

mod agents;
mod containers;
pub mod convert;
mod credentials;
mod edge;
mod executions;
mod health;
mod pools;
mod server;
mod sessions;
mod snapshots;
mod status;
mod stream;
mod system;
mod tools;
mod trailers;
mod unbuilt;

pub use edge::{Method, RpcObserver, methods};
pub use server::{Behind, Connection, Server, ServerConfig};
pub use status::{DOMAIN, status};

use crate::auth::Principal;
use crate::auth::permission::Permission;
use std::sync::Arc;
use std::time::Duration;

/// Longest silence on a stream unless the caller says otherwise.
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(15);
/// Longest silence a caller can ask for.
const MAX_KEEPALIVE: Duration = Duration::from_secs(3600);

/// The longest silence that a caller wants on a stream, within bounds.
fn silence(field: &str, asked: Option<&prost_types::Duration>) -> crate::error::Result<Duration> {
    match asked {
        None => Ok(DEFAULT_KEEPALIVE),
        Some(asked) => Ok(convert::span(field, asked)?.clamp(Duration::from_secs(1), MAX_KEEPALIVE)),
    }
}

/// Who asks for sessions: the principal that the edge recognised, and whether it may see those of others.
fn session_caller<T>(request: &tonic::Request<T>) -> crate::session::Caller {
    let principal = request.extensions().get::<Arc<Principal>>();
    let administers = principal.is_some_and(|principal| principal.may >= Permission::Administer);
    crate::session::Caller { name: caller(request), administers }
}

/// The principal that the edge recognised; nobody if a request came past it, which then owns nothing.
fn caller<T>(request: &tonic::Request<T>) -> Arc<str> {
    request.extensions().get::<Arc<Principal>>().map_or_else(|| "nobody".into(), |principal| principal.name.clone())
}
