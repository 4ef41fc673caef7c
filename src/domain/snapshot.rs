//! Snapshots: frozen states from which fresh isolates and sessions start.

use super::id::{RequestId, SessionId, SnapshotId};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A frozen state of an interpreter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its name, unique on the server.
    pub name: String,
    /// What it holds, for people.
    pub description: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who owns it; empty for one that the server or its operator made.
    pub principal: Arc<str>,
    /// The request id of the call that made it.
    pub request_id: Option<RequestId>,
    /// What it was made from.
    pub source: SnapshotSource,
    /// The tool whose interpreter it holds.
    pub tool: Arc<str>,
    /// The session's turn that was frozen; 0 for anything but a session's.
    pub turn: u64,
    /// Fingerprint of the interpreter: nothing else can start from it.
    pub runtime: [u8; 32],
    /// SHA-256 over its content.
    pub digest: [u8; 32],
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Memory that an isolate starts with, in bytes.
    pub total_bytes: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When something last started from it.
    pub last_used: Option<Timestamp>,
}

/// What a snapshot was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotSource {
    /// It comes with the interpreter.
    BuiltIn,
    /// A session.
    Session(SessionId),
    /// A build by the operator.
    Build {
        /// The snapshot it was built on; `None` for the built-in image.
        base: Option<SnapshotId>,
        /// Packages that were added, each "name version".
        packages: Vec<String>,
        /// Modules that were loaded before freezing.
        preloaded_modules: Vec<String>,
    },
}

/// Whether something can start from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotState {
    /// It is being written.
    Creating,
    /// It can be used.
    Ready,
    /// Its content does not match its digest.
    Damaged,
    /// It belongs to an interpreter that this server does not have.
    Foreign,
}

/// A snapshot as it stands.
#[derive(Clone, Debug)]
pub struct SnapshotStanding {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Whether something can start from it.
    pub state: SnapshotState,
    /// Why it cannot, and what to do; empty when it can.
    pub problem: String,
}
