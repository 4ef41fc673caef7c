//! Between the contract's messages and the domain's types. Pure functions, a file per subject.

pub mod archive;
pub mod container;
pub mod execution;
pub mod file;
mod health;
pub mod image;
pub mod input;
pub mod json;
pub mod output;
pub mod page;
pub mod pool;
pub mod session;
pub mod snapshot;
pub mod tool;

use crate::domain::id::RequestId;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::str::FromStr;
use std::time::Duration;

/// A moment.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(time.0 / 1_000_000).unwrap_or(i64::MAX),
        nanos: (time.0 % 1_000_000) as i32 * 1000,
    }
}

/// A moment a caller named; moments before 1970 read as 1970.
pub fn moment(time: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let micros = u64::try_from(time.nanos / 1000).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

/// A span of time.
pub fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: span.subsec_nanos() as i32,
    }
}

/// A span of time a caller named.
pub fn span(field: &str, duration: &prost_types::Duration) -> Result<Duration> {
    Duration::try_from(*duration).map_err(|_| Error::invalid(field, "must not be negative"))
}

/// An id in a required field.
pub fn id<T: FromStr>(field: &str, text: &str) -> Result<T> {
    if text.is_empty() {
        return Err(Error::invalid(field, "is required"));
    }
    text.parse().map_err(|_| Error::invalid(field, format!("expected a UUID, got {:?}", shorten(text))))
}

/// The request id, if one was given.
pub fn request_id(field: &str, text: &str) -> Result<Option<RequestId>> {
    if text.is_empty() { Ok(None) } else { id(field, text).map(Some) }
}

/// A fingerprint of what a call asks: of the message without its request id.
pub fn fingerprint(message: &impl prost::Message) -> [u8; 32] {
    Sha256::digest(message.encode_to_vec()).into()
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    text.chars().take(SHOWN).collect()
}
