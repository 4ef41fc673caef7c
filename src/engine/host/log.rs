//! `log`: `{"level": "trace|debug|info|warn|error", "message": "..."}`; the level is `info` if left out.

use super::Request;
use crate::domain::event::LogLevel;
use serde::Deserialize;
use serde_json::Value;

/// Bytes of one line; the rest is cut off.
const MAX_MESSAGE: usize = 64 << 10;

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    level: Level,
    message: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    #[serde(alias = "warning")]
    Warn,
    Error,
}

pub(super) fn parse(params: Value) -> Result<Request, String> {
    let Params { level, mut message } = serde_json::from_value(params).map_err(|error| {
        format!(
            "invalid params of log: {error}; expected {{\"level\": \"trace|debug|info|warn|error\", \"message\": text}}"
        )
    })?;
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str("... (cut)");
    }
    let level = match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
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
        assert_eq!(message, format!("{}... (cut)", "ä".repeat(MAX_MESSAGE / 2)));
    }
}
