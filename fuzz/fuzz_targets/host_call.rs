//! Requests of a guest to the host: whatever memory it points at, it gets a request within bounds or a short reason.
#![no_main]

use casemate::engine::host::{MAX_REQUEST, Request, parse};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;

const MAX_LINE: usize = (64 << 10) + "... (cut)".len();
const MAX_MESSAGE: usize = 4 << 10;
const MAX_DETAIL: usize = 64 << 10;
/// A reason is for people and for logs.
const MAX_REASON: usize = 1 << 10;

/// A request by its documentation; further keys are passed over.
#[derive(Deserialize)]
struct Said {
    method: String,
    #[serde(default)]
    params: Value,
}

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse(bytes);
    // Blanks around a request change nothing, until they make it too large.
    let padded = [b"\n ", bytes, b"\t"].concat();
    let request = match parsed {
        Ok(request) => request,
        Err(reason) => {
            assert!(!reason.is_empty() && reason.len() <= MAX_REASON, "a reason of {} bytes", reason.len());
            assert!(padded.len() > MAX_REQUEST || parse(&padded).is_err());
            if let Ok(Value::Object(said)) = serde_json::from_slice(bytes) {
                let known = said.get("method").is_some_and(|name| name == "log" || name == "progress");
                let bare = said.get("params").is_none_or(Value::is_null);
                assert!(!(known && bare) || reason.contains("duplicate"), "params may be left out: {reason}");
            }
            return;
        }
    };
    if padded.len() <= MAX_REQUEST {
        assert_eq!(parse(&padded).as_ref(), Ok(&request));
    }
    let text = std::str::from_utf8(bytes).expect("what is accepted is UTF-8");
    assert!(text.trim_start().starts_with('{'), "what is accepted is an object");
    let said: Said = serde_json::from_str(text).expect("what is accepted is JSON");
    let params = &said.params;
    match request {
        Request::Log { message, .. } => {
            assert_eq!(said.method, "log");
            assert!(params.is_null() || params.is_object());
            assert!(message.len() <= MAX_LINE, "a line of {} bytes", message.len());
        }
        Request::Progress(progress) => {
            assert_eq!(said.method, "progress");
            assert!(params.is_null() || params.is_object());
            assert!(progress.message.len() <= MAX_MESSAGE);
            assert!(progress.current.is_finite() && progress.total.is_finite());
            let detail = progress.detail.map(|detail| {
                assert!(detail.len() <= MAX_DETAIL);
                serde_json::from_str::<Value>(&detail).expect("the detail is JSON")
            });
            assert_eq!(detail.as_ref(), params.get("detail").filter(|detail| !detail.is_null()));
        }
        Request::Http(sent) => {
            assert_eq!(said.method, "http_request");
            assert_eq!(sent, *params);
            assert_eq!(serde_json::from_str::<Value>(&sent.to_string()).expect("it can be passed on"), sent);
        }
    }
});
