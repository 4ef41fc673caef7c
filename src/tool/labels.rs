//! Labels that callers attach.

use crate::error::{Error, Result, Violation};
use std::collections::BTreeMap;

const MAX_LABELS: usize = 64;
const MAX_LABEL_KEY: usize = 63;
const MAX_LABEL_VALUE: usize = 255;

/// Checks labels against the contract's bounds; `field` is where they stand.
pub fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    let mut violations = Vec::new();
    if labels.len() > MAX_LABELS {
        violations.push(Violation::new(field, format!("are {}; at most {MAX_LABELS}", labels.len())));
    }
    for (key, value) in labels.iter().take(MAX_LABELS) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
        if !(1..=MAX_LABEL_KEY).contains(&key.len()) || !key.bytes().all(plain) {
            violations.push(Violation::new(
                field,
                format!("key {key:?}: expected 1 to {MAX_LABEL_KEY} of a-z, A-Z, 0-9, '_', '-', '.' and '/'"),
            ));
        }
        if value.len() > MAX_LABEL_VALUE {
            violations.push(Violation::new(
                field,
                format!("value of {key:?} is {} bytes long; at most {MAX_LABEL_VALUE}", value.len()),
            ));
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::InvalidArgument(violations)) }
}
