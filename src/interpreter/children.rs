//! Calls of other tools by a run's code.

use bytes::Bytes;
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;

/// The tools that a run's code may call. Who runs the code decides which, and with what budget.
pub trait Children: Send + Sync + 'static {
    /// Each as `{"name", "description", "input_schema"}`.
    fn list(&self) -> Vec<Value>;

    /// Calls one with parameters as JSON text, and waits for its end.
    fn call<'a>(
        &'a self,
        tool: &'a str,
        parameters: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<Returned, Refused>> + Send + 'a>>;
}

/// What a tool gave.
pub struct Returned {
    /// Its standard output.
    pub output: Bytes,
    /// Whether that is one JSON value.
    pub json: bool,
}

/// Why a tool was not called, or failed.
pub struct Refused {
    /// One sentence for people.
    pub message: String,
    /// Stable name of the cause, as in the errors of the API.
    pub reason: String,
}
