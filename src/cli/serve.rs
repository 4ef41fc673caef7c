//! `casemate serve`: configuration, logging, listeners, and the server until a signal ends it.

use super::Global;
use super::config::server_flags;
use super::failure::Failure;
use crate::app::{self, Addresses, Listeners};
use crate::config::{Environment, Flag, Loaded, Sources, load};
use crate::telemetry::logging;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Flags that set keys of the configuration, and where to tell that the server is ready.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// http.address: IP:PORT of /health and /metrics
    #[arg(long, value_name = "ADDRESS")]
    http_address: Option<String>,
    /// server.socket: a Unix socket for gRPC as well
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,
    /// tools.directory: where NAME.wasm files are
    #[arg(long, value_name = "DIRECTORY")]
    tools: Option<String>,
    /// store.directory: where state is kept
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<String>,
    /// log.format: auto, text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// log.level: error, warn, info, debug, trace, or directives such as info,casemate=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Write a file when the server answers: {"grpc":"127.0.0.1:9800","socket":null,"http":"127.0.0.1:9801","pid":7}.
    /// It is removed at the end
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

/// Runs a server. Comes back when it has stopped.
pub fn run(args: ServeArgs, global: Global) -> Result<ExitCode, Failure> {
    let ServeArgs { http_address, socket, tools, data, log_format, log_level, ready_file } = args;
    let flag = |name, key, value: Option<String>| value.map(|value| Flag { name, key, value });
    let flags = [
        flag("--http-address", "http.address", http_address),
        flag("--socket", "server.socket", socket),
        flag("--tools", "tools.directory", tools),
        flag("--data", "store.directory", data),
        flag("--log-format", "log.format", log_format),
        flag("--log-level", "log.level", log_level),
    ];
    let flags = flags.into_iter().flatten().chain(server_flags(&global)).collect();
    let loaded = load(&Sources { file: global.config, environment: Environment::of_process(), flags })?;
    logging::start(&loaded.config.log).map_err(|error| Failure::local("logging could not start", error))?;
    app::raise_descriptors();
    // A guest that computes keeps its worker for a few milliseconds before it moves to a thread of the engine.
    // With the usual interval of 61 such turns, a rush of them would keep sockets and timers waiting.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(8).build();
    let runtime = runtime.map_err(|error| Failure::local("the server could not start", error))?;
    let result = runtime.block_on(serve(loaded, ready_file));
    // The server has put everything away; what is left is work nobody waits for.
    runtime.shutdown_background();
    result
}

async fn serve(loaded: Loaded, ready_file: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let failed = |error: crate::Error| Failure::local("the server could not start", error);
    let Loaded { config, file, warnings } = loaded;
    match &file {
        Some(path) => tracing::info!(file = %path.display(), "configuration read"),
        None => tracing::info!("no configuration file; defaults, environment and flags"),
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if config.auth.token.is_none() {
        tracing::warn!("no auth.token: every process on this machine may run tools; `casemate init` makes one");
    }
    let signals = Signals::listen().map_err(|error| Failure::local("signals cannot be received", error))?;
    let listeners = Listeners::bind(&config).await.map_err(failed)?;
    let addresses = listeners.addresses().map_err(failed)?;
    let stop = Arc::new(Notify::new());
    let ready = match ready_file {
        Some(path) => Some(ReadyFile::prepare(path, &addresses)?),
        None => None,
    };
    let announced = Arc::new(parking_lot::Mutex::new(None));
    let announce = {
        let (stop, announced) = (stop.clone(), announced.clone());
        move || {
            let Addresses { grpc, socket, http } = addresses;
            let socket = socket.map(|path| path.display().to_string());
            let http = http.map(|address| address.to_string());
            let shown = ready.map(ReadyFile::show);
            if let Some(Err(_)) = &shown {
                // Whoever waits for the file would wait for ever.
                stop.notify_one();
            }
            *announced.lock() = shown;
            tracing::info!(%grpc, socket, http, "ready");
        }
    };
    app::run(config, listeners, announce, signals.first(stop))
        .await
        .map_err(|error| Failure::local("the server failed", error))?;
    match announced.lock().take() {
        Some(Err(failure)) => Err(failure),
        // Dropping it removes the file.
        Some(Ok(_)) | None => Ok(ExitCode::SUCCESS),
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// What the shell expects of a process that ended by a signal, less the number of the signal.
const SIGNALLED: i32 = 128;

impl Signals {
    /// From here on the two do not end the process by themselves.
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Resolves with the first signal, or when `stop` is told. From then on a signal ends the process at once.
    async fn first(mut self, stop: Arc<Notify>) {
        tokio::select! {
            _ = self.next() => {}
            () = stop.notified() => {}
        }
        tokio::spawn(async move {
            let number = self.next().await;
            tracing::warn!("told twice to stop: exiting at once");
            std::process::exit(SIGNALLED + number);
        });
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
        }
    }
}

/// The file that tells others where the server listens. Written beside its place before the server
/// starts, so that a directory that cannot be written is known at once; moved there when it is ready.
struct ReadyFile {
    path: PathBuf,
    temporary: PathBuf,
}

/// The file in its place; dropping this removes it.
struct Shown(PathBuf);

impl Drop for Shown {
    fn drop(&mut self) {
        // Somebody else may have removed it first.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl ReadyFile {
    fn prepare(path: PathBuf, addresses: &Addresses) -> Result<ReadyFile, Failure> {
        let mut temporary = path.as_os_str().to_owned();
        // One name for all: what a killed server left is taken over by the next.
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let content = json!({
            "grpc": addresses.grpc.to_string(),
            "socket": addresses.socket.as_deref().map(|path| path.display().to_string()),
            "http": addresses.http.map(|address| address.to_string()),
            "pid": std::process::id(),
        });
        let write = |path: &Path| writeln!(std::fs::File::create(path)?, "{content}");
        write(&temporary).map_err(|error| failure(&path, &error))?;
        Ok(ReadyFile { path, temporary })
    }

    fn show(self) -> Result<Shown, Failure> {
        std::fs::rename(&self.temporary, &self.path).map_err(|error| failure(&self.path, &error))?;
        Ok(Shown(self.path.clone()))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // Gone already if the server became ready.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local(format!("the ready file {} cannot be written", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_file_appears_whole_and_goes_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        let addresses = Addresses { grpc: "127.0.0.1:1".parse().unwrap(), socket: Some("/a".into()), http: None };
        let ready = ReadyFile::prepare(path.clone(), &addresses).unwrap();
        assert!(!path.exists());
        let shown = ready.show().unwrap();
        let content: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let expected = json!({ "grpc": "127.0.0.1:1", "socket": "/a", "http": null, "pid": std::process::id() });
        assert_eq!(content, expected);
        drop(shown);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        drop(ReadyFile::prepare(path, &addresses).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_ready_file_that_cannot_be_written_is_known_before_the_start() {
        let addresses = Addresses { grpc: "127.0.0.1:1".parse().unwrap(), socket: None, http: None };
        assert!(ReadyFile::prepare("/nowhere/at/all".into(), &addresses).is_err());
    }
}
