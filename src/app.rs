//! The only composition root: from a configuration and bound listeners to a running server, and down again.
//!
//! Up: store, executions (what a killed server left becomes lost), engine, tools, sessions (as of their last
//! checkpoints), services, listeners. Down: stop accepting, let executions finish within the grace period, end the
//! rest, flush, make sessions durable, close.

use self::accept::{Accept, Room};
pub use self::descriptors::raise as raise_descriptors;
pub use self::listeners::{Addresses, Listeners};
use crate::auth::Authenticator;
use crate::config::Config;
use crate::container::Containers;
use crate::engine::{Compiler, DenyAll, Engine, EngineConfig, Pagemap};
use crate::error::{Error, Result};
use crate::execution::{Registry, RegistryConfig};
use crate::health::{ComponentState, Health};
use crate::interpreter::{Interpreters, InterpretersConfig};
use crate::pool::Pools;
use crate::rpc::{Behind, Server, ServerConfig};
use crate::session::kernel::Kernels;
use crate::session::{BuiltIns, Sessions, SessionsParts};
use crate::store::Store;
use crate::store::executions::Retention;
use crate::store::shelf::Shelf;
use crate::telemetry::{Metrics, ModuleReadings};
use crate::tool::{
    BuiltInSnapshots, Catalog, CatalogConfig, Inside, InterpreterKernels, Interpreting, Link, NotebookKernels,
    ToolService,
};
use crate::{http, rpc, tool};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::TcpIncoming;

mod accept;
mod descriptors;
mod listeners;
mod observers;
mod sandboxes;

/// How long connections may take to send their last bytes once no execution is left. Half-open
/// connections and streams that never end by themselves are cut then.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a server until `shutdown` resolves and everything is put away. `ready` is called once it
/// answers.
pub async fn run(
    config: Config,
    listeners: Listeners,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let health = Health::new();
    let metrics = Arc::new(Metrics::new(rpc::methods().iter().map(|method| method.label.clone())));
    let (stop, stopped) = watch::channel(false);
    let until_stopped = |mut stopped: watch::Receiver<bool>| async move {
        // An error means the sender is gone, which is a stop as well.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    // The sidecar first: a probe learns that the server is starting rather than nothing.
    let sidecar = listeners.http.map(|listener| {
        let sidecar = http::Sidecar::new(health.clone(), metrics.clone());
        tokio::spawn(http::serve(listener, sidecar, until_stopped(stopped.clone())))
    });

    let parts = Parts::make(&config, &health, &metrics).await?;
    let server = Server::new(
        ServerConfig {
            max_message: usize::try_from(config.server.max_message).unwrap_or(usize::MAX),
            max_module: config.engine.max_module,
        },
        Behind {
            tools: parts.tools.clone(),
            sessions: parts.sessions.clone(),
            containers: parts.containers.clone(),
            pools: parts.pools.clone(),
        },
        match &config.auth.token {
            Some(token) => Authenticator::token(token.expose()),
            None => Authenticator::open(),
        },
        health.clone(),
        Arc::new(observers::Calls(metrics.clone())),
    )?;
    // Two steps down: first nobody new comes in, then those who are in are sent away.
    let (drain, drained) = watch::channel(false);
    let (dismiss, dismissed) = watch::channel(false);
    let room = Room::new(descriptors::connections(config.server.max_connections), metrics.connections().clone());
    let mut serving = tokio::task::JoinSet::new();
    {
        let server = server.clone();
        let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
        let incoming = Accept::new(incoming, until_stopped(drained.clone()), room.clone());
        let shutdown = until_stopped(dismissed.clone());
        serving.spawn(async move { server.serve(incoming, shutdown).await });
    }
    let (socket, _socket_file) = listeners.socket.map(|socket| (socket.listener, socket.file)).unzip();
    if let Some(listener) = socket {
        let incoming = Accept::new(UnixListenerStream::new(listener), until_stopped(drained), room);
        let shutdown = until_stopped(dismissed);
        serving.spawn(async move { server.serve(incoming, shutdown).await });
    }
    health.started();
    ready();

    tokio::select! {
        () = shutdown => tracing::info!("shutting down"),
        Some(ended) = serving.join_next() => {
            health.drain();
            let problem = match ended {
                Ok(Err(error)) => error,
                Ok(Ok(())) => Error::Internal("a listener closed".into()),
                Err(error) => Error::Internal(format!("serving panicked: {error}")),
            };
            parts.close(Duration::ZERO).await;
            return Err(problem);
        }
    }
    health.drain();
    let _ = drain.send(true);
    parts.close(config.server.drain_timeout).await;
    let _ = dismiss.send(true);
    let last_words = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
        tracing::warn!("cutting connections that are still open");
        serving.abort_all();
    }
    parts.store.close();
    let _ = stop.send(true);
    if let Some(sidecar) = sidecar {
        let _ = tokio::time::timeout(LAST_WORDS, sidecar).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// What works behind the services.
struct Parts {
    store: Arc<Store>,
    registry: Registry,
    tools: Arc<ToolService>,
    sessions: Arc<Sessions>,
    containers: Option<Arc<Containers>>,
    pools: Option<Arc<Pools>>,
    _watcher: Option<Box<dyn Send>>,
}

impl Parts {
    async fn make(config: &Config, health: &Health, metrics: &Arc<Metrics>) -> Result<Parts> {
        let data = &config.store.directory;
        let store = Arc::new(Store::open(data, metrics.clone())?);
        observers::follow_store(&store, health.clone());
        let registry = Registry::open(
            store.clone(),
            RegistryConfig {
                max_running: config.execution.max_running,
                max_queued: config.execution.max_queued,
                retention: Retention {
                    max_count: config.retention.max_count,
                    max_age: config.retention.max_age,
                    max_bytes: config.retention.max_bytes,
                },
                memory: config.retention.memory,
                ledgers: Some(data.join("ledgers")),
            },
            metrics.clone(),
        )
        .await?;

        let limits = config.limits.policy();
        let engine = Engine::new(EngineConfig {
            max_running: config.execution.max_running,
            caps: limits.caps,
            max_module_bytes: config.engine.max_module,
            compile_timeout: config.engine.compile_timeout,
            compile_memory: config.engine.compile_memory,
            compile_workers: config.engine.compile_workers as usize,
            cache_dir: Some(data.join("modules")),
            compiler: compiler(),
            pagemap: match config.engine.pagemap {
                crate::config::PagemapUse::Auto => Pagemap::Auto,
                crate::config::PagemapUse::On => Pagemap::On,
                crate::config::PagemapUse::Off => Pagemap::Off,
            },
            directory_roots: config.engine.directory_roots.clone(),
        })?;
        health.set(
            "engine",
            ComponentState::Up,
            match engine.facts().pagemap {
                Ok(()) => "memories are reset through the page map".to_owned(),
                Err(why) => format!("memories are reset by giving pages back: {why}"),
            },
        );

        let interpreters = Interpreters::open(
            &InterpretersConfig {
                directory: config.interpreters_directory(),
                max_idle: config.interpreters.idle_memories,
                pagemap: config.engine.pagemap != crate::config::PagemapUse::Off,
                packages: config.interpreters.packages.clone(),
            },
            &engine,
        );
        observers::load_interpreters(&interpreters, health);
        let facts = engine.clone();
        let catalog = Catalog::open(
            CatalogConfig {
                directory: config.tools.directory.clone(),
                max_module_bytes: config.engine.max_module,
                max_running_per_tool: config.execution.max_running_per_tool,
                limits,
            },
            engine,
            interpreters.clone(),
            store.clone(),
            Arc::new(observers::Tools::new(metrics.clone(), health.clone())),
        )
        .await?;
        metrics.read_modules_from(move || {
            let facts = facts.facts();
            ModuleReadings { from_cache: facts.from_cache, compiled: facts.compiled }
        });
        let watcher = match config.tools.watch {
            true => Some(Box::new(tool::watch(&catalog)?) as Box<dyn Send>),
            false => None,
        };
        let link = Link::default();
        // Those that are not installed, too: their error says what to do.
        let kernels: Vec<Arc<InterpreterKernels>> = interpreters
            .all()
            .iter()
            .map(|interpreter| InterpreterKernels::new(interpreter.clone(), Arc::new(DenyAll), link.clone()).into())
            .collect();
        let built_ins = Arc::new(BuiltInSnapshots(interpreters));
        let (named, bounds) = (built_ins.clone(), config.sessions.bounds());
        let is_built_in = move |name: &str| named.snapshots().iter().any(|known| known.snapshot.name == name);
        let shelf = Shelf::open(&store, bounds.max_snapshots, is_built_in).await?;
        let containers =
            sandboxes::containers(config, shelf.clone(), store.clone(), registry.clone(), metrics, health).await?;
        let (pools, inside) = match &containers {
            Some(containers) => {
                let pools = sandboxes::pools(config, containers, &store, metrics).await?;
                let inside = Inside::new(containers.clone(), pools.clone(), registry.clone(), limits)?;
                (Some(pools), Some(inside))
            }
            None => (None, None),
        };
        let mut holders: Vec<Arc<dyn Kernels>> = kernels.iter().map(|kernels| kernels.clone() as _).collect();
        holders.extend(inside.iter().map(|inside| NotebookKernels::new(inside.clone()) as _));
        let sessions = Sessions::open(SessionsParts {
            store: store.clone(),
            registry: registry.clone(),
            directory: data.clone(),
            config: bounds,
            shelf,
            kernels: holders,
            built_ins,
            observer: Arc::new(observers::Sessions::new(health.clone())),
        })
        .await?;
        let interpreting = Interpreting { sessions: sessions.clone(), kernels, link };
        let most = config.execution.max_parameters;
        let tools = ToolService::new(catalog, registry.clone(), limits, most, interpreting, inside);
        observers::read_from(metrics, registry.clone(), &store, tools.catalog(), &sessions);
        Ok(Parts { store, registry, tools, sessions, containers, pools, _watcher: watcher })
    }

    async fn close(&self, grace: Duration) {
        if let Some(pools) = &self.pools {
            pools.shut_down();
        }
        if let Some(containers) = &self.containers {
            containers.shut_down().await;
        }
        if let Err(error) = self.registry.shut_down(grace).await {
            tracing::error!(%error, "the last records could not be written");
        }
        // No call runs any more: what the sessions hold is made durable.
        self.sessions.shut_down().await;
    }
}

/// Modules are compiled by a process of their own where there is one to start: this very program, if it
/// is `casemate` and not a program that uses the library.
fn compiler() -> Compiler {
    match std::env::current_exe() {
        Ok(path) if path.file_name().is_some_and(|name| name == "casemate") => {
            // The link to the running file stays right when an update replaces the file.
            Compiler::Process(PathBuf::from("/proc/self/exe"))
        }
        _ => Compiler::InProcess,
    }
}
