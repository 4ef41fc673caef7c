//! Where the server listens: bound before it starts, so that a taken port is known at once.

use crate::config::Config;
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};

/// How long an address may be taken by somebody else who is about to go.
const LISTEN_PATIENCE: Duration = Duration::from_secs(3);
const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// Everything the server listens on, bound before it starts so that a taken port is known at once.
pub struct Listeners {
    pub(super) grpc: TcpListener,
    pub(super) socket: Option<Socket>,
    pub(super) http: Option<TcpListener>,
}

pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// Removes the socket's file when the server is done with it.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Should it stay, the next start removes it: nobody will answer on it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC over TCP.
    pub grpc: SocketAddr,
    /// gRPC over a Unix socket.
    pub socket: Option<PathBuf>,
    /// Health and metrics over HTTP.
    pub http: Option<SocketAddr>,
}

impl Listeners {
    /// Binds what the configuration names; port 0 takes any free port.
    pub async fn bind(config: &Config) -> Result<Listeners> {
        let tcp = |key: &'static str, address: SocketAddr| async move {
            listen(key, address).await.map_err(|error| {
                Error::Internal(format!("cannot listen on {address} ({key}): {error}; choose another address or port"))
            })
        };
        let grpc = tcp("server.address", config.server.address).await?;
        let http = match config.http.enabled {
            true => Some(tcp("http.address", config.http.address).await?),
            false => None,
        };
        let socket = config.server.socket.as_deref().map(bind_socket).transpose()?;
        Ok(Listeners { grpc, socket, http })
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> Result<Addresses> {
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(|error| Error::Internal(format!("a listener has no address: {error}")))
        };
        Ok(Addresses {
            grpc: address(&self.grpc)?,
            socket: self.socket.as_ref().map(|socket| socket.file.0.clone()),
            http: self.http.as_ref().map(address).transpose()?,
        })
    }
}

/// Listens as soon as the address is free. A server that was just killed keeps its own for as long as the system takes to
/// put away its memory, and whoever restarts it is there first.
async fn listen(key: &'static str, address: SocketAddr) -> std::io::Result<TcpListener> {
    let patience = Instant::now() + LISTEN_PATIENCE;
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < patience => {
                if !told {
                    tracing::warn!(%address, key, "somebody listens there already; waiting a moment for them to go");
                    told = true;
                }
                tokio::time::sleep(LISTEN_PAUSE).await;
            }
            done => return done,
        }
    }
}

fn bind_socket(path: &Path) -> Result<Socket> {
    let refuse = |error: std::io::Error| {
        Error::Internal(format!("cannot listen on {} (server.socket): {error}; choose another path", path.display()))
    };
    // A socket that a killed server left behind: nobody answers on it.
    if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).map_err(refuse)?;
    }
    let listener = UnixListener::bind(path).map_err(refuse)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(refuse)?;
    Ok(Socket { listener, file: SocketFile(path.to_owned()) })
}
