//! `log`: `{"level": "trace|debug|info|warn|error", "message": "..."}`. A level that is left out or unknown
//! is `info`, and a message that is left out is empty: a line is never lost over its form.

use super::{Request, from_params};
use crate::domain::event::LogLevel;
use serde::Deserialize;
use serde_json::Value;

/// Bytes of one line; the rest is cut off.
const MAX_MESSAGE: usize = 64 << 10;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    level: Value,
    message: Value,
}

pub(super) fn parse(params: Value) -> Result<Request, String> {
    let Params { level, message } = from_params(params).map_err(|error| {
        format!(
            "invalid params of log: {error}; expected {{\"level\": \"trace|debug|info|warn|error\", \"message\": text}}"
        )
    })?;
    let mut message = match message {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str("... (cut)");
    }
    let level = match level.as_str() {
        Some("trace") => LogLevel::Trace,
        Some("debug") => LogLevel::Debug,
        Some("warn" | "warning") => LogLevel::Warn,
        Some("error") => LogLevel::Error,
        _ => LogLevel::Info,
    };
    Ok(Request::Log { level, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_level_is_info_and_a_long_line_is_cut_between_characters() {
        let Ok(Request::Log { level, message }) = parse(json!({"message": "ä".repeat(MAX_MESSAGE)})) else {
            panic!("expected a log line")
        };
        assert_eq!(level, LogLevel::Info);
        assert_eq!(parse(json!(null)), Ok(Request::Log { level: LogLevel::Info, message: String::new() }));
        let odd = json!({"level": "loud", "message": 3});
        assert_eq!(parse(odd), Ok(Request::Log { level: LogLevel::Info, message: "3".into() }));
        assert_eq!(message, format!("{}... (cut)", "ä".repeat(MAX_MESSAGE / 2)));
    }
}
