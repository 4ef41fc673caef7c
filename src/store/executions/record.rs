//! The form of one record: the columns that are searched by, and the rest as a blob: one version byte, then postcard.

use super::{timestamp, unsigned};
use crate::domain::execution::{Execution, ExecutionState, Origin, Outcome, Subject};
use crate::domain::id::{ExecutionId, RequestId, SessionId};
use crate::domain::limits::Limits;
use crate::store::{version1, version2};
use rusqlite::Row;
use rusqlite::types::Type;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the blob. Those of version 1 have no version byte: they begin with the subject's kind, 0 or 1.
const VERSION: u8 = 3;

/// The columns that [`execution`] reads.
pub(super) const COLUMNS: &str =
    "id, principal, request_id, state, created, started, ended, sequence, stdin, labels, detail, crc";

#[derive(Serialize)]
struct DetailRef<'a> {
    subject: &'a Subject,
    limits: &'a Limits,
    outcome: Option<&'a Outcome>,
    session: Option<SessionId>,
    session_turn: u64,
    parent: Option<ExecutionId>,
    target: &'a str,
}

/// [`DetailRef`] as it is read back.
#[derive(Deserialize)]
struct Detail {
    subject: Subject,
    limits: Limits,
    outcome: Option<Outcome>,
    session: Option<SessionId>,
    session_turn: u64,
    parent: Option<ExecutionId>,
    target: String,
}

impl From<version1::Detail> for Detail {
    fn from(old: version1::Detail) -> Self {
        Detail {
            subject: old.subject,
            limits: old.limits.into(),
            outcome: old.outcome.map(Into::into),
            session: None,
            session_turn: 0,
            parent: None,
            target: String::new(),
        }
    }
}

impl From<version2::Detail> for Detail {
    fn from(old: version2::Detail) -> Self {
        let version2::Detail { subject, limits, outcome, session, session_turn, parent, target } = old;
        Detail { subject, limits, outcome: outcome.map(Into::into), session, session_turn, parent, target }
    }
}

/// What of a record is not in columns.
pub(super) fn detail(execution: &Execution) -> rusqlite::Result<Vec<u8>> {
    let origin = &execution.origin;
    let detail = DetailRef {
        subject: &origin.subject,
        limits: &origin.limits,
        outcome: execution.outcome.as_deref(),
        session: origin.session,
        session_turn: execution.session_turn,
        parent: origin.parent,
        target: &origin.target,
    };
    postcard::to_extend(&detail, vec![VERSION])
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn read_detail(blob: &[u8]) -> Result<Detail, String> {
    let told = |error: postcard::Error| error.to_string();
    match blob.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(told),
        Some((2, rest)) => postcard::from_bytes::<version2::Detail>(rest).map(Into::into).map_err(told),
        Some((0 | 1, _)) => postcard::from_bytes::<version1::Detail>(blob).map(Into::into).map_err(told),
        Some((version, _)) => Err(format!("unknown version {version}")),
        None => Err("it is empty".into()),
    }
}

/// The checksum of a record without its journal.
pub(super) fn crc(id: &[u8], state: &str, numbers: [Option<i64>; 5], labels: Option<&str>, detail: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(id);
    crc.update(state.as_bytes());
    for number in numbers {
        crc.update(&number.unwrap_or(-1).to_le_bytes());
    }
    crc.update(labels.unwrap_or_default().as_bytes());
    crc.update(detail);
    crc.finalize()
}

/// The record in a row of [`COLUMNS`].
pub(super) fn execution(row: &Row) -> rusqlite::Result<Execution> {
    let text: String = row.get(3)?;
    let state =
        ExecutionState::from_name(&text).ok_or_else(|| damaged(3, Type::Text, format!("unknown state {text:?}")))?;
    let blob: Vec<u8> = row.get(10)?;
    let detail = read_detail(&blob).map_err(|problem| damaged(10, Type::Blob, problem))?;
    let labels = match row.get::<_, Option<String>>(9)? {
        Some(text) => serde_json::from_str(&text).map_err(|error| damaged(9, Type::Text, error.to_string()))?,
        None => BTreeMap::new(),
    };
    let optional_time = |column| row.get::<_, Option<i64>>(column).map(|time| time.map(timestamp));
    if let Some(expected) = row.get::<_, Option<u32>>(11)? {
        let id: [u8; 16] = row.get(0)?;
        let numbers = [row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?];
        let labels: Option<String> = row.get(9)?;
        if expected != crc(&id, &text, numbers, labels.as_deref(), &blob) {
            return Err(damaged(11, Type::Integer, "it does not match its checksum".into()));
        }
    }
    Ok(Execution {
        origin: Arc::new(Origin {
            id: ExecutionId::from_bytes(row.get(0)?),
            subject: detail.subject,
            principal: row.get::<_, String>(1)?.into(),
            request_id: row.get::<_, Option<[u8; 16]>>(2)?.map(RequestId::from_bytes),
            labels,
            limits: detail.limits,
            created: timestamp(row.get(4)?),
            session: detail.session,
            parent: detail.parent,
            target: detail.target.into(),
        }),
        state,
        started: optional_time(5)?,
        ended: optional_time(6)?,
        last_sequence: unsigned(row.get(7)?),
        stdin_offset: unsigned(row.get(8)?),
        session_turn: detail.session_turn,
        outcome: detail.outcome.map(Arc::new),
    })
}

/// A record that is not what was written.
pub(super) fn damaged(column: usize, kind: Type, why: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, format!("damaged record: {why}").into())
}
