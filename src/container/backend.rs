//! What runs containers, behind a trait that knows no product: images in, sandboxes out.
//!
//! A backend makes what it is told to make. Who may have what, and what is recorded when, is decided above it; so is
//! everything that happens inside a sandbox, as long as the supervisor there answers.

use crate::domain::container::{Consumption, Resources, Tmpfs};
use crate::domain::event::OutputStream;
use crate::domain::id::{ContainerId, SnapshotId};
use crate::domain::image::ImageReference;
use crate::domain::time::Timestamp;
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use std::path::PathBuf;
use std::pin::Pin;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

/// Why a backend did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// It does not answer.
    #[error("the container backend does not answer: {0}")]
    Unavailable(String),
    /// There is no such image, or no such sandbox.
    #[error("not found: {0}")]
    NotFound(String),
    /// It is in the way: a name that is taken, a state that does not fit.
    #[error("conflict: {0}")]
    Conflict(String),
    /// It refuses: what was asked cannot be done here, and trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// Its disk is full.
    #[error("no room: {0}")]
    NoRoom(String),
    /// Anything else.
    #[error("the container backend failed: {0}")]
    Failed(String),
}

/// Result of a backend.
pub type BackendResult<T> = Result<T, BackendError>;

/// A backend.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Asks it how it is.
    async fn facts(&self) -> BackendResult<BackendFacts>;

    /// Looks an image up, among those that are here.
    async fn image(&self, reference: &ImageReference) -> BackendResult<Option<ImageFacts>>;

    /// An image by its id, if it is here.
    async fn image_of_id(&self, id: &str) -> BackendResult<Option<ImageFacts>>;

    /// Images that are here.
    async fn images(&self) -> BackendResult<Vec<ImageFacts>>;

    /// Gets an image from its registry. News goes to `progress`, as far as somebody takes it.
    async fn pull(
        &self,
        reference: &ImageReference,
        platform: &str,
        progress: mpsc::Sender<LayerProgress>,
    ) -> BackendResult<ImageFacts>;

    /// Makes a sandbox that does not run yet. Answers its id at the backend.
    async fn create(&self, blueprint: &Blueprint) -> BackendResult<String>;

    /// Starts a sandbox that was made.
    async fn start(&self, id: &str) -> BackendResult<()>;

    /// How a sandbox stands; `NotFound` when it is gone.
    async fn look(&self, id: &str) -> BackendResult<Standing>;

    /// All sandboxes that say they are of this installation, running or not.
    async fn find(&self, installation: &str) -> BackendResult<Vec<Found>>;

    /// Waits until a sandbox does not run. Answers at once for one that does not.
    async fn ended(&self, id: &str) -> BackendResult<Ending>;

    /// Freezes all its processes; nothing for one that is frozen.
    async fn pause(&self, id: &str) -> BackendResult<()>;

    /// Thaws them; nothing for one that is not frozen.
    async fn resume(&self, id: &str) -> BackendResult<()>;

    /// Kills all its processes, frozen ones too. Nothing for one that does not run.
    async fn kill(&self, id: &str) -> BackendResult<()>;

    /// Removes a sandbox, also one that runs. Nothing for one that is gone.
    async fn remove(&self, id: &str) -> BackendResult<()>;

    /// Bytes that a sandbox wrote to its root file system.
    async fn written(&self, id: &str) -> BackendResult<u64>;

    /// Makes an image of the root file system of a sandbox, with the configuration of the image that it runs. With
    /// `freeze` its processes are frozen meanwhile by the backend, which thaws them whatever happens; a sandbox that is
    /// frozen already stays so. What is in file systems of its own, in memory or of the host, is not in it.
    async fn commit(&self, id: &str, mark: &Mark, freeze: bool) -> BackendResult<FrozenImage>;

    /// All images that say they are snapshots of this installation.
    async fn snapshots(&self, installation: &str) -> BackendResult<Vec<FoundImage>>;

    /// Removes the image of a snapshot; `Conflict` while a sandbox uses it. Nothing for one that is gone.
    async fn remove_snapshot(&self, snapshot: SnapshotId) -> BackendResult<()>;

    /// Removes an image unless it has a name; `Conflict` while others stand on it or a sandbox uses it.
    async fn remove_nameless(&self, image: &str) -> BackendResult<()>;

    /// What a sandbox consumes.
    async fn consumption(&self, id: &str) -> BackendResult<Consumption>;

    /// What the first process of a sandbox writes, from now on. Asked for before the start, it is everything.
    async fn attach(&self, id: &str) -> BackendResult<ProcessOutput>;

    /// Runs a further process in a sandbox that runs, by the backend's own means.
    async fn exec(&self, id: &str, request: &ExecRequest) -> BackendResult<BackendProcess>;

    /// Exit code of such a process; none while it runs. `NotFound` a while after its end, and when its sandbox is gone.
    async fn exec_exit(&self, process: &str) -> BackendResult<Option<i32>>;

    /// Gives the terminal of such a process another size. Nothing for one that is over.
    async fn exec_resize(&self, process: &str, columns: u16, rows: u16) -> BackendResult<()>;

    /// Sends a signal to the first process of a sandbox. Nothing for one that does not run.
    async fn signal(&self, id: &str, signal: i32) -> BackendResult<()>;
}

/// A process that is to run in a sandbox by the backend's own means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables on top of the sandbox's, each `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Working directory; empty for the sandbox's.
    pub working_directory: String,
    /// User, as in a blueprint; empty for the sandbox's.
    pub user: String,
    /// Columns and rows of its terminal; none for a process without one.
    pub terminal: Option<(u16, u16)>,
}

/// What a process writes, in pieces. Ends when all who hold it in the sandbox have closed it; an error ends it, too.
pub type ProcessOutput = Pin<Box<dyn Stream<Item = BackendResult<(OutputStream, Bytes)>> + Send>>;

/// A process that runs by the backend's own means.
pub struct BackendProcess {
    /// Its id at the backend.
    pub id: String,
    /// Its input. Shutting it down ends the input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its output.
    pub output: ProcessOutput,
}

/// What a backend is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendFacts {
    /// Its name and version, for people.
    pub version: String,
    /// Names of the runtimes that it has.
    pub runtimes: Vec<String>,
    /// Whether the size of a writable layer can be limited.
    pub limits_disk: bool,
    /// Whether swap can be limited.
    pub limits_swap: bool,
    /// Whether it sees the same files as this server: then directories can be given to sandboxes.
    pub shares_files: bool,
}

/// An image that is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its id, over its content.
    pub id: String,
    /// Its references by tag, as the backend has them.
    pub tags: Vec<String>,
    /// Its references by digest.
    pub digests: Vec<String>,
    /// Size with all layers, in bytes.
    pub size_bytes: u64,
    /// When it was built, as it says.
    pub created: Option<Timestamp>,
    /// What it runs on, such as `linux/amd64`.
    pub platform: String,
    /// Its entry point.
    pub entrypoint: Vec<String>,
    /// Its command.
    pub command: Vec<String>,
    /// Its variables, each `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Its working directory.
    pub working_directory: String,
    /// Its user.
    pub user: String,
    /// Its stop signal.
    pub stop_signal: String,
}

/// What an image is marked with that is a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The installation of this server.
    pub installation: String,
}

/// An image that a root file system became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenImage {
    /// The image.
    pub image: ImageFacts,
    /// Bytes that it adds to the one the sandbox ran.
    pub added_bytes: u64,
}

/// An image that says it is a snapshot of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundImage {
    /// Its id.
    pub id: String,
    /// The snapshot that it says it is of.
    pub snapshot: SnapshotId,
}

/// How far a layer of a pull is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    /// Short id of the layer; empty for the image as a whole.
    pub layer: String,
    /// What is being done.
    pub phase: PullPhase,
    /// Bytes done in this phase.
    pub current: u64,
    /// Bytes of this phase; 0 when not known.
    pub total: u64,
}

/// What is being done with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPhase {
    /// The registry is asked what the reference means.
    Resolving,
    /// It waits for others.
    Waiting,
    /// It is being downloaded.
    Downloading,
    /// Its digest is being checked.
    Verifying,
    /// It is being unpacked.
    Extracting,
    /// It is done, or was here already.
    Done,
}

/// Everything a backend needs to make a sandbox. What is not here is off.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// The container it is for: its mark at the backend.
    pub container: ContainerId,
    /// The installation of this server: its mark, too.
    pub installation: String,
    /// Id of the image, not its name.
    pub image_id: String,
    /// The first process: the program, then its arguments.
    pub init: Vec<String>,
    /// Variables of the first process.
    pub environment: Vec<String>,
    /// User of the first process, `uid`, `uid:gid` or names that the image knows.
    pub user: String,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Working directory of the first process.
    pub working_directory: String,
    /// Host name.
    pub hostname: String,
    /// What it may consume.
    pub resources: Resources,
    /// Host directories that it sees.
    pub binds: Vec<Bind>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Whether it has a network of its own.
    pub network: bool,
    /// Whether its root file system can be written.
    pub writable_root: bool,
    /// Capabilities that it has, such as `CAP_CHOWN`.
    pub capabilities: Vec<String>,
    /// Text of a seccomp profile; the backend's module has the default one.
    pub seccomp: Option<String>,
    /// Name of an AppArmor profile; empty for the backend's default.
    pub apparmor: String,
    /// Name of the runtime; empty for the backend's default.
    pub runtime: String,
}

/// A host directory that a sandbox sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub host: PathBuf,
    /// Inside.
    pub inside: String,
    /// Whether it can be written.
    pub writable: bool,
}

/// How a sandbox stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was made and never ran.
    Made,
    /// It runs.
    Running {
        /// Number of its first process on the host.
        pid: u32,
        /// Whether it is frozen.
        paused: bool,
    },
    /// It ran.
    Over(Ending),
}

/// How the run of a sandbox ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Exit code of the first process.
    pub code: i32,
    /// Whether the kernel killed something in it for want of memory.
    pub out_of_memory: bool,
    /// What the backend says of a start that failed; empty for none.
    pub problem: String,
}

/// A sandbox that says it is of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its id at the backend.
    pub id: String,
    /// The container that it says it is for.
    pub container: ContainerId,
}
