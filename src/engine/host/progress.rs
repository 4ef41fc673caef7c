//! `progress`: `{"message": "...", "current": 3, "total": 10, "detail": any}`; all of it may be left out.

use super::{Request, from_params};
use crate::domain::event::Progress;
use serde::Deserialize;
use serde_json::Value;

/// Bytes of the message; the rest is cut off.
const MAX_MESSAGE: usize = 4 << 10;

/// Bytes of the detail as JSON; more is refused, for JSON cannot be cut.
const MAX_DETAIL: usize = 64 << 10;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    message: String,
    current: f64,
    total: f64,
    detail: Value,
}

pub(super) fn parse(params: Value) -> Result<Request, String> {
    let mut params: Params = from_params(params).map_err(|error| format!("invalid params of progress: {error}"))?;
    params.message.truncate(params.message.floor_char_boundary(MAX_MESSAGE));
    let detail = match params.detail {
        Value::Null => None,
        detail => Some(detail.to_string()),
    };
    if let Some(detail) = &detail
        && detail.len() > MAX_DETAIL
    {
        return Err(format!("invalid params of progress: detail has {} bytes, at most {MAX_DETAIL}", detail.len()));
    }
    Ok(Request::Progress(Progress { message: params.message, current: params.current, total: params.total, detail }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_may_be_left_out() {
        let Ok(Request::Progress(progress)) = parse(json!({"current": 1, "detail": {"a": 1}})) else {
            panic!("expected progress")
        };
        assert_eq!((progress.current, progress.total, progress.message.as_str()), (1.0, 0.0, ""));
        assert_eq!(progress.detail.as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(parse(json!(null)), parse(json!({})));
        assert!(parse(json!(null)).is_ok());
        assert!(parse(json!({"detail": "x".repeat(MAX_DETAIL)})).unwrap_err().contains("at most"));
    }
}
