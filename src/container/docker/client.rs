//! Calls of Docker: a connection for each, the version of the API that both sides speak, and a limit of time.
//!
//! A connection for each costs a tenth of a millisecond on a socket of this machine, and a daemon that was started again
//! is noticed by nobody. What is known of the daemon is forgotten as soon as it does not answer.

use super::connection::Endpoint;
use super::errors;
use crate::container::backend::{BackendError, BackendResult};
use bollard::errors::Error;
use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion};
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The oldest API that this module speaks: Docker 20.10.
const OLDEST: (usize, usize) = (1, 41);

/// For calls that take as long as they take.
const NO_LIMIT: Duration = Duration::from_secs(u32::MAX as u64);

/// What is known of a daemon while it answers.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Version of its API that is spoken.
    pub api: (usize, usize),
    /// Whether its containers are in control groups of the first version.
    pub cgroup_v1: bool,
    /// Processors that it has.
    pub cpus: u32,
}

/// Calls a daemon.
pub(super) struct Client {
    wire: Arc<Wire>,
    api: bollard::Docker,
    timeout: Duration,
}

struct Wire {
    endpoint: Endpoint,
    known: Mutex<Option<Known>>,
}

impl Client {
    /// Calls of the daemon there, each for `timeout` at most. Nothing is connected yet.
    pub fn new(endpoint: Endpoint, timeout: Duration) -> BackendResult<Client> {
        let wire = Arc::new(Wire { endpoint, known: Mutex::new(None) });
        let sending = wire.clone();
        let transport = move |request: BollardRequest| {
            let wire = sending.clone();
            async move { wire.send(request).await }
        };
        let address = Some("http://docker");
        let api = bollard::Docker::connect_with_custom_transport(transport, address, 0, API_DEFAULT_VERSION)
            .map_err(|error| errors::backend(&error))?
            .with_timeout(NO_LIMIT);
        Ok(Client { wire, api, timeout })
    }

    /// Where the daemon is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.wire.endpoint
    }

    /// Makes a call, within the limit of time. The error is the client's own, for callers that tell them apart.
    pub async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        act: impl Fn(bollard::Docker) -> F,
    ) -> Result<T, Error> {
        self.within(async {
            self.known().await?;
            match act(self.api.clone()).await {
                Err(error) if errors::is_other_version(&error) => {
                    self.forget();
                    self.known().await?;
                    act(self.api.clone()).await
                }
                result => result,
            }
        })
        .await
    }

    /// The client for a call that takes as long as it takes. The daemon answered just now.
    pub async fn unlimited(&self) -> Result<bollard::Docker, Error> {
        self.within(self.known()).await?;
        Ok(self.api.clone())
    }

    /// Sends a request as it is, for answers that the client does not understand.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Error>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.within(async {
            self.known().await?;
            self.wire.send(request).await
        })
        .await
    }

    /// What is known of the daemon; asks it when nothing is.
    pub async fn known(&self) -> Result<Known, Error> {
        let known = self.wire.known.lock().clone();
        match known {
            Some(known) => Ok(known),
            None => Ok(self.meet().await?.0),
        }
    }

    /// Asks the daemon how it is, within the limit of time.
    pub async fn meet_in_time(&self) -> Result<(Known, SystemInfo), Error> {
        self.within(self.meet()).await
    }

    async fn meet(&self) -> Result<(Known, SystemInfo), Error> {
        self.forget();
        let version = self.api.version().await?;
        let theirs = version.api_version.as_deref().and_then(numbers).unwrap_or(OLDEST);
        if theirs < OLDEST {
            let (major, minor) = OLDEST;
            let message = format!(
                "its API is of version {}.{}, and {major}.{minor} is the oldest that works; install Docker 20.10 or \
                 a later one",
                theirs.0, theirs.1
            );
            return Err(Error::DockerResponseServerError { status_code: 400, message });
        }
        let ClientVersion { major_version, minor_version } = *API_DEFAULT_VERSION;
        let mut known = Known { api: theirs.min((major_version, minor_version)), cgroup_v1: false, cpus: 0 };
        self.learn(&known);
        let info = self.api.info().await?;
        known.cgroup_v1 = !matches!(info.cgroup_version, Some(SystemInfoCgroupVersionEnum::_2));
        known.cpus = info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(0);
        self.learn(&known);
        Ok((known, info))
    }

    fn learn(&self, known: &Known) {
        *self.wire.known.lock() = Some(known.clone());
    }

    /// Asks the daemon anew at the next call.
    pub fn forget(&self) {
        *self.wire.known.lock() = None;
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let result = tokio::time::timeout(self.timeout, call).await.unwrap_or(Err(Error::RequestTimeoutError));
        // Whoever answers next may be another one.
        if result.as_ref().is_err_and(errors::is_away) {
            self.forget();
        }
        result
    }

    /// As [`Client::call`], with the backend's errors.
    pub async fn ask<T, F: Future<Output = Result<T, Error>>>(
        &self,
        act: impl Fn(bollard::Docker) -> F,
    ) -> Result<T, BackendError> {
        self.call(act).await.map_err(|error| errors::backend(&error))
    }
}

impl Wire {
    async fn send<B>(&self, mut request: Request<B>) -> Result<Response<Incoming>, Error>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        // Without a version the daemon takes its newest, which may mean something else.
        let version = self.known.lock().as_ref().map(|known| known.api);
        *request.uri_mut() = match version {
            Some((major, minor)) => format!("/v{major}.{minor}{path}").parse()?,
            None => path.parse()?,
        };
        request.headers_mut().insert(http::header::HOST, HeaderValue::from_static("docker"));
        let stream = self.endpoint.dial().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer: nothing more is sent.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| self.endpoint.broken(&error))
    }
}

fn numbers(version: &str) -> Option<(usize, usize)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
