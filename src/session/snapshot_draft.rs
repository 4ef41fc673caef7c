//! What is said of snapshots: drafts of new ones, selections of a listing, and those that come with an interpreter.

use crate::domain::id::{RequestId, SessionId};
use crate::domain::snapshot::{SnapshotSource, SnapshotStanding, SnapshotState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The snapshots that come with the interpreters.
pub trait BuiltIns: Send + Sync + 'static {
    /// All of them, by name.
    fn snapshots(&self) -> Vec<SnapshotStanding>;
}

/// There are none.
pub struct NoBuiltIns;

impl BuiltIns for NoBuiltIns {
    fn snapshots(&self) -> Vec<SnapshotStanding> {
        Vec::new()
    }
}

/// What is known of a snapshot before it is written.
pub struct Draft {
    /// What it holds, for people.
    pub description: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who owns it; empty for the operator's.
    pub principal: Arc<str>,
    /// The request id of the call that makes it.
    pub request_id: Option<RequestId>,
    /// What it is made from.
    pub source: SnapshotSource,
    /// The tool whose interpreter it holds.
    pub tool: Arc<str>,
    /// The session's turn; 0 for others.
    pub turn: u64,
    /// Fingerprint of the interpreter.
    pub runtime: [u8; 32],
}

/// What a listing selects; empty fields select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSelection {
    /// Any of these states.
    pub states: Vec<SnapshotState>,
    /// For this tool.
    pub tool: Option<String>,
    /// Name begins so.
    pub name_prefix: String,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
    /// Of this session.
    pub session: Option<SessionId>,
}
