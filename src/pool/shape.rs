//! What pools may be: bounds of their settings, and containers that nothing passes through.

use crate::container::{Containers, Wish};
use crate::domain::pool::PoolSettings;
use crate::error::{Error, Result, Violation};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const MAX_DESCRIPTION: usize = 4 << 10;
const MAX_TARGET: u32 = 1000;
const MAX_SIZE: u32 = 10_000;
const MAX_WAITING: u32 = 10_000;
const LEASE_TIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
const LEAST_AGE: Duration = Duration::from_secs(10);
const MAX_NAME: usize = 63;

/// What is wrong with a name, if anything.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if begins && name.len() <= MAX_NAME && name.bytes().all(plain) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    let text = "expected 1 to 63 of a-z, 0-9, \"_\" and \"-\", beginning with a letter";
    Err(Error::invalid("pool.name", format!("is {shown:?}; {text}")))
}

/// All that is wrong with settings.
pub(super) fn check(settings: &PoolSettings) -> Result<()> {
    let mut violations = Vec::new();
    let mut refuse = |field: &str, text: String| violations.push(Violation::new(format!("pool.{field}"), text));
    if settings.description.len() > MAX_DESCRIPTION {
        refuse("description", format!("is {} bytes; at most {MAX_DESCRIPTION}", settings.description.len()));
    }
    if settings.target_size > MAX_TARGET {
        refuse("target_size", format!("is {}; at most {MAX_TARGET}", settings.target_size));
    }
    if settings.max_size > MAX_SIZE {
        refuse("max_size", format!("is {}; at most {MAX_SIZE}, or 0 for the server's bound", settings.max_size));
    } else if settings.max_size > 0 && settings.max_size < settings.target_size {
        let text = format!("is {}, below target_size, which is {}", settings.max_size, settings.target_size);
        refuse("max_size", text);
    }
    if let Some(most) = settings.max_waiting.filter(|most| *most > MAX_WAITING) {
        refuse("max_waiting", format!("is {most}; at most {MAX_WAITING}"));
    }
    if !(LEASE_TIME.0..=LEASE_TIME.1).contains(&settings.lease_time()) {
        refuse("max_lease_time", format!("is {:?}; expected 1 second to 24 hours", settings.lease_time()));
    }
    if settings.idle_age() < LEAST_AGE {
        refuse("max_idle_age", format!("is {:?}; at least 10 seconds", settings.idle_age()));
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::InvalidArgument(violations)) }
}

/// Whether containers of this kind can be made for a pool. Names fields as a pool has them.
pub(super) async fn examine(containers: &Containers, wish: Wish, owner: &Arc<str>) -> Result<()> {
    let (wish, spec) = containers.consider(wish, owner).map_err(in_a_pool)?;
    let mut violations = Vec::new();
    let mut refuse = |field: String, text: &str| {
        violations.push(Violation::new(format!("pool.container.{field}"), format!("{text}; leave it unset")));
    };
    if wish.workspace.as_ref().is_some_and(|workspace| !workspace.name.is_empty()) {
        refuse("workspace.name".into(), "would keep what one borrower left for the next");
    }
    if wish.time_to_live.is_some() {
        refuse("time_to_live".into(), "is not for pools, whose clocks are max_lease_time and max_idle_age");
    }
    if wish.idle_timeout.is_some() {
        refuse("idle_timeout".into(), "is not for pools, whose clocks are max_lease_time and max_idle_age");
    }
    for (at, _) in spec.mounts.iter().enumerate().filter(|(_, mount)| mount.writable) {
        refuse(format!("mounts[{at}].writable"), "would keep what one borrower left for the next");
    }
    if !violations.is_empty() {
        return Err(Error::InvalidArgument(violations));
    }
    containers.try_out(&wish, &spec).await.map_err(in_a_pool)
}

/// What a pool's container is made from: the pool's clocks take the place of its own, and nothing of it is kept.
pub(super) fn wish_of_one(containers: &Containers, wish: &Wish, labels: &BTreeMap<String, String>) -> Wish {
    let mut wish = wish.clone();
    wish.labels.extend(labels.clone());
    // What nobody can exceed holds here as well.
    wish.time_to_live = Some(containers.policy().time_to_live.1.unwrap_or_default());
    wish.idle_timeout = Some(Duration::ZERO);
    wish.retention = Some(Duration::ZERO);
    wish
}

/// An error about a specification, in the words of whoever made a pool.
pub fn in_a_pool(error: Error) -> Error {
    let field = |field: String| match field.strip_prefix("spec.") {
        Some(rest) => format!("pool.container.{rest}"),
        None => field,
    };
    match error {
        Error::InvalidArgument(violations) => {
            let renamed = violations.into_iter().map(|one| Violation { field: field(one.field), ..one });
            Error::InvalidArgument(renamed.collect())
        }
        Error::PolicyDenied { field: at, problem } => Error::PolicyDenied { field: field(at), problem },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(settings: PoolSettings) -> Vec<String> {
        match check(&settings) {
            Ok(()) => Vec::new(),
            Err(Error::InvalidArgument(violations)) => violations.into_iter().map(|one| one.field).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn names_are_plain() {
        for name in ["a", "python-3", "a_b", &"a".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "A", "3a", "-a", "a.b", "a/b", "\u{e4}", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn every_bound_is_told_with_its_field() {
        assert_eq!(fields(PoolSettings::default()), Vec::<String>::new());
        let most = PoolSettings {
            description: "x".repeat(4096),
            target_size: 1000,
            max_size: 10_000,
            max_waiting: Some(10_000),
            max_lease_time: Some(LEASE_TIME.1),
            max_idle_age: Some(LEAST_AGE),
            ..Default::default()
        };
        assert_eq!(fields(most.clone()), Vec::<String>::new());
        let beyond = PoolSettings {
            description: "x".repeat(4097),
            target_size: 1001,
            max_size: 10_001,
            max_waiting: Some(10_001),
            max_lease_time: Some(Duration::ZERO),
            max_idle_age: Some(Duration::from_secs(9)),
            ..Default::default()
        };
        let all = ["description", "target_size", "max_size", "max_waiting", "max_lease_time", "max_idle_age"];
        assert_eq!(fields(beyond), all.map(|field| format!("pool.{field}")));
        assert_eq!(fields(PoolSettings { max_size: 999, ..most }), ["pool.max_size"]);
    }

    #[test]
    fn errors_name_the_field_where_it_stands() {
        let error = in_a_pool(Error::invalid("spec.mounts[0].host_path", "x"));
        assert!(matches!(error, Error::InvalidArgument(all) if all[0].field == "pool.container.mounts[0].host_path"));
        let error = in_a_pool(Error::PolicyDenied { field: "spec.image".into(), problem: String::new() });
        assert!(matches!(error, Error::PolicyDenied { field, .. } if field == "pool.container.image"));
    }
}
