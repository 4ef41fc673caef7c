//! `http_request`: handed to whoever guards the way out.

use futures_core::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;

/// The way out of a run. The engine knows nothing of networks; it asks here.
pub trait Egress: Send + Sync + 'static {
    /// Does the request, or refuses it. `params` is what the guest sent, unchecked.
    fn http_request(&self, params: Value) -> BoxFuture<'_, Result<Value, Denied>>;
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Stable short name, such as `not_available`.
    pub reason: String,
    /// What was refused and what to do.
    pub message: String,
}

/// Refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenyAll;

impl Egress for DenyAll {
    fn http_request(&self, _params: Value) -> BoxFuture<'_, Result<Value, Denied>> {
        Box::pin(std::future::ready(Err(Denied {
            reason: "not_available".into(),
            message: "http_request is denied: this server has no gate to the network".into(),
        })))
    }
}

pub(super) async fn answer(egress: Arc<dyn Egress>, params: Value) -> Value {
    match egress.http_request(params).await {
        Ok(value) => json!({ "ok": value }),
        Err(denied) => json!({ "error": denied.message, "reason": denied.reason }),
    }
}
