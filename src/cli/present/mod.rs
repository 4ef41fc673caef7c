//! Messages of the contract as people and programs read them.
//!
//! The JSON follows the protobuf mapping (camelCase, enum names, RFC 3339 times, durations as `1.5s`,
//! bytes as base64, unset fields left out), except that 64-bit numbers stay numbers.

pub mod container;
pub mod event;
pub mod execution;
pub mod file;
pub mod health;
pub mod image;
pub mod log;
pub mod pool;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod structure;
pub mod tool;

use crate::proto::v1::LogLevel;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime};

/// Collects the set fields of a message.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    /// A field, unless its value is the default one, which protobuf's JSON leaves out as well.
    fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let unset = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(values) => values.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(true) => false,
        };
        if !unset {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// A field that is there even when empty: the choice of a oneof.
    fn choose(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// RFC 3339 in UTC with microseconds; nothing for a time that is not set.
fn time(time: &Option<prost_types::Timestamp>) -> Option<String> {
    let time = SystemTime::try_from((*time)?).ok()?;
    Some(humantime::format_rfc3339_micros(time).to_string())
}

/// A time for tables: UTC, to the second.
fn short_time(time: &Option<prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    time.map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default()
}

fn span(duration: &Option<prost_types::Duration>) -> Option<Duration> {
    Duration::try_from((*duration)?).ok()
}

/// `1.5s`, as protobuf's JSON writes it.
fn seconds(duration: &Option<prost_types::Duration>) -> Option<String> {
    span(duration).map(|span| format!("{}s", span.as_secs_f64()))
}

/// A span for people: at most two units, three digits of the last one are plenty.
fn short_span(span: Duration) -> String {
    let rounded = match span {
        s if s < Duration::from_millis(1) => Duration::from_micros(s.as_micros() as u64),
        s if s < Duration::from_secs(10) => Duration::from_millis(s.as_millis() as u64),
        s => Duration::from_secs(s.as_secs()),
    };
    humantime::format_duration(rounded).to_string()
}

/// A size for people.
pub fn short_size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// `info`, `warn`, ...
pub fn level_word(level: LogLevel) -> String {
    word(level.as_str_name(), "LOG_LEVEL_")
}

/// `EXECUTION_STATE_TIMED_OUT` as `timed_out`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}
