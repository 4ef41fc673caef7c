//! Docker as a backend, by its HTTP API from 1.41 on: Docker 20.10 and later, control groups of both versions.
//!
//! ```text
//! connection   sockets, TCP, TLS
//! client       calls: a connection for each, version of the API, limit of time
//! errors       Docker's words into the backend's
//! hardening    what Docker is told to make
//! sandboxes    make, start, look, wait, pause, kill, remove
//! images  pull
//! snapshots    root file systems as images
//! consumption  from the control group (cgroup), or from Docker
//! exec         processes by Docker's own means, for images in which no supervisor runs
//! ```

mod cgroup;
mod client;
mod connection;
mod consumption;
mod errors;
mod exec;
mod facts;
mod hardening;
mod images;
mod pull;
mod sandboxes;
mod snapshots;

pub use connection::{Address, DEFAULT_SOCKET, DockerConfig, Tls};
pub use exec::{ExecInput, ExecOutput, ExecStream};
pub use hardening::SECCOMP;

use super::backend::{
    Backend, BackendFacts, BackendProcess, BackendResult, Blueprint, Ending, ExecRequest, Found, FoundImage,
    FrozenImage, ImageFacts, LayerProgress, Mark, ProcessOutput, Standing,
};
use crate::domain::container::Consumption;
use crate::domain::id::SnapshotId;
use crate::domain::image::ImageReference;
use async_trait::async_trait;
use client::Client;
use connection::Endpoint;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A Docker daemon. Cheap to clone.
#[derive(Clone)]
pub struct Docker {
    client: Arc<Client>,
}

impl Docker {
    /// The daemon there. Nothing is connected before the first call, and each call connects anew: a daemon that is not
    /// there yet, or is started again, is no error here. `Refused` when the certificates cannot be used.
    pub fn connect(config: DockerConfig) -> BackendResult<Docker> {
        let endpoint = Endpoint::new(config.address, config.tls.as_ref())?;
        Ok(Docker { client: Arc::new(Client::new(endpoint, config.timeout)?) })
    }
}

#[async_trait]
impl Backend for Docker {
    async fn facts(&self) -> BackendResult<BackendFacts> {
        facts::ask(&self.client).await
    }

    async fn image(&self, reference: &ImageReference) -> BackendResult<Option<ImageFacts>> {
        images::find(&self.client, reference).await
    }

    async fn image_of_id(&self, id: &str) -> BackendResult<Option<ImageFacts>> {
        Ok(images::inspect(&self.client, id).await?.map(images::facts))
    }

    async fn images(&self) -> BackendResult<Vec<ImageFacts>> {
        images::list(&self.client).await
    }

    async fn pull(
        &self,
        reference: &ImageReference,
        platform: &str,
        progress: mpsc::Sender<LayerProgress>,
    ) -> BackendResult<ImageFacts> {
        pull::pull(&self.client, reference, platform, progress).await
    }

    async fn create(&self, blueprint: &Blueprint) -> BackendResult<String> {
        sandboxes::create(&self.client, blueprint).await
    }

    async fn start(&self, id: &str) -> BackendResult<()> {
        sandboxes::start(&self.client, id).await
    }

    async fn look(&self, id: &str) -> BackendResult<Standing> {
        sandboxes::look(&self.client, id).await
    }

    async fn find(&self, installation: &str) -> BackendResult<Vec<Found>> {
        sandboxes::find(&self.client, installation).await
    }

    async fn ended(&self, id: &str) -> BackendResult<Ending> {
        sandboxes::ended(&self.client, id).await
    }

    async fn pause(&self, id: &str) -> BackendResult<()> {
        sandboxes::pause(&self.client, id).await
    }

    async fn resume(&self, id: &str) -> BackendResult<()> {
        sandboxes::resume(&self.client, id).await
    }

    async fn kill(&self, id: &str) -> BackendResult<()> {
        sandboxes::kill(&self.client, id).await
    }

    async fn remove(&self, id: &str) -> BackendResult<()> {
        sandboxes::remove(&self.client, id).await
    }

    async fn written(&self, id: &str) -> BackendResult<u64> {
        snapshots::written(&self.client, id).await
    }

    async fn commit(&self, id: &str, mark: &Mark, freeze: bool) -> BackendResult<FrozenImage> {
        snapshots::commit(&self.client, id, mark, freeze).await
    }

    async fn snapshots(&self, installation: &str) -> BackendResult<Vec<FoundImage>> {
        snapshots::find(&self.client, installation).await
    }

    async fn remove_snapshot(&self, snapshot: SnapshotId) -> BackendResult<()> {
        snapshots::remove(&self.client, snapshot).await
    }

    async fn remove_nameless(&self, image: &str) -> BackendResult<()> {
        snapshots::remove_nameless(&self.client, image).await
    }

    async fn consumption(&self, id: &str) -> BackendResult<Consumption> {
        consumption::read(&self.client, id).await
    }

    async fn attach(&self, id: &str) -> BackendResult<ProcessOutput> {
        Ok(Box::pin(self.attach_output(id).await?))
    }

    async fn exec(&self, id: &str, request: &ExecRequest) -> BackendResult<BackendProcess> {
        let ExecStream { id, input, output } = Docker::exec(self, id, request).await?;
        Ok(BackendProcess { id, input: Box::pin(input), output: Box::pin(output) })
    }

    async fn exec_exit(&self, process: &str) -> BackendResult<Option<i32>> {
        Docker::exec_exit(self, process).await
    }

    async fn exec_resize(&self, process: &str, columns: u16, rows: u16) -> BackendResult<()> {
        Docker::exec_resize(self, process, columns, rows).await
    }

    async fn signal(&self, id: &str, signal: i32) -> BackendResult<()> {
        sandboxes::signal(&self.client, id, signal).await
    }
}
