//! The connection of a client verb.

use super::Global;
use super::failure::{DENIED, Failure, UNAVAILABLE};
use crate::config::{ClientSettings, Target};
use crate::proto::v1::containers_client::ContainersClient;
use crate::proto::v1::executions_client::ExecutionsClient;
use crate::proto::v1::pools_client::PoolsClient;
use crate::proto::v1::sessions_client::SessionsClient;
use crate::proto::v1::snapshots_client::SnapshotsClient;
use crate::proto::v1::tools_client::ToolsClient;
use std::error::Error as _;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A server on the same machine or in the same cluster answers long before this.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel that sends the token with every call.
pub type Service = InterceptedService<Channel, Bearer>;

/// A connected client.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
    skipped: Option<String>,
}

/// Adds the token to a call.
#[derive(Clone)]
pub struct Bearer {
    header: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.header {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

impl Client {
    /// Connects to the server that flags, environment and configuration name.
    pub async fn connect(global: &Global) -> Result<Client, Failure> {
        let ClientSettings { target, token, skipped } = global.client_settings()?;
        let header = match token {
            None => None,
            Some(token) => {
                let mut header: MetadataValue<Ascii> = format!("Bearer {}", token.expose()).parse().map_err(|_| {
                    Failure::new(
                        DENIED,
                        "the token cannot be sent",
                        "it has characters that a header cannot carry, such as a line break",
                        "give the token exactly as `casemate init` wrote it",
                    )
                })?;
                header.set_sensitive(true);
                Some(header)
            }
        };
        let channel = channel(&target, CONNECT_TIMEOUT).await?;
        Ok(Client { channel, bearer: Bearer { header }, skipped })
    }

    /// The Tools service.
    pub fn tools(&self) -> ToolsClient<Service> {
        // What the server is willing to send, its client can take.
        ToolsClient::with_interceptor(self.channel.clone(), self.bearer.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// The Executions service.
    pub fn executions(&self) -> ExecutionsClient<Service> {
        ExecutionsClient::with_interceptor(self.channel.clone(), self.bearer.clone())
            .max_decoding_message_size(usize::MAX)
    }

    /// The Sessions service.
    pub fn sessions(&self) -> SessionsClient<Service> {
        SessionsClient::with_interceptor(self.channel.clone(), self.bearer.clone())
            .max_decoding_message_size(usize::MAX)
    }

    /// The Snapshots service.
    pub fn snapshots(&self) -> SnapshotsClient<Service> {
        SnapshotsClient::with_interceptor(self.channel.clone(), self.bearer.clone())
            .max_decoding_message_size(usize::MAX)
    }

    /// The Containers service.
    pub fn containers(&self) -> ContainersClient<Service> {
        ContainersClient::with_interceptor(self.channel.clone(), self.bearer.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// The Pools service.
    pub fn pools(&self) -> PoolsClient<Service> {
        PoolsClient::with_interceptor(self.channel.clone(), self.bearer.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// The failure of a call. `what` says what did not happen.
    pub fn failure(&self, what: impl Into<String>, status: &Status) -> Failure {
        let failure = Failure::answer(what, status);
        match &self.skipped {
            Some(skipped) if status.code() == tonic::Code::Unauthenticated => {
                failure.because(format!("the configuration was left out: {skipped}"))
            }
            _ => failure,
        }
    }
}

/// Connects, or says why not.
pub async fn channel(target: &Target, timeout: Duration) -> Result<Channel, Failure> {
    let uri = match target {
        Target::Tcp(authority) => format!("http://{authority}"),
        Target::Unix(path) => format!("unix:{}", path.display()),
    };
    let unreachable = |error: tonic::transport::Error| {
        // tonic's own text is "transport error"; what happened is behind it.
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            why = inner.to_string();
            source = inner.source();
        }
        let todo = "start the server with `casemate serve`, or name another one with --address or CASEMATE_ADDRESS";
        Failure::new(UNAVAILABLE, format!("no connection to {target}"), why, todo)
    };
    Endpoint::from_shared(uri)
        .map_err(unreachable)?
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        // A watched execution may be silent for long; a peer that is gone should not look like one.
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect()
        .await
        .map_err(unreachable)
}
