//! Interpreters as what sessions hold: the bridge from kernels, which know no WASM, to isolates.

use super::builtin;
use super::children::{ChildCalls, Link};
use crate::domain::execution::Exit;
use crate::domain::id::SnapshotId;
use crate::domain::interruption::InterruptionReason;
use crate::domain::snapshot::{Snapshot, SnapshotSource, SnapshotStanding, SnapshotState};
use crate::domain::time::Timestamp;
use crate::engine::Egress;
use crate::error::{Error, Result};
use crate::execution::{Ended, Live};
use crate::interpreter::{self, Image, Interpreter, Interpreters, Kept, KeptTurn, base_of, develop};
use crate::session::BuiltIns;
use crate::session::kernel::{
    self, BoxFuture, Developed, Extent, Frozen, Kernel, KernelSpec, Kernels, Thaw, Turn, Turned,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// The memory in a snapshot's directory.
const MEMORY: &str = "memory.image";

/// Its files and descriptors.
const STATE: &str = "state";

/// Makes kernels of one interpreter, and isolates from its snapshots.
pub struct InterpreterKernels(Arc<Shared>);

struct Shared {
    interpreter: Arc<Interpreter>,
    egress: Arc<dyn Egress>,
    tools: Link,
    /// Images that something runs on, by their digest and by where they are.
    images: Mutex<Images>,
}

#[derive(Default)]
struct Images {
    by_digest: HashMap<[u8; 32], Weak<Image>>,
    by_path: HashMap<PathBuf, Weak<Image>>,
}

impl InterpreterKernels {
    /// Kernels of this interpreter.
    pub fn new(interpreter: Arc<Interpreter>, egress: Arc<dyn Egress>, tools: Link) -> InterpreterKernels {
        InterpreterKernels(Arc::new(Shared { interpreter, egress, tools, images: Mutex::default() }))
    }

    /// Name of the interpreter and of its tool.
    pub fn name(&self) -> &str {
        self.0.interpreter.name()
    }

    /// The memory, files and descriptors of a snapshot.
    pub fn open(&self, snapshot: &kernel::Image) -> Result<(Arc<Image>, Bytes)> {
        self.0.open(snapshot)
    }
}

impl Shared {
    fn open(&self, snapshot: &kernel::Image) -> Result<(Arc<Image>, Bytes)> {
        let unreadable = |problem: String| Error::SnapshotUnusable {
            name: snapshot.id().to_string(),
            problem: format!("cannot be used: {problem}"),
        };
        let path = snapshot.directory().join(MEMORY);
        let state = snapshot.directory().join(STATE);
        let state = std::fs::read(&state).map_err(|error| unreadable(error.to_string()))?;
        let known = self.images.lock().by_path.get(&path).and_then(Weak::upgrade);
        let image = match known {
            Some(image) => image,
            None => {
                let image = Arc::new(Image::open(&path).map_err(unreadable)?);
                self.remember(&image);
                image
            }
        };
        Ok((image, state.into()))
    }

    fn remember(&self, image: &Arc<Image>) {
        let mut images = self.images.lock();
        images.by_digest.retain(|_, image| image.strong_count() > 0);
        images.by_path.retain(|_, image| image.strong_count() > 0);
        images.by_digest.insert(image.digest(), Arc::downgrade(image));
        images.by_path.insert(image.path().to_owned(), Arc::downgrade(image));
    }

    fn kernel(self: &Arc<Self>, kept: Kept, spec: KernelSpec) -> Box<dyn Kernel> {
        // So that a snapshot of it finds what its pages are changes of.
        self.remember(kept.image());
        Box::new(InterpreterKernel { shared: self.clone(), kept: Some(kept), spec })
    }
}

/// A session's memory is used again by nobody, not even by its owner.
fn nobody() -> Arc<str> {
    Arc::from("")
}

impl Kernels for InterpreterKernels {
    fn tool(&self) -> &str {
        self.0.interpreter.name()
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.0.interpreter.fingerprint()
    }

    fn start(&self, spec: KernelSpec) -> BoxFuture<'_, Result<Box<dyn Kernel>>> {
        let shared = self.0.clone();
        Box::pin(async move {
            let from = spec.image.as_deref().map(|snapshot| shared.open(snapshot)).transpose()?;
            let limits = spec.limits;
            let kept = shared.interpreter.keep(nobody(), from, limits.memory_bytes, limits.scratch_bytes).await?;
            Ok(shared.kernel(kept, spec))
        })
    }

    fn thaw(&self, spec: KernelSpec, layers: Vec<Frozen>) -> BoxFuture<'_, Result<Box<dyn Kernel>, Thaw>> {
        let shared = self.0.clone();
        Box::pin(async move {
            let from = spec.image.as_deref().map(|snapshot| shared.open(snapshot)).transpose().map_err(Thaw::Failed)?;
            let limits = spec.limits;
            let layers: Vec<interpreter::Frozen> = layers
                .into_iter()
                .map(|layer| interpreter::Frozen { pieces: layer.pieces, meta: layer.meta })
                .collect();
            let image = from.map(|(image, _)| image);
            let thawed = shared
                .interpreter
                .thaw(nobody(), image, &layers, limits.memory_bytes, limits.scratch_bytes)
                .await
                .map_err(Thaw::Failed)?;
            Ok(shared.kernel(thawed.map_err(Thaw::Unusable)?, spec))
        })
    }

    fn develop(&self, image: Frozen, directory: &Path) -> Result<Developed> {
        let frozen = interpreter::Frozen { pieces: image.pieces, meta: image.meta };
        let base = self.0.images.lock().by_digest.get(&base_of(&frozen)?).and_then(Weak::upgrade);
        let base = base.ok_or_else(|| Error::Internal("the image of a session is no longer open".into()))?;
        let total_bytes = develop(&frozen, &base, &directory.join(MEMORY))?;
        // The pages are in the image now.
        let state = interpreter::on_image(&frozen.meta, &directory.join(MEMORY))?;
        std::fs::write(directory.join(STATE), state).map_err(|error| Error::StoreUnavailable {
            problem: format!("{} cannot be written: {error}", directory.display()),
        })?;
        Ok(Developed { total_bytes })
    }
}

struct InterpreterKernel {
    shared: Arc<Shared>,
    /// Away while a turn runs, and for good when its state is lost.
    kept: Option<Kept>,
    spec: KernelSpec,
}

impl InterpreterKernel {
    fn kept(&mut self) -> Result<&mut Kept> {
        self.kept.as_mut().ok_or_else(|| Error::Internal("the state of a session was used after it was lost".into()))
    }
}

impl Kernel for InterpreterKernel {
    fn turn(&mut self, turn: Turn) -> BoxFuture<'_, Turned> {
        Box::pin(async move {
            let lost =
                |error: Error| Turned::Dead(Ended::new(Exit::Internal, error.to_string()), InterruptionReason::Trapped);
            let name = format!("<turn {}>", turn.number);
            let code = match builtin::code(&turn.parameters, &name).await {
                Ok(Ok(code)) => code,
                Ok(Err(exception)) => return Turned::Alive(builtin::unreadable(*exception, &turn.live)),
                Err(error) => return Turned::Alive(Ended::new(Exit::NotStarted, error.to_string())),
            };
            let Some(kept) = self.kept.take() else {
                return lost(Error::Internal("the state of a session was used after it was lost".into()));
            };
            let live = turn.live;
            let given = KeptTurn {
                name,
                code,
                environment: self.spec.environment.clone(),
                inputs: turn.inputs,
                return_all: false,
                limits: live.origin().limits,
                input: live.clone(),
                output: live.clone(),
                meter: live.meter().clone(),
                egress: self.shared.egress.clone(),
                children: ChildCalls::of(&self.shared.tools, &live, 0),
            };
            match kept.turn(given).await {
                Ok((Some(kept), ended)) => {
                    self.kept = Some(kept);
                    Turned::Alive(builtin::ended(ended))
                }
                Ok((None, ended)) => {
                    let reason = match ended.exit {
                        Exit::TimedOut => InterruptionReason::TimedOut,
                        Exit::OutOfMemory => InterruptionReason::OutOfMemory,
                        _ => InterruptionReason::Trapped,
                    };
                    Turned::Dead(builtin::ended(ended), reason)
                }
                Err(error) => lost(error),
            }
        })
    }

    fn memory_bytes(&self) -> u64 {
        self.kept.as_ref().map_or(0, Kept::memory_bytes)
    }

    fn freeze(&mut self, extent: Extent) -> Result<Frozen> {
        let whole = extent == Extent::Whole;
        let frozen = self.kept()?.freeze(whole)?;
        Ok(Frozen { pieces: frozen.pieces, meta: frozen.meta, whole })
    }

    fn image(&mut self) -> Result<Frozen> {
        let frozen = self.kept()?.whole()?;
        Ok(Frozen { pieces: frozen.pieces, meta: frozen.meta, whole: true })
    }

    fn fork(&mut self) -> BoxFuture<'_, Result<Box<dyn Kernel>>> {
        Box::pin(async move {
            let copy = self.kept()?.fork().await?;
            Ok(self.shared.kernel(copy, self.spec.clone()))
        })
    }
}

/// Runs code once, in a fresh isolate from a snapshot.
pub(super) async fn run_from(
    kernels: &InterpreterKernels,
    snapshot: &kernel::Image,
    run: interpreter::Run,
    live: &Arc<Live>,
) -> Result<Ended> {
    let from = kernels.open(snapshot)?;
    let limits = run.limits;
    let interpreter = &kernels.0.interpreter;
    let kept = interpreter.keep(run.tenant, Some(from), limits.memory_bytes, limits.scratch_bytes).await?;
    let turn = KeptTurn {
        name: "<code>".into(),
        code: run.code,
        environment: BTreeMap::new(),
        inputs: run.inputs,
        return_all: true,
        limits,
        input: live.clone(),
        output: live.clone(),
        meter: run.meter,
        egress: run.egress,
        children: run.children,
    };
    let (_, ended) = kept.turn(turn).await?;
    Ok(builtin::ended(ended))
}

/// The snapshots that come with the interpreters that are installed.
pub struct BuiltInSnapshots(pub Interpreters);

impl BuiltIns for BuiltInSnapshots {
    fn snapshots(&self) -> Vec<SnapshotStanding> {
        let installed = self.0.all().iter().filter_map(|interpreter| Some((interpreter, interpreter.built_in()?)));
        let standing =
            |(interpreter, (digest, disk, total, made)): (&Arc<Interpreter>, ([u8; 32], u64, u64, Timestamp))| {
                let snapshot = Snapshot {
                    // The same for as long as the image is.
                    id: SnapshotId::from_bytes(<[u8; 16]>::try_from(&digest[..16]).unwrap_or_default()),
                    name: interpreter.name().into(),
                    description: format!("the built-in image of {}", interpreter.name()),
                    labels: BTreeMap::new(),
                    principal: "".into(),
                    request_id: None,
                    source: SnapshotSource::BuiltIn,
                    tool: interpreter.name().into(),
                    turn: 0,
                    runtime: interpreter.fingerprint(),
                    digest,
                    size_bytes: disk,
                    total_bytes: total,
                    created: made,
                    last_used: None,
                };
                SnapshotStanding { snapshot: Arc::new(snapshot), state: SnapshotState::Ready, problem: String::new() }
            };
        installed.map(standing).collect()
    }
}
