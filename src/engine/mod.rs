//! WASM at the floor: compile once, then a fresh instance for every run, for microseconds.
//!
//! ```text
//! Engine::load   bytes -> check -> cache or compiler -> code -> link -> Program
//! Program::run   limits -> variant -> slot -> store + instance -> _start -> Ended
//! ```
//!
//! A [`Program`] is a WASI module with `_start`, or a component with `wasi:cli/run`. A [`Run`] brings its
//! limits, its streams as [`InputSource`] and [`OutputSink`], and nothing of the host besides: no
//! environment, no files, no network. Runs are futures on the caller's tokio runtime; dropping one ends it.
//!
//! `docs/engine.md` explains variants, the cache, the bounds on compiling, how memories are reset, and the
//! host interface.
//!
//! ```
//! use casemate::domain::{event, io, limits};
//! use casemate::engine::{DenyAll, Engine, EngineConfig, Run};
//! use std::{sync::Arc, task};
//!
//! struct NoInput;
//! impl io::InputSource for NoInput {
//!     fn read(&self, _max: usize) -> io::InputRead {
//!         io::InputRead::Eof
//!     }
//!     fn poll_ready(&self, _cx: &mut task::Context<'_>) -> task::Poll<()> {
//!         task::Poll::Ready(())
//!     }
//! }
//!
//! struct Print;
//! impl io::OutputSink for Print {
//!     fn write(&self, _stream: event::OutputStream, data: bytes::Bytes) {
//!         print!("{}", String::from_utf8_lossy(&data));
//!     }
//!     fn log(&self, level: event::LogLevel, message: String) {
//!         println!("{level:?}: {message}");
//!     }
//!     fn progress(&self, progress: event::Progress) {
//!         println!("{progress:?}");
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> casemate::Result<()> {
//! // The smallest program: (module (func (export "_start")))
//! let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
//! let engine = Engine::new(EngineConfig { max_running: 4, ..EngineConfig::default() })?;
//! let program = engine.load("nothing", bytes::Bytes::from_static(module)).await?;
//! let ended = program
//!     .run(Run {
//!         limits: limits::LimitsPolicy::default().defaults,
//!         args: vec!["nothing".into()],
//!         environment: Arc::default(),
//!         directories: Arc::from([]),
//!         input: Arc::new(NoInput),
//!         output: Arc::new(Print),
//!         meter: Arc::default(),
//!         egress: Arc::new(DenyAll),
//!     })
//!     .await?;
//! assert_eq!(ended.exit, casemate::domain::execution::Exit::Exited { code: 0 });
//! # Ok(()) }
//! ```
//!
//! [`InputSource`]: crate::domain::io::InputSource
//! [`OutputSink`]: crate::domain::io::OutputSink

mod cache;
pub mod compile;
mod deadline;
mod directories;
pub mod host;
mod limiter;
mod link;
mod outcome;
mod pagemap;
mod program;
mod state;
mod streams;
mod ticker;
mod variant;
mod workers;

#[cfg(fuzzing)]
pub use cache::fuzzing;
pub use compile::Compiler;
pub use host::{Denied, DenyAll, Egress};
pub use outcome::Ended;
pub use pagemap::Pagemap;
pub use program::{ModuleKind, Program, Room};
pub use state::Run;
pub(crate) use streams::Output;
pub(crate) use variant::fingerprint as code_fingerprint;

use crate::domain::limits::{Limits, LimitsPolicy};
use crate::domain::manifest::DirectoryGrant;
use crate::error::{Error, Result};
use cache::{Cache, Key};
use directories::Roots;
use link::VariantEngine;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ticker::Ticker;
use tokio::sync::Semaphore;
use variant::Variant;
use workers::Workers;

/// The version of wasmtime this is built with.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// How the engine works.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Runs at the same time: slots of the pool. Each reserves a little more than 8 GiB of address space,
    /// and no memory until it is used. 1 to 4096.
    pub max_running: u32,
    /// Sizes the slots: no run gets more memory or table elements than these, whatever its limits say. A
    /// memory has at most 4 GiB.
    pub caps: Limits,
    /// Larger modules are refused before anything else looks at them. Bytes.
    pub max_module_bytes: u64,
    /// Wall-clock time one compilation may take; for [`Compiler::Process`] only.
    pub compile_timeout: Duration,
    /// Address space in bytes one compilation may take; for [`Compiler::Process`] only.
    pub compile_memory: u64,
    /// Compilations at the same time.
    pub compile_workers: usize,
    /// Keeps compiled code; `None` compiles at each load.
    pub cache_dir: Option<PathBuf>,
    /// Who compiles.
    pub compiler: Compiler,
    /// How memories are reset between runs.
    pub pagemap: Pagemap,
    /// Directories below which a run may be given directories. Each must exist.
    pub directory_roots: Vec<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            max_running: 1024,
            caps: LimitsPolicy::default().caps,
            max_module_bytes: 64 << 20,
            compile_timeout: Duration::from_secs(60),
            compile_memory: 2 << 30,
            compile_workers: 1,
            cache_dir: None,
            compiler: Compiler::InProcess,
            pagemap: Pagemap::Auto,
            directory_roots: Vec::new(),
        }
    }
}

/// Loads programs and has the room to run them. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    config: EngineConfig,
    pagemap: Result<(), &'static str>,
    ticker: Ticker,
    workers: Workers,
    roots: Roots,
    workshop: compile::Workshop,
    /// Without and with metering.
    fingerprints: [[u8; 32]; 2],
    cache: Option<Cache>,
    variants: [OnceLock<VariantEngine>; Variant::COUNT],
    /// Held while a variant is made, so that no two threads reserve address space for the same one.
    making: Mutex<()>,
    programs: program::Programs,
    compiled: AtomicU64,
    from_cache: AtomicU64,
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFacts {
    /// Version of wasmtime.
    pub wasmtime: &'static str,
    /// Whether memories are reset through the kernel's page map; otherwise why not.
    pub pagemap: Result<(), &'static str>,
    /// Runs at this moment.
    pub running: u32,
    /// Runs at the same time at most.
    pub slots: u32,
    /// Where compiled code is kept; `None` if it is not.
    pub cache_dir: Option<PathBuf>,
    /// Modules compiled since the start; each variant counts.
    pub compiled: u64,
    /// Modules whose code came from the cache; each variant counts.
    pub from_cache: u64,
}

impl Engine {
    /// Starts an engine: reserves the address space of its slots and starts its clock. Takes milliseconds.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the setting that cannot be; [`Error::Internal`] if the system gives
    /// no address space or thread. A cache that cannot be used is no error: it is told in the log.
    pub fn new(config: EngineConfig) -> Result<Engine> {
        if !(1..=4096).contains(&config.max_running) {
            return Err(Error::invalid("engine.max_running", "expected 1 to 4096"));
        }
        if config.caps.memory_bytes > 4 << 30 {
            return Err(Error::invalid(
                "limits.caps.memory_bytes",
                "expected at most 4 GiB, the most a module can address",
            ));
        }
        let pagemap = pagemap::decide(config.pagemap)?;
        match pagemap {
            Ok(()) => tracing::debug!("memories are reset through the kernel's page map"),
            Err(why) => tracing::info!(why, "memories are reset by giving their pages back, which is slower"),
        }
        let fingerprint = |metered| -> Result<[u8; 32]> {
            let engine = wasmtime::Engine::new(&variant::code_config(metered)).map_err(cannot_start)?;
            Ok(variant::fingerprint(&engine))
        };
        let fingerprints = [fingerprint(false)?, fingerprint(true)?];
        let cache = config.cache_dir.as_deref().and_then(|directory| {
            Cache::open(directory, &fingerprints)
                .inspect_err(|problem| tracing::warn!(problem, "compiled code is not kept"))
                .ok()
        });
        let inner = Inner {
            pagemap,
            ticker: Ticker::start().map_err(|error| Error::Internal(format!("no thread for the clock: {error}")))?,
            workers: Workers::start().map_err(|error| Error::Internal(format!("no threads for guests: {error}")))?,
            roots: Roots::open(&config.directory_roots)?,
            workshop: compile::Workshop {
                compiler: config.compiler.clone(),
                places: Semaphore::new(config.compile_workers.clamp(1, Semaphore::MAX_PERMITS)),
                timeout: config.compile_timeout,
                memory: config.compile_memory,
            },
            fingerprints,
            cache,
            variants: Default::default(),
            making: Mutex::new(()),
            programs: program::Programs::default(),
            compiled: AtomicU64::new(0),
            from_cache: AtomicU64::new(0),
            config,
        };
        inner.variant(Variant::PLAIN)?;
        Ok(Engine(Arc::new(inner)))
    }

    /// What this engine is and how it stands.
    pub fn facts(&self) -> EngineFacts {
        let inner = &*self.0;
        EngineFacts {
            wasmtime: WASMTIME_VERSION,
            pagemap: inner.pagemap,
            running: inner.ticker.running(),
            slots: inner.config.max_running,
            cache_dir: inner.cache.as_ref().map(|cache| cache.directory().to_owned()),
            compiled: inner.compiled.load(Relaxed),
            from_cache: inner.from_cache.load(Relaxed),
        }
    }

    /// Name and slots of each pool. Runs that count fuel, or have an unusual stack, share smaller ones; see
    /// [`Program::prepare`] for which a run takes.
    pub fn pools(&self) -> Vec<(String, u32)> {
        let pool = |variant: Variant| (variant.pool_name(), variant.slots(self.0.config.max_running));
        Variant::all().map(pool).collect()
    }

    /// Runs a guest of another kind on this engine's clock and threads, within its wall time: `None` when that
    /// passed. Dropping the future ends it.
    pub(crate) async fn host<T: Send + 'static>(
        &self,
        wall_time: Duration,
        guest: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<Option<T>> {
        let running = self.0.ticker.enter();
        let whole = async move {
            let _running = running;
            deadline::within(wall_time, guest).await.transpose()
        };
        self.0.workers.run(whole, workers::Start::Here).await
    }

    /// Has the clock interrupt the guests of an engine of wasmtime that is not among this engine's own.
    pub(crate) fn adopt(&self, engine: wasmtime::Engine) {
        self.0.ticker.add(engine);
    }

    /// Whether a run could be given this directory; otherwise why not. For those who read manifests: a run
    /// checks again.
    pub fn check_directory(&self, grant: &DirectoryGrant) -> std::result::Result<(), String> {
        self.0.roots.resolve(grant).map(|_| ())
    }
}

fn cannot_start(error: wasmtime::Error) -> Error {
    Error::Internal(format!(
        "the engine cannot start: {error:#}; it needs about 8 GiB of address space for each of engine.max_running slots"
    ))
}

impl Inner {
    /// The engine of a variant, made when first asked for.
    fn variant(&self, variant: Variant) -> Result<&VariantEngine> {
        let cell = &self.variants[variant.index()];
        if let Some(ready) = cell.get() {
            return Ok(ready);
        }
        let _making = self.making.lock();
        if let Some(ready) = cell.get() {
            return Ok(ready);
        }
        let config = variant::server_config(&self.config, variant, self.pagemap.is_ok())?;
        let engine = wasmtime::Engine::new(&config).map_err(cannot_start)?;
        let made = VariantEngine::new(engine.clone(), variant.slots(self.config.max_running)).map_err(cannot_start)?;
        self.ticker.add(engine);
        Ok(cell.get_or_init(|| made))
    }

    fn key<'a>(&'a self, module: &'a [u8; 32], metered: bool) -> Key<'a> {
        Key { module, fingerprint: &self.fingerprints[usize::from(metered)] }
    }

    fn cached(&self, module: &[u8; 32], metered: bool) -> Option<Arc<Vec<u8>>> {
        let code = self.cache.as_ref()?.read(self.key(module, metered))?;
        Some(Arc::new(code))
    }

    fn keep(&self, module: &[u8; 32], metered: bool, code: &[u8]) {
        if let Some(cache) = &self.cache {
            cache.write(self.key(module, metered), code);
        }
    }

    fn forget(&self, module: &[u8; 32], metered: bool) {
        if let Some(cache) = &self.cache {
            cache.forget(self.key(module, metered));
        }
    }

    fn note_compiled(&self) {
        self.compiled.fetch_add(1, Relaxed);
    }

    fn note_cached(&self) {
        self.from_cache.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../Cargo.lock");
        let expected = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"\n");
        assert!(lock.contains(&expected), "Cargo.lock has another wasmtime than WASMTIME_VERSION says");
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let none = EngineConfig { max_running: 0, ..EngineConfig::default() };
        let huge = EngineConfig {
            caps: Limits { memory_bytes: (4 << 30) + 1, ..EngineConfig::default().caps },
            ..EngineConfig::default()
        };
        for (config, field) in [(none, "engine.max_running"), (huge, "limits.caps.memory_bytes")] {
            let Err(Error::InvalidArgument(violations)) = Engine::new(config) else { panic!("expected a refusal") };
            assert_eq!(violations[0].field, field);
        }
    }
}
