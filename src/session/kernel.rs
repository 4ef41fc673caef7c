//! The port to whatever holds state: an interpreter in this process, or one in a container.

use crate::domain::id::{SessionId, SnapshotId};
use crate::domain::input::Inputs;
use crate::domain::interruption::InterruptionReason;
use crate::domain::session::{ClosureReason, Home, HomeWish, SessionLimits};
use crate::error::{Error, Result};
use crate::execution::{Ended, Live};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A future of the port.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes kernels for one tool.
pub trait Kernels: Send + Sync + 'static {
    /// Name of the tool.
    fn tool(&self) -> &str;

    /// Fingerprint of the interpreter: a frozen state of another one is foreign.
    fn fingerprint(&self) -> [u8; 32];

    /// Starts a kernel from its snapshot or, without one, from the built-in image.
    fn start(&self, spec: KernelSpec) -> BoxFuture<'_, Result<Box<dyn Kernel>>>;

    /// Brings a kernel back. `layers` are what [`Kernel::freeze`] gave: a whole state, then what changed since,
    /// in order; their digests were checked. A freeze of what changed then counts from this state.
    fn thaw(&self, spec: KernelSpec, layers: Vec<Frozen>) -> BoxFuture<'_, std::result::Result<Box<dyn Kernel>, Thaw>>;

    /// Where a kernel is to live, by a name that a caller gave. An error unless this makes kernels that live outside
    /// of the server, and that one may live there; without a name, unless it makes kernels that live in the server.
    fn home(&self, wanted: Option<HomeWish>, _principal: &Arc<str>) -> Result<Option<Home>> {
        match wanted {
            None => Ok(None),
            Some(_) => Err(Error::invalid(
                "target",
                format!(
                    "names a container or a pool; {:?} lives in the server. The tool for those is \"notebook\"",
                    self.tool()
                ),
            )),
        }
    }

    /// Finds a kernel again that lives outside of the server and went on while there was none.
    fn resume(&self, _spec: KernelSpec) -> BoxFuture<'_, std::result::Result<Box<dyn Kernel>, Thaw>> {
        Box::pin(std::future::ready(Err(Thaw::Unusable("it lived in the server".into()))))
    }

    /// Writes what [`Kernel::image`] gave as the files of a snapshot into `directory`, which is there and empty.
    /// Called off the async workers. Files are flushed to disk by whoever calls.
    fn develop(&self, image: Frozen, directory: &Path) -> Result<Developed>;

    /// Makes the state of a snapshot from packages and code to run before it is frozen. `INVALID_ARGUMENT` where
    /// that is impossible, and for a preload that fails.
    fn build(&self, _build: Build) -> BoxFuture<'_, Result<Built>> {
        let text = format!("is {:?}, whose snapshots are made from sessions, not built", self.tool());
        Box::pin(std::future::ready(Err(Error::invalid("tool", text))))
    }
}

/// What to build a snapshot from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// Code to run before the freeze.
    pub preload: String,
    /// What tracebacks call it; empty for a name of the kernel's choice.
    pub preload_name: String,
    /// Files of packages: paths below the directory of packages, and contents.
    pub packages: Vec<(String, Bytes)>,
}

/// Writes the files of a snapshot into a directory.
pub type Write = Box<dyn FnOnce(&Path) -> Result<Developed> + Send>;

/// What was built, not written yet.
pub struct Built {
    /// Packages, each "name version".
    pub packages: Vec<String>,
    /// Modules that were loaded.
    pub modules: Vec<String>,
    /// What the preload wrote, bounded.
    pub output: String,
    /// Writes the files of the snapshot, as [`Kernels::develop`] does.
    pub write: Write,
}

/// One interpreter with state.
pub trait Kernel: Send + 'static {
    /// Runs one call and ends it when its wall time (`turn.live.origin().limits`) has passed. Dropping the future
    /// ends it too, and loses the kernel's state.
    fn turn(&mut self, turn: Turn) -> BoxFuture<'_, Turned>;

    /// Whether [`Kernel::turn`] minds itself that somebody wants the run to end. It may keep its state then.
    fn heeds(&self) -> bool {
        false
    }

    /// Its end, for one that can end by itself between turns: why the session is over, as the end of a sentence.
    fn ending(&self) -> Option<BoxFuture<'static, (ClosureReason, String)>> {
        None
    }

    /// Ends it. One that lives outside of the server goes on if it is merely dropped.
    fn end(self: Box<Self>);

    /// Memory of its own in bytes: what dropping it would free.
    fn memory_bytes(&self) -> u64;

    /// Its state as data, between turns. `Extent::Changed` counts from the last freeze that succeeded, or from
    /// the thaw; a kernel may always answer with the whole, and says so. Called off the async workers.
    fn freeze(&mut self, extent: Extent) -> Result<Frozen>;

    /// Its whole state for a snapshot; does not count as a freeze. `UNIMPLEMENTED` where that is impossible.
    /// Called off the async workers.
    fn image(&mut self) -> Result<Frozen>;

    /// A copy of the present state with randomness of its own. `UNIMPLEMENTED` where that is impossible.
    fn fork(&mut self) -> BoxFuture<'_, Result<Box<dyn Kernel>>>;
}

/// What a kernel starts with.
#[derive(Clone)]
pub struct KernelSpec {
    /// The session it is for.
    pub session: SessionId,
    /// The snapshot it starts from; `None` for the built-in image. A thawed one gets the same as at its start.
    pub image: Option<Arc<Image>>,
    /// The session's limits.
    pub limits: SessionLimits,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Whose session it is.
    pub principal: Arc<str>,
    /// Where the kernel lives, if not in the server.
    pub home: Option<Home>,
    /// What the tool takes at the start of a session, as the text of a JSON object.
    pub parameters: String,
}

/// One call.
pub struct Turn {
    /// Which turn of the session it is, from 1.
    pub number: u64,
    /// The execution: takes the output, gives the input, knows the limits and counts what is used.
    pub live: Arc<Live>,
    /// The call's parameters, valid by the tool's schema.
    pub parameters: Value,
    /// Files, arguments, environment, and which files to give back.
    pub inputs: Inputs,
}

/// How a call ended.
pub enum Turned {
    /// The kernel lives on with the state after the call, whatever its exit code.
    Alive(Ended),
    /// The kernel's state is lost.
    Dead(Ended, InterruptionReason),
    /// The kernel is gone and the session with it, for this reason.
    Over(Ended, ClosureReason, String),
}

/// How much of a state to freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What changed since the last freeze.
    Changed,
    /// Everything beyond the image it started from.
    Whole,
}

/// A state, or a change of one, as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Bytes by their place in the kernel's memory; later layers replace what they overlap.
    pub pieces: Vec<(u64, Bytes)>,
    /// All that is no memory: files, descriptors, globals. Always whole.
    pub meta: Bytes,
    /// Whether it stands alone.
    pub whole: bool,
}

/// Why a kernel did not come back.
#[derive(Debug)]
pub enum Thaw {
    /// The state cannot be used, now or later; one clause that says why.
    Unusable(String),
    /// It did not work this time.
    Failed(Error),
}

/// What the files of a snapshot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Developed {
    /// Memory that an isolate starts with, in bytes.
    pub total_bytes: u64,
}

/// The files of a snapshot. They stay as long as anybody holds this, even after the snapshot is deleted.
#[derive(Debug)]
pub struct Image {
    id: SnapshotId,
    directory: PathBuf,
    doomed: AtomicBool,
}

impl Image {
    pub(super) fn new(id: SnapshotId, directory: PathBuf) -> Arc<Image> {
        Arc::new(Image { id, directory, doomed: AtomicBool::new(false) })
    }

    /// The snapshot.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Where its files are: what [`Kernels::develop`] wrote.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has the files removed once nobody holds them.
    pub(super) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire)
            && let Err(error) = std::fs::remove_dir_all(&self.directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // The next start of the server removes what is left.
            tracing::warn!(%error, directory = %self.directory.display(), "files of a deleted snapshot remain");
        }
    }
}
