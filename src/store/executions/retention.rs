//! How long executions that are over are kept.

use super::{Tally, delete, integer, time};
use crate::domain::time::Timestamp;
use rusqlite::Connection;
use std::time::Duration;

/// Bounds on what is kept of executions that are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Executions.
    pub max_count: u64,
    /// Age, counted from creation.
    pub max_age: Duration,
    /// Bytes of records and journals.
    pub max_bytes: u64,
}

/// Removes what retention no longer covers, at most `limit` executions; answers how many.
pub fn enforce_retention(
    db: &Connection,
    retention: &Retention,
    now: Timestamp,
    limit: u64,
) -> rusqlite::Result<usize> {
    let total = |name: &str| {
        db.prepare_cached("SELECT value FROM totals WHERE name = ?1")?.query_row([name], |row| row.get::<_, i64>(0))
    };
    let oldest = time(now.before(retention.max_age));
    let too_many = total("executions")?.saturating_sub(integer(retention.max_count)).clamp(0, integer(limit));
    // Ids sort by creation: the oldest ones are at the front, and the first that may stay ends the search.
    let mut excess_count = too_many;
    let mut excess = total("execution_bytes")?.saturating_sub(integer(retention.max_bytes));
    let mut doomed: Vec<[u8; 16]> = Vec::new();
    {
        let mut oldest_first =
            db.prepare_cached("SELECT id, created, bytes, ended FROM executions ORDER BY id LIMIT ?1")?;
        let mut rows = oldest_first.query([integer(limit)])?;
        while let Some(row) = rows.next()? {
            let (created, bytes, ended): (i64, i64, Option<i64>) = (row.get(1)?, row.get(2)?, row.get(3)?);
            if created >= oldest && excess <= 0 && excess_count <= 0 {
                break;
            }
            if ended.is_some() {
                excess -= bytes;
                excess_count -= 1;
                doomed.push(row.get(0)?);
            }
        }
    }
    let mut tally = Tally::default();
    for id in &doomed {
        delete(db, id, &mut tally)?;
    }
    tally.write(db)?;
    Ok(doomed.len())
}
