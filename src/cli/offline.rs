//! A server for one command: for a machine on which none runs.
//!
//! It is the server itself, on the data directory of the configuration and a loopback port that the system chooses.
//! So there is one way in which state is written, and the lock of the data directory keeps the command out while
//! another server runs.

use super::Global;
use super::client::Client;
use super::config::server_flags;
use super::failure::{FAILED, Failure};
use crate::app::{self, Listeners};
use crate::config::{Config, Environment, Sources, load};
use crate::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// A server of one's own, on threads of its own.
pub struct Server {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<crate::Result<()>>,
    address: SocketAddr,
    token: Option<String>,
}

impl Server {
    /// Starts it, with the state and the limits of the configuration.
    pub async fn start(global: &Global) -> Result<Server, Failure> {
        let sources = Sources {
            file: global.config.clone(),
            environment: Environment::of_process(),
            flags: server_flags(&Global { address: None, ..global.clone() }),
        };
        let mut config = load(&sources)?.config;
        // Nobody else is meant to find it.
        config.server.address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.server.socket = None;
        config.http.enabled = false;
        config.tools.watch = false;
        let token = config.auth.token.as_ref().map(|token| token.expose().to_owned());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let thread = std::thread::spawn(move || serve(config, ready, stopped));
        match is_ready.await {
            Ok(address) => Ok(Server { stop, thread, address, token }),
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => failure(&error),
                Ok(Ok(())) => failure(&Error::ShuttingDown),
                Err(_) => failure(&Error::Internal("the server panicked".into())),
            }),
        }
    }

    /// A client of it.
    pub async fn client(&self, global: &Global) -> Result<Client, Failure> {
        let address = Some(self.address.to_string());
        Client::connect(&Global { address, token: self.token.clone(), ..global.clone() }).await
    }

    /// Puts everything away.
    pub fn stop(self) -> Result<(), Failure> {
        drop(self.stop);
        let ended = self.thread.join().unwrap_or_else(|_| Err(Error::Internal("the server panicked".into())));
        ended.map_err(|error| Failure::local("the server did not end well", error))
    }
}

fn serve(config: Config, ready: oneshot::Sender<SocketAddr>, stopped: oneshot::Receiver<()>) -> crate::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Internal(format!("threads cannot be started: {error}")))?;
    runtime.block_on(async {
        let listeners = Listeners::bind(&config).await?;
        let address = listeners.addresses()?.grpc;
        // Nobody listens any more only if the command was given up: then it stops at once.
        let ready = move || ready.send(address).unwrap_or_default();
        // An error means that whoever could stop it is gone, which is a stop as well.
        app::run(config, listeners, ready, async { stopped.await.unwrap_or_default() }).await
    })
}

fn failure(error: &Error) -> Failure {
    let todo = "if a server runs on this data directory, leave out --offline: it can do this itself";
    Failure::new(FAILED, "this cannot be done offline", error.to_string(), todo)
}
