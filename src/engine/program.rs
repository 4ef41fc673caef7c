//! A loaded module or component, and running it.

use super::compile::{Failure, is_component};
use super::outcome::Ended;
use super::state::{Run, State};
use super::variant::Variant;
use super::workers::Start;
use super::{Engine, Inner, deadline, link};
use crate::domain::limits::Limits;
use crate::error::{Error, Result};
use bytes::Bytes;
use link::{Linked, Pre};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};
use tokio::task::spawn_blocking;
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// What a program is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// A core module with WASI preview 1 and a `_start` function.
    WasiP1,
    /// A component that exports `wasi:cli/run` (WASI preview 2).
    Component,
}

/// What one run takes of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Which of [`Engine::pools`].
    pub pool: usize,
    /// How many of its slots; a component may need several.
    pub slots: u32,
}

/// A loaded program. Cheap to clone; each [`Program::run`] is a fresh instance.
#[derive(Clone)]
pub struct Program(Arc<Loaded>);

struct Loaded {
    engine: Engine,
    name: String,
    hash: [u8; 32],
    digest: Arc<str>,
    kind: ModuleKind,
    /// Kept for the variants that are compiled when first asked for.
    module: Bytes,
    variants: [OnceCell<Linked>; Variant::COUNT],
}

impl Engine {
    /// Compiles a module or component, or takes its code from the cache, and links it. Takes as long as
    /// compiling takes, off the caller's threads.
    ///
    /// # Errors
    /// [`Error::ModuleInvalid`] if it is no WASM, cannot be compiled within the bounds, imports what there
    /// is not, exports nothing to run, or does not fit the caps. `name` is what the error calls it.
    pub async fn load(&self, name: &str, module: Bytes) -> Result<Program> {
        let invalid = |problem: String| Error::ModuleInvalid { tool: name.into(), problem };
        check_binary(&module, self.0.config.max_module_bytes).map_err(invalid)?;
        let kind = if is_component(&module) { ModuleKind::Component } else { ModuleKind::WasiP1 };
        let bytes = module.clone();
        let hash: [u8; 32] = blocking(move || Sha256::digest(&bytes).into()).await?;
        let mut loaded = Loaded {
            engine: self.clone(),
            name: name.into(),
            hash,
            digest: hex::encode(hash).into(),
            kind,
            module,
            variants: Default::default(),
        };
        let plain = loaded.prepare(Variant::PLAIN).await?;
        loaded.variants[Variant::PLAIN.index()] = OnceCell::new_with(Some(plain));
        Ok(Program(Arc::new(loaded)))
    }
}

/// Only the binary format is taken. wasmtime would compile the text format too, but a tool is a `.wasm` file.
fn check_binary(module: &[u8], max: u64) -> Result<(), String> {
    if module.len() as u64 > max {
        return Err(format!("it has {} bytes; at most {max} are taken (engine.max_module_bytes)", module.len()));
    }
    match module.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) | Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', version @ ..]) => Err(format!(
            "it is WebAssembly of an unknown version ({version:02x?}); expected a core module (version 1) or a component"
        )),
        _ if module.is_empty() => Err("it is empty".into()),
        _ => Err("it is not a WebAssembly binary: it does not begin with \\0asm".into()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| Error::Internal(format!("loading a module panicked: {error}")))
}

impl Loaded {
    /// Makes the program ready for one variant.
    async fn prepare(&self, variant: Variant) -> Result<Linked> {
        let invalid = |problem: String| Error::ModuleInvalid { tool: self.name.clone(), problem };
        let (engine, hash) = (self.engine.clone(), self.hash);
        if let Some(code) = blocking(move || engine.0.cached(&hash, variant.metered)).await? {
            match self.link(variant, code).await? {
                Ok(linked) => {
                    self.engine.0.note_cached();
                    return Ok(linked);
                }
                // Whole, but of no use: perhaps the caps changed, perhaps it never was. Compiling tells.
                Err(problem) => {
                    tracing::debug!(tool = self.name, problem, "the code in the cache was refused; compiling anew");
                    self.engine.0.forget(&hash, variant.metered);
                }
            }
        }
        let compiled = self.engine.0.workshop.compile(&self.module, variant.metered).await;
        let code = compiled.map_err(|failure| match failure {
            Failure::Module(problem) => invalid(problem),
            Failure::Server(problem) => Error::Internal(problem),
        })?;
        self.engine.0.note_compiled();
        let code = Arc::new(code);
        let linked = self.link(variant, code.clone()).await?.map_err(invalid)?;
        // Kept only now that it is known to be good for something.
        let engine = self.engine.clone();
        blocking(move || engine.0.keep(&hash, variant.metered, &code)).await?;
        Ok(linked)
    }

    async fn link(
        &self,
        variant: Variant,
        code: impl AsRef<Vec<u8>> + Send + 'static,
    ) -> Result<Result<Linked, String>> {
        let (engine, kind) = (self.engine.clone(), self.kind);
        blocking(move || Ok(link::link(engine.0.variant(variant)?, kind, code.as_ref()))).await?
    }

    async fn linked(&self, variant: Variant) -> Result<&Linked> {
        let cell = &self.variants[variant.index()];
        match cell.get() {
            Some(linked) => Ok(linked),
            None => cell.get_or_try_init(|| self.prepare(variant)).await,
        }
    }
}

impl Program {
    /// SHA-256 of the module, in hex.
    pub fn digest(&self) -> &Arc<str> {
        &self.0.digest
    }

    /// Module or component.
    pub fn kind(&self) -> ModuleKind {
        self.0.kind
    }

    /// Size of the module in bytes.
    pub fn size(&self) -> u64 {
        self.0.module.len() as u64
    }

    /// Memory in bytes that an instance has from the start; a smaller limit cannot run it.
    pub fn initial_memory_bytes(&self) -> u64 {
        let plain = &self.0.variants[Variant::PLAIN.index()];
        plain.get().map_or(0, |linked| linked.initial_memory)
    }

    /// Gets ready for runs with these limits. Where they ask for fuel, or for an unusual stack, this
    /// compiles; otherwise there is nothing to do. A run does it by itself, but then its caller waits.
    /// Answers what each of those runs takes, for those who would rather turn a run away than have it wait.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub async fn prepare(&self, limits: &Limits) -> Result<Room> {
        let variant = Variant::of(limits)?;
        let linked = self.0.linked(variant).await?;
        Ok(Room { pool: variant.index(), slots: linked.slots })
    }

    /// Runs the program once, in an instance of its own: on the caller's runtime, and on threads of the
    /// engine once it computes for more than a moment, or from the start if it has directories. Dropping the future ends the run and frees its slot,
    /// at once or, if it computes, within a few milliseconds; the figures up to then are in the run's meter.
    ///
    /// # Errors
    /// Only a run that could not start: [`Error::InvalidArgument`] for limits that cannot hold it,
    /// [`Error::ToolBroken`] for a directory that cannot be given, [`Error::Overloaded`] when all slots of
    /// its variant stayed taken for as long as its wall time. Whatever happens later is an [`Ended`].
    pub async fn run(&self, run: Run) -> Result<Ended> {
        let engine = &*self.0.engine.0;
        let caps = &engine.config.caps;
        let mut limits = run.limits;
        limits.memory_bytes = limits.memory_bytes.min(caps.memory_bytes);
        limits.table_elements = limits.table_elements.min(caps.table_elements);
        let variant = Variant::of(&limits)?;
        let linked = self.0.linked(variant).await?;
        if linked.initial_memory > limits.memory_bytes {
            return Err(too_little_memory(linked.initial_memory, limits.memory_bytes));
        }
        let slots = engine.slots(variant, linked.slots, limits.wall_time).await?;
        let running = engine.ticker.enter();
        let wall_time = limits.wall_time;
        let program = self.clone();
        // A file that never answers would keep a thread of the caller's runtime for good.
        let start = if run.directories.is_empty() { Start::Here } else { Start::There };
        let whole = async move {
            // Declared before the store, so dropped after it: the slot is free when the permit says so.
            let _held = (slots, running);
            let engine = &*program.0.engine.0;
            let linked = program.0.linked(variant).await?;
            match deadline::within(wall_time, program.execute(engine, linked, run, limits)).await {
                Some(result) => result,
                None => Ok(Ended::timed_out(&limits)),
            }
        };
        engine.workers.run(whole, start).await
    }

    async fn execute(&self, engine: &Inner, linked: &Linked, run: Run, limits: Limits) -> Result<Ended> {
        let state = State::new(run, &limits, &engine.roots)
            .map_err(|problem| Error::ToolBroken { name: self.0.name.clone(), problem })?;
        let mut guest = Guest::new(&linked.engine, state, limits.fuel)?;
        let store = &mut guest.store;
        let result = match &linked.pre {
            Pre::Module { pre, start } => match pre.instantiate_async(&mut *store).await {
                Ok(instance) => {
                    let start = instance.get_module_export(&mut *store, start).and_then(|export| export.into_func());
                    let start = start.ok_or_else(|| Error::Internal("an instance lost its _start".into()))?;
                    match start.typed::<(), ()>(&*store) {
                        Ok(start) => start.call_async(&mut *store, ()).await.map(|()| 0),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(not_started(error, store.data(), &limits)?),
            },
            Pre::Component(pre) => match pre.instantiate_async(&mut *store).await {
                Ok(command) => {
                    command.wasi_cli_run().call_run(&mut *store).await.map(|ended| i32::from(ended.is_err()))
                }
                Err(error) => Err(not_started(error, store.data(), &limits)?),
            },
        };
        Ok(match result {
            Ok(code) => Ended::exited(code),
            Err(error) => Ended::failed(&error, store.data().limiter.denied(), &limits),
        })
    }
}

/// Sorts an error of instantiation: guest code may run there, and then its end is a result.
fn not_started(error: wasmtime::Error, state: &State, limits: &Limits) -> Result<wasmtime::Error> {
    use super::limiter::Denied;
    let guest_ran = error.is::<Trap>() || error.is::<I32Exit>() || error.downcast_ref::<WasmBacktrace>().is_some();
    match state.limiter.denied() {
        _ if guest_ran => Ok(error),
        Some(Denied::Memory(needed)) => Err(too_little_memory(needed, limits.memory_bytes)),
        Some(Denied::Table(needed)) => Err(Error::invalid(
            "call.limits.table_elements",
            format!("is {}; the tool starts with a table of {needed} elements", limits.table_elements),
        )),
        None => Err(Error::Internal(format!("an instance cannot be made: {error:#}"))),
    }
}

fn too_little_memory(needed: u64, limit: u64) -> Error {
    Error::invalid("call.limits.memory_bytes", format!("is {limit}; the tool needs at least {needed} to start"))
}

/// Compiled code keeps its fuel in a register and writes it down this often (about every millisecond), and
/// where it calls the host. So the figure of a run that is cut off is off by no more than this.
const FUEL_INTERVAL: u64 = 1 << 20;

/// A store that leaves its fuel in the meter, even when the run is dropped in the middle.
struct Guest {
    store: Store<State>,
    fuel: Option<u64>,
}

impl Guest {
    fn new(engine: &wasmtime::Engine, state: State, fuel: Option<u64>) -> Result<Guest> {
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        if let Some(fuel) = fuel {
            let failed = |error| Error::Internal(format!("fuel cannot be set: {error:#}"));
            store.set_fuel(fuel).map_err(failed)?;
            store.fuel_async_yield_interval(Some(FUEL_INTERVAL)).map_err(failed)?;
        }
        Ok(Guest { store, fuel })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let (Some(given), Ok(left)) = (self.fuel, self.store.get_fuel()) {
            self.store.data().host.meter.fuel(given.saturating_sub(left));
        }
    }
}

impl Inner {
    /// Waits for slots, but no longer than the run would be allowed to take.
    async fn slots(&self, variant: Variant, count: u32, patience: Duration) -> Result<OwnedSemaphorePermit> {
        let slots = &self.variant(variant)?.slots;
        if let Ok(permit) = slots.clone().try_acquire_many_owned(count) {
            return Ok(permit);
        }
        match tokio::time::timeout(patience, slots.clone().acquire_many_owned(count)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(Error::Internal(closed.to_string())),
            Err(_) => Err(Error::Overloaded {
                scope: "the engine".into(),
                limit: u64::from(variant.slots(self.config.max_running)),
                retry_after: Duration::from_secs(1),
            }),
        }
    }
}
