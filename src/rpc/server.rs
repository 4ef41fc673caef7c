//! The gRPC server: which services, in which order the layers stand, and how it goes down.
//!
//! From the outside in, and why in this order:
//! 1. HTTP/2 limits and keepalive, so that a peer that stalls or floods is bounded before anything else;
//! 2. the edge: it counts every call, also those it turns away, then recognises the caller and checks
//!    the permission, so that nothing behind it sees a request nobody vouches for;
//! 3. the message size limits of each service, before a message is decoded;
//! 4. the handler.

use super::edge::{EdgeLayer, RpcObserver};
use super::executions::Executions;
use super::tools::Tools;
use super::{agents, containers, credentials, health, pools, sessions, snapshots, system};
use crate::auth::Authenticator;
use crate::error::{Error, Result};
use crate::health::Health;
use crate::proto::{DESCRIPTORS, v1};
use crate::tool::ToolService;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::transport::server::Connected;

/// Settings of the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Largest message, in bytes.
    pub max_message: usize,
    /// Largest module of an upload, in bytes.
    pub max_module: u64,
}

/// What works behind the services.
pub struct Behind {
    /// Tools and executions.
    pub tools: Arc<ToolService>,
    /// Sessions.
    pub sessions: Arc<crate::session::Sessions>,
    /// Containers; none where the operator wants none.
    pub containers: Option<Arc<crate::container::Containers>>,
    /// Pools of them.
    pub pools: Option<Arc<crate::pool::Pools>>,
}

/// A connection that came in, from whatever listener.
pub trait Connection: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static> Connection for T {}

/// All services, ready to serve on any number of listeners.
#[derive(Clone)]
pub struct Server {
    routes: Routes,
    edge: EdgeLayer,
}

impl Server {
    /// Puts the services together.
    pub fn new(
        config: ServerConfig,
        Behind { tools, sessions, containers, pools }: Behind,
        authenticator: Authenticator,
        health: Health,
        observer: Arc<dyn RpcObserver>,
    ) -> Result<Server> {
        let limit = config.max_message;
        let reflection = |error| Error::Internal(format!("the descriptor set is damaged: {error}"));
        let describe = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // What the details of errors are made of, for clients that know no more than this to show them.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let (reporter, health_service) = tonic_health::server::health_reporter();
        tokio::spawn(health::follow(health, reporter));

        let executions = Executions::new(tools.registry().clone(), containers.clone());
        let snapshots = snapshots::Snapshots::new(sessions.clone(), containers.clone(), pools.clone());
        let containers = containers::Containers::new(containers, tools.registry().clone());
        let sessions = sessions::Sessions::new(sessions, tools.catalog().clone());
        let mut routes = Routes::builder();
        routes
            .add_service(health_service)
            .add_service(describe().build_v1().map_err(reflection)?)
            .add_service(describe().build_v1alpha().map_err(reflection)?)
            .add_service(
                v1::tools_server::ToolsServer::new(Tools::new(tools, config.max_module))
                    .max_decoding_message_size(limit)
                    .max_encoding_message_size(usize::MAX),
            )
            .add_service(
                v1::executions_server::ExecutionsServer::new(executions)
                    .max_decoding_message_size(limit)
                    .max_encoding_message_size(usize::MAX),
            )
            .add_service(
                v1::sessions_server::SessionsServer::new(sessions)
                    .max_decoding_message_size(limit)
                    .max_encoding_message_size(usize::MAX),
            )
            .add_service(v1::snapshots_server::SnapshotsServer::new(snapshots).max_decoding_message_size(limit));
        routes.add_service(
            v1::containers_server::ContainersServer::new(containers)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(usize::MAX),
        );
        routes
            .add_service(v1::pools_server::PoolsServer::new(pools::Pools::new(pools)).max_decoding_message_size(limit));
        // In the contract, not in this build.
        routes
            .add_service(v1::agents_server::AgentsServer::new(agents::Agents))
            .add_service(v1::credentials_server::CredentialsServer::new(credentials::Credentials))
            .add_service(v1::system_server::SystemServer::new(system::System));
        Ok(Server { routes: routes.routes(), edge: EdgeLayer::new(authenticator, observer, limit) })
    }

    /// Serves connections until `shutdown`, then lets those that are open finish their calls.
    pub async fn serve<C: Connection>(
        &self,
        incoming: impl Stream<Item = std::io::Result<C>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        tonic::transport::Server::builder()
            .layer(self.edge.clone())
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            // A watcher at full speed needs more than 64 KiB in flight; a thousand of them still fit in memory.
            .initial_stream_window_size(Some(1 << 20))
            .initial_connection_window_size(Some(4 << 20))
            .max_concurrent_streams(Some(10_000))
            .add_routes(self.routes.clone())
            .serve_with_incoming_shutdown(incoming, shutdown)
            .await
            .map_err(|error| Error::Internal(format!("the gRPC server failed: {error}")))
    }
}
