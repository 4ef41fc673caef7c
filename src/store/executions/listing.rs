//! Executions that a filter selects.

use super::record::{self, COLUMNS};
use super::time;
use crate::domain::execution::{Execution, ExecutionState};
use crate::domain::id::{ExecutionId, SessionId};
use crate::domain::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::collections::BTreeMap;

/// What a listing selects; empty fields select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these states.
    pub states: Vec<ExecutionState>,
    /// Runs of this tool.
    pub tool: Option<String>,
    /// Processes of this container.
    pub container: Option<String>,
    /// Created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
    /// Runs in this session.
    pub session: Option<SessionId>,
    /// Runs that the code of this execution started.
    pub parent: Option<ExecutionId>,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
}

/// Executions that a filter selects, newest first, from the one before `before`.
pub fn list(
    db: &Connection,
    filter: &Filter,
    before: Option<ExecutionId>,
    limit: usize,
) -> rusqlite::Result<Vec<Execution>> {
    let mut sql = format!("SELECT {COLUMNS} FROM executions WHERE true");
    let mut values: Vec<Value> = Vec::new();
    let mut condition = |text: &str, value: Value| {
        sql.push_str(text);
        values.push(value);
    };
    if let Some(before) = before {
        condition(" AND id < ?", Value::Blob(before.as_bytes().to_vec()));
    }
    if let Some(tool) = &filter.tool {
        condition(" AND tool = ?", Value::Text(tool.clone()));
    }
    if let Some(container) = &filter.container {
        condition(" AND container = ?", Value::Text(container.clone()));
    }
    if let Some(session) = filter.session {
        condition(" AND session = ?", Value::Blob(session.as_bytes().to_vec()));
    }
    if let Some(parent) = filter.parent {
        condition(" AND parent = ?", Value::Blob(parent.as_bytes().to_vec()));
    }
    if let Some(from) = filter.created_from {
        condition(" AND created >= ?", Value::Integer(time(from)));
    }
    if let Some(before) = filter.created_before {
        condition(" AND created < ?", Value::Integer(time(before)));
    }
    for (key, value) in &filter.labels {
        condition(" AND EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ?", Value::Text(key.clone()));
        condition(" AND value = ?)", Value::Text(value.clone()));
    }
    if !filter.states.is_empty() {
        let marks = vec!["?"; filter.states.len()].join(", ");
        sql.push_str(&format!(" AND state IN ({marks})"));
        values.extend(filter.states.iter().map(|state| Value::Text(state.name().into())));
        if filter.states.iter().all(|state| !state.is_final()) {
            // Lets the small index of unfinished executions answer.
            sql.push_str(" AND ended IS NULL");
        }
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Value::Integer(limit as i64));
    db.prepare_cached(&sql)?.query_map(params_from_iter(values), record::execution)?.collect()
}
