//! Request ids of mutations other than executions, so that a retry is not done twice.

use crate::domain::id::RequestId;
use crate::domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;
use std::time::Duration;

/// How long a request id is remembered.
const MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A mutation with its request id.
pub struct Mutation {
    /// Who asks.
    pub principal: Arc<str>,
    /// The request id.
    pub request_id: RequestId,
    /// The method.
    pub method: &'static str,
    /// SHA-256 of what is asked.
    pub fingerprint: [u8; 32],
}

/// What `note` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The request id is new, and recorded now.
    New,
    /// The same call came before and was carried out.
    Done,
    /// The same call came before and was cut off: what it did is not known, and doing it again is safe.
    Unfinished,
    /// Another call came before under the same id.
    Reused {
        /// The method of that call.
        method: String,
    },
}

/// Records a mutation before it acts, unless it is known.
pub fn note(db: &Connection, mutation: &Mutation, now: Timestamp) -> rusqlite::Result<Noted> {
    let known: Option<(String, [u8; 32], bool)> = db
        .prepare_cached("SELECT method, fingerprint, done FROM requests WHERE principal = ?1 AND request_id = ?2")?
        .query_row(params![&*mutation.principal, mutation.request_id.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    match known {
        Some((method, fingerprint, done)) if method == mutation.method && fingerprint == mutation.fingerprint => {
            Ok(if done { Noted::Done } else { Noted::Unfinished })
        }
        Some((method, ..)) => Ok(Noted::Reused { method }),
        None => {
            let old = i64::try_from(now.before(MEMORY).0).unwrap_or(i64::MAX);
            db.prepare_cached("DELETE FROM requests WHERE created < ?1")?.execute([old])?;
            db.prepare_cached("INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5, false)")?.execute(params![
                &*mutation.principal,
                mutation.request_id.as_bytes(),
                mutation.method,
                mutation.fingerprint,
                i64::try_from(now.0).unwrap_or(i64::MAX),
            ])?;
            Ok(Noted::New)
        }
    }
}

/// Records that a mutation was carried out.
pub fn finish(db: &Connection, principal: &str, request_id: RequestId) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE requests SET done = true WHERE principal = ?1 AND request_id = ?2")?
        .execute(params![principal, request_id.as_bytes()])?;
    Ok(())
}

/// Forgets a mutation that failed, so that a retry tries again.
pub fn forget(db: &Connection, principal: &str, request_id: RequestId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM requests WHERE principal = ?1 AND request_id = ?2")?
        .execute(params![principal, request_id.as_bytes()])?;
    Ok(())
}
