//! Connections to Docker: by a socket of this machine, by TCP, by TLS.

use crate::container::backend::{BackendError, BackendResult};
use bollard::errors::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where a daemon of this machine listens.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Time for a connection to come about.
const DIAL: Duration = Duration::from_secs(10);

/// Pause before a socket whose queue is full is tried again.
const QUEUE: Duration = Duration::from_millis(5);

/// How to reach a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    /// Where it listens.
    pub address: Address,
    /// Certificates; without them TCP is plain.
    pub tls: Option<Tls>,
    /// Longest time of a call, but for pulls and for waiting until a container ends.
    pub timeout: Duration,
}

impl Default for DockerConfig {
    /// The daemon of this machine, where it usually is.
    fn default() -> Self {
        DockerConfig { address: Address::Socket(DEFAULT_SOCKET.into()), tls: None, timeout: Duration::from_secs(60) }
    }
}

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    Socket(PathBuf),
    /// A port, mostly of another machine.
    Tcp {
        /// Name or IP address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Certificates for a daemon that listens on TCP; files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that the daemon's certificate may be from. No others are trusted.
    pub ca: PathBuf,
    /// Certificate of this server and its key, where the daemon wants one.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Address {
    /// An address from its text, as `DOCKER_HOST` has it: `unix:///path` or `tcp://host:port`. An error says what was
    /// expected.
    pub fn parse(text: &str) -> Result<Address, String> {
        let expected = || format!("{text:?} is neither \"unix:///path/of/socket\" nor \"tcp://host:port\"");
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Address::Socket(path.into())),
                false => Err(expected()),
            };
        }
        let rest = text.strip_prefix("tcp://").ok_or_else(expected)?;
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(expected)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(expected)?;
        match host.is_empty() || host.contains('/') {
            true => Err(expected()),
            false => Ok(Address::Tcp { host: host.to_owned(), port }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// A stream in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// Makes connections to a daemon.
pub(super) struct Endpoint {
    address: Address,
    tls: Option<TlsConnector>,
}

impl Endpoint {
    /// Reads the certificates; connects nothing.
    pub fn new(address: Address, tls: Option<&Tls>) -> BackendResult<Endpoint> {
        let tls = match (tls, &address) {
            (Some(_), Address::Socket(_)) => {
                return Err(BackendError::Refused("certificates are for TCP; a socket needs none".into()));
            }
            (Some(tls), Address::Tcp { .. }) => Some(TlsConnector::from(Arc::new(tls_config(tls)?))),
            (None, _) => None,
        };
        Ok(Endpoint { address, tls })
    }

    /// Whether the daemon listens on a socket of this machine.
    pub fn is_socket(&self) -> bool {
        matches!(self.address, Address::Socket(_))
    }

    /// A new connection. Errors say where it was to go, and what to do.
    pub async fn dial(&self) -> Result<Box<dyn Duplex>, Error> {
        let connected = tokio::time::timeout(DIAL, self.connect()).await;
        let result = connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        result.map_err(|error| {
            let advice = match (&self.address, error.kind()) {
                (_, io::ErrorKind::PermissionDenied) => {
                    "let this server's user use the socket, mostly by the group \"docker\""
                }
                (Address::Socket(_), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    "start the Docker daemon, or name the socket that it listens on"
                }
                (Address::Socket(_), _) => "look at the Docker daemon of this machine",
                (Address::Tcp { .. }, io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                    "look at the certificates of both sides, and whether the daemon wants TLS there"
                }
                (Address::Tcp { .. }, _) => "look whether the Docker daemon runs, and at the network in between",
            };
            let err = io::Error::new(error.kind(), format!("{}: {error}; {advice}", self.address));
            Error::IOError { err }
        })
    }

    /// A connection that ended before there was an answer.
    pub fn broken(&self, error: &hyper::Error) -> Error {
        let mut reasons = error.to_string();
        let mut reason = std::error::Error::source(error);
        while let Some(error) = reason {
            reasons = format!("{reasons}: {error}");
            reason = error.source();
        }
        let advice = match (&self.address, &self.tls) {
            (Address::Socket(_), _) => "look whether a Docker daemon listens there, and at its log",
            (_, None) => "look whether the Docker daemon wants TLS there",
            (_, Some(_)) => "look whether the Docker daemon takes the certificate of this server",
        };
        let address = &self.address;
        Error::IOError { err: io::Error::other(format!("{address}: no answer: {reasons}; {advice}")) }
    }

    async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        let (host, port) = match &self.address {
            Address::Socket(path) => return Ok(Box::new(connect_socket(path).await?)),
            Address::Tcp { host, port } => (host, *port),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

async fn connect_socket(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            // Its queue of connections is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(QUEUE).await,
            result => return result,
        }
    }
}

fn tls_config(tls: &Tls) -> BackendResult<ClientConfig> {
    let unusable = |path: &Path, error: &dyn fmt::Display| {
        BackendError::Refused(format!("cannot use {} for Docker: {error}", path.display()))
    };
    let certificates = |path: &Path| -> BackendResult<Vec<CertificateDer<'static>>> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(found) if found.is_empty() => Err(unusable(path, &"there is no certificate in it")),
            Ok(found) => Ok(found),
            Err(error) => Err(unusable(path, &error)),
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca)? {
        roots.add(certificate).map_err(|error| unusable(&tls.ca, &error))?;
    }
    // Named, not found by chance: another part of the process may have another one.
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BackendError::Failed(error.to_string()))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &tls.own else { return Ok(config.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    config.with_client_auth_cert(chain, secret).map_err(|error| unusable(certificate, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_dockers_own_client_reads_them() {
        for text in ["unix:///var/run/docker.sock", "tcp://10.0.0.1:2376", "tcp://[::1]:2375", "tcp://box.example:1"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "/var/run/docker.sock", "unix://relative", "tcp://host", "tcp://:1", "tcp://h:0", "ssh://h:22"]
        {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn certificates_that_cannot_be_read_are_named() {
        let missing = Tls { ca: "/nonexistent/ca.pem".into(), own: None };
        let address = Address::Tcp { host: "box.example".into(), port: 2376 };
        let error = Endpoint::new(address, Some(&missing)).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    }
}
