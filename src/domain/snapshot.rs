//! Snapshots: frozen states from which fresh isolates, sessions and containers start.

use super::id::{ContainerId, RequestId, SessionId, SnapshotId};
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
    /// It belongs to an interpreter or a container backend that this server does not have.
    Foreign,
}

/// The file system of a container, frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its name, unique on the server.
    pub name: String,
    /// What it holds, for people.
    pub description: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who owns it.
    pub principal: Arc<str>,
    /// The request id of the call that made it.
    pub request_id: Option<RequestId>,
    /// The container that was frozen.
    pub container: ContainerId,
    /// Reference, in full, of the image that the container was made from: the operator's rules are about this one.
    pub image: String,
    /// Id of the image that the root file system became; empty while there is none.
    pub image_id: String,
    /// Bytes that this image adds to the one the container ran.
    pub image_bytes: u64,
    /// Bytes of the image with all layers.
    pub total_bytes: u64,
    /// The workspace; none if it was left out.
    pub workspace: Option<FrozenWorkspace>,
    /// When it was made.
    pub created: Timestamp,
    /// When something last started from it.
    pub last_used: Option<Timestamp>,
}

/// The workspace of a container, as an archive in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenWorkspace {
    /// SHA-256 of the archive.
    pub digest: [u8; 32],
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// Bytes of the files in it.
    pub content_bytes: u64,
}

impl ContainerSnapshot {
    /// Bytes on disk that are its own.
    pub fn size_bytes(&self) -> u64 {
        self.image_bytes.saturating_add(self.workspace.map_or(0, |workspace| workspace.archive_bytes))
    }

    /// The digest of its image, without the name of the algorithm.
    pub fn digest(&self) -> &str {
        self.image_id.split_once(':').map_or("", |(_, digest)| digest)
    }
}

/// A snapshot of a container as it stands.
#[derive(Clone, Debug)]
pub struct ContainerSnapshotStanding {
    /// The snapshot.
    pub snapshot: Arc<ContainerSnapshot>,
    /// Whether something can start from it.
    pub state: SnapshotState,
    /// Why it cannot, and what to do; empty when it can.
    pub problem: String,
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
