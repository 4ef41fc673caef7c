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
use crate::interpreter::{self, Interpreter, Interpreters, Kept, KeptTurn, Origin, base_of};
use crate::session::BuiltIns;
use crate::session::kernel::{
    self, BoxFuture, Developed, Extent, Frozen, Kernel, KernelSpec, Kernels, Thaw, Turn, Turned,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Weak};

/// Snapshots that are kept open, so that a fresh isolate of one need not open it again.
const OPEN: usize = 16;

/// Makes kernels of one interpreter, and isolates from its snapshots.
pub struct InterpreterKernels(Arc<Shared>);

struct Shared {
    interpreter: Arc<Interpreter>,
    egress: Arc<dyn Egress>,
    tools: Link,
    origins: Mutex<Origins>,
    /// One build at a time: each may take much memory.
    building: tokio::sync::Mutex<()>,
}

/// What something runs on, or ran on lately.
#[derive(Default)]
struct Origins {
    /// All that something runs on, by the digest of the memory.
    by_digest: HashMap<[u8; 32], Weak<Origin>>,
    /// The snapshots that were used last, the latest one last.
    latest: Vec<(Weak<kernel::Image>, Arc<Origin>)>,
}

impl InterpreterKernels {
    /// Kernels of this interpreter.
    pub fn new(interpreter: Arc<Interpreter>, egress: Arc<dyn Egress>, tools: Link) -> InterpreterKernels {
        InterpreterKernels(Arc::new(Shared {
            interpreter,
            egress,
            tools,
            origins: Mutex::default(),
            building: tokio::sync::Mutex::default(),
        }))
    }

    /// Name of the interpreter and of its tool.
    pub fn name(&self) -> &str {
        self.0.interpreter.name()
    }

    /// The memory, files and descriptors of a snapshot.
    pub async fn open(&self, snapshot: &Arc<kernel::Image>) -> Result<Arc<Origin>> {
        self.0.open(snapshot).await
    }
}

impl Shared {
    async fn open(&self, snapshot: &Arc<kernel::Image>) -> Result<Arc<Origin>> {
        let of = |known: &(Weak<kernel::Image>, Arc<Origin>)| known.0.as_ptr() == Arc::as_ptr(snapshot);
        {
            let latest = &mut self.origins.lock().latest;
            if let Some(at) = latest.iter().position(of) {
                let known = latest.remove(at);
                let origin = known.1.clone();
                latest.push(known);
                return Ok(origin);
            }
        }
        let opened = self.interpreter.open(snapshot.directory()).await?;
        let origin = Arc::new(opened.map_err(|problem| Error::SnapshotUnusable {
            name: snapshot.id().to_string(),
            problem: format!("cannot be used: {problem}"),
        })?);
        self.remember(&origin);
        let mut origins = self.origins.lock();
        let latest = &mut origins.latest;
        // Another call may have been faster: then there are two for a while.
        latest.retain(|known| !of(known));
        latest.push((Arc::downgrade(snapshot), origin.clone()));
        let too_many = latest.len().saturating_sub(OPEN);
        for (_, origin) in latest.drain(..too_many) {
            self.interpreter.forget(&origin);
        }
        // Files of a deleted snapshot take room on disk as long as they are mapped.
        latest.retain(|(snapshot, origin)| {
            let there = snapshot.strong_count() > 0;
            if !there {
                self.interpreter.forget(origin);
            }
            there
        });
        Ok(origin)
    }

    fn remember(&self, origin: &Arc<Origin>) {
        let by_digest = &mut self.origins.lock().by_digest;
        by_digest.retain(|_, origin| origin.strong_count() > 0);
        by_digest.insert(origin.image().digest(), Arc::downgrade(origin));
    }

    fn kernel(self: &Arc<Self>, kept: Kept, spec: KernelSpec) -> Box<dyn Kernel> {
        // So that a snapshot of it finds what its pages are changes of.
        self.remember(kept.origin());
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
            let from = match &spec.image {
                Some(snapshot) => Some(shared.open(snapshot).await?),
                None => None,
            };
            let limits = spec.limits;
            let kept = shared.interpreter.keep(nobody(), from, limits.memory_bytes, limits.scratch_bytes).await?;
            Ok(shared.kernel(kept, spec))
        })
    }

    fn thaw(&self, spec: KernelSpec, layers: Vec<Frozen>) -> BoxFuture<'_, Result<Box<dyn Kernel>, Thaw>> {
        let shared = self.0.clone();
        Box::pin(async move {
            let from = match &spec.image {
                Some(snapshot) => Some(shared.open(snapshot).await.map_err(Thaw::Failed)?),
                None => None,
            };
            let limits = spec.limits;
            let layers: Vec<interpreter::Frozen> = layers
                .into_iter()
                .map(|layer| interpreter::Frozen { pieces: layer.pieces, meta: layer.meta })
                .collect();
            let thawed = shared
                .interpreter
                .thaw(nobody(), from, &layers, limits.memory_bytes, limits.scratch_bytes)
                .await
                .map_err(Thaw::Failed)?;
            Ok(shared.kernel(thawed.map_err(Thaw::Unusable)?, spec))
        })
    }

    fn develop(&self, image: Frozen, directory: &Path) -> Result<Developed> {
        let frozen = interpreter::Frozen { pieces: image.pieces, meta: image.meta };
        let origin = self.0.origins.lock().by_digest.get(&base_of(&frozen)?).and_then(Weak::upgrade);
        let origin = origin.ok_or_else(|| Error::Internal("what a session started from is no longer open".into()))?;
        Ok(Developed { total_bytes: origin.develop(&frozen, &[], directory)? })
    }

    fn build(&self, build: kernel::Build) -> BoxFuture<'_, Result<kernel::Built>> {
        Box::pin(async move {
            let _one = self.0.building.lock().await;
            let kernel::Build { preload, preload_name, packages } = build;
            let built = self.0.interpreter.build(interpreter::Build { preload, preload_name, packages }).await?;
            Ok(kernel::Built {
                packages: built.packages.clone(),
                modules: built.modules.clone(),
                output: built.output.clone(),
                write: Box::new(move |directory| Ok(Developed { total_bytes: built.write(directory)? })),
            })
        })
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

    fn end(self: Box<Self>) {}

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
    snapshot: &Arc<kernel::Image>,
    run: interpreter::Run,
    live: &Arc<Live>,
) -> Result<Ended> {
    let from = kernels.open(snapshot).await?;
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
