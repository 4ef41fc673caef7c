//! The Snapshots service.

use super::caller;
use super::containers::viewer;
use super::convert::{self, snapshot as to};
use super::status::status;
use crate::container::{Containers, Viewer};
use crate::domain::id::RequestId;
use crate::domain::snapshot::ContainerSnapshot;
use crate::error::{Error, Result};
use crate::interpreter::packages::{MAX_BYTES, MAX_FILES};
use crate::pool::Pools;
use crate::proto::v1;
use crate::session::kernel::Build;
use crate::session::{Sessions, SnapshotBuild};
use crate::store::shelf::{SnapshotKind, check_name};
use crate::tool::check_labels;
use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};
use v1::build_snapshot_request::Part;

/// Bytes of a description.
const MAX_DESCRIPTION: usize = 4 << 10;

/// Bytes of a preload.
const MAX_PRELOAD: usize = 1 << 20;

/// The service: snapshots of interpreters and of containers, as one.
pub struct Snapshots {
    sessions: Arc<Sessions>,
    snapshots: Arc<crate::session::Snapshots>,
    containers: Option<Arc<Containers>>,
    pools: Option<Arc<Pools>>,
}

impl Snapshots {
    /// Serves the snapshots of these sessions and containers; there are no pools without containers.
    pub fn new(sessions: Arc<Sessions>, containers: Option<Arc<Containers>>, pools: Option<Arc<Pools>>) -> Self {
        let snapshots = sessions.snapshots().clone();
        Snapshots { sessions, snapshots, containers, pools }
    }

    async fn list(&self, viewer: Viewer, request: v1::ListSnapshotsRequest) -> Result<v1::ListSnapshotsResponse> {
        let size = convert::page::size(request.page_size)?;
        let selection = to::selection(request.filter)?;
        let listing = format!("snapshots {selection:?}");
        let after =
            match convert::page::position(&listing, &request.page_token)? {
                None => None,
                Some(position) => Some(String::from_utf8(position).map_err(|_| {
                    Error::invalid("page_token", "is not a token of this server; begin with an empty one")
                })?),
            };
        let mut snapshots = Vec::new();
        // One more than asked for tells whether there is a next page. Of either kind, for all of a page may be of one.
        if let Some(selection) = &selection.interpreters {
            snapshots.extend(self.snapshots.list(selection, after.as_deref(), size + 1).iter().map(to::snapshot));
        }
        if let (Some(selection), Some(containers)) = (&selection.containers, &self.containers) {
            let found = containers.list_snapshots(selection, &viewer, after.as_deref(), size + 1).await;
            snapshots.extend(found.iter().map(to::of_container));
        }
        snapshots.sort_by(|one, other| one.name.cmp(&other.name));
        let more = snapshots.len() > size;
        snapshots.truncate(size);
        let next_page_token = match snapshots.last() {
            Some(last) if more => convert::page::token(&listing, last.name.as_bytes()),
            _ => String::new(),
        };
        Ok(v1::ListSnapshotsResponse { snapshots, next_page_token })
    }

    async fn get(&self, viewer: Viewer, name: &str) -> Result<v1::Snapshot> {
        match (&self.containers, self.snapshots.shelf().kind(name)) {
            (Some(containers), Some(SnapshotKind::Container)) => {
                containers.get_snapshot(name, &viewer).await.map(|found| to::of_container(&found))
            }
            // It has its name, but is no snapshot yet.
            (Some(containers), None) => match containers.get_snapshot(name, &viewer).await {
                Ok(found) => Ok(to::of_container(&found)),
                Err(_) => self.snapshots.get(name).map(|found| to::snapshot(&found)),
            },
            (None, Some(SnapshotKind::Container)) => Err(no_containers()),
            (_, Some(SnapshotKind::Interpreter)) | (None, None) => {
                self.snapshots.get(name).map(|found| to::snapshot(&found))
            }
        }
    }

    async fn delete(&self, viewer: Viewer, name: &str, request_id: Option<RequestId>) -> Result<()> {
        if self.snapshots.shelf().kind(name) != Some(SnapshotKind::Container) {
            return self.snapshots.delete(name, request_id.map(|id| (viewer.name, id))).await;
        }
        let containers = self.containers.as_ref().ok_or_else(no_containers)?;
        let needed = |snapshot: &ContainerSnapshot| {
            let pool = self.pools.as_ref()?.of_snapshot(&snapshot.name, &snapshot.id.to_string())?;
            Some(format!("pool {pool:?}"))
        };
        containers.delete_snapshot(name, &viewer, request_id, needed).await
    }
}

/// What a build is made from, as its messages come in.
struct Upload {
    header: v1::BuildSnapshotHeader,
    files: Vec<(String, Bytes)>,
    /// Tells one build from another that has its request id.
    fingerprint: [u8; 32],
}

impl Upload {
    async fn read(mut parts: Streaming<v1::BuildSnapshotRequest>) -> Result<Upload, Status> {
        let refuse = |field: &str, text: &str| status(Error::invalid(field, text));
        let Some(Part::Header(header)) = parts.next().await.transpose()?.and_then(|part| part.part) else {
            return Err(refuse("header", "the first message of a build is its header"));
        };
        let mut hash = Sha256::new();
        hash.update(v1::BuildSnapshotHeader { request_id: String::new(), ..header.clone() }.encode_to_vec());
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        let mut total = 0;
        while let Some(part) = parts.next().await.transpose()? {
            let Some(Part::File(file)) = part.part else {
                return Err(refuse("part", "expected a file; only the first message carries a header"));
            };
            hash.update(file.encode_to_vec());
            total += file.data.len() as u64;
            match files.last_mut() {
                Some((path, data)) if *path == file.path => data.extend_from_slice(&file.data),
                _ => files.push((file.path, file.data)),
            }
            // Before the rest arrives; what else is wrong is told when all is there.
            if files.len() > MAX_FILES || total > MAX_BYTES {
                let text = format!("more than {MAX_FILES} files or {MAX_BYTES} bytes; leave out what is not needed");
                return Err(refuse("file", &text));
            }
        }
        let files = files.into_iter().map(|(path, data)| (path, data.into())).collect();
        Ok(Upload { header, files, fingerprint: hash.finalize().into() })
    }

    fn wanted(self, principal: Arc<str>) -> Result<SnapshotBuild> {
        let header = self.header;
        let request_id: Option<RequestId> = convert::request_id("header.request_id", &header.request_id)?;
        check_name("header.name", &header.name)?;
        if header.tool.is_empty() {
            return Err(Error::invalid("header.tool", "is required, for example \"python\""));
        }
        check_labels("header.labels", &header.labels)?;
        for (field, text, limit) in [
            ("header.description", &header.description, MAX_DESCRIPTION),
            ("header.preload", &header.preload, MAX_PRELOAD),
            ("header.preload_name", &header.preload_name, MAX_DESCRIPTION),
        ] {
            if text.len() > limit {
                return Err(Error::invalid(field, format!("is {} bytes; at most {limit}", text.len())));
            }
        }
        if header.preload.is_empty() && self.files.is_empty() {
            return Err(Error::invalid("header.preload", "is required where there are no packages: nothing is built"));
        }
        Ok(SnapshotBuild {
            name: header.name,
            tool: header.tool,
            description: header.description,
            labels: header.labels,
            build: Build { preload: header.preload, preload_name: header.preload_name, packages: self.files },
            principal,
            request: request_id.map(|id| (id, self.fingerprint)),
        })
    }
}

fn no_containers() -> Error {
    let problem = "they are turned off here; the operator turns them on with containers.enabled";
    Error::BackendUnavailable { problem: problem.into() }
}

fn required(id: String) -> Result<String> {
    if id.is_empty() { Err(Error::invalid("snapshot_id", "is required: an id or a name")) } else { Ok(id) }
}

#[tonic::async_trait]
impl v1::snapshots_server::Snapshots for Snapshots {
    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let viewer = viewer(&request);
        self.list(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_snapshot(
        &self,
        request: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::GetSnapshotResponse>, Status> {
        let viewer = viewer(&request);
        let id = required(request.into_inner().snapshot_id).map_err(status)?;
        let snapshot = self.get(viewer, &id).await.map_err(status)?;
        Ok(Response::new(v1::GetSnapshotResponse { snapshot: Some(snapshot) }))
    }

    async fn build_snapshot(
        &self,
        request: Request<Streaming<v1::BuildSnapshotRequest>>,
    ) -> Result<Response<v1::BuildSnapshotResponse>, Status> {
        let principal = caller(&request);
        let upload = Upload::read(request.into_inner()).await?;
        let wanted = upload.wanted(principal).map_err(status)?;
        let (snapshot, output) = self.sessions.build(wanted).await.map_err(status)?;
        Ok(Response::new(v1::BuildSnapshotResponse { snapshot: Some(to::snapshot(&snapshot)), output }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<v1::DeleteSnapshotResponse>, Status> {
        let viewer = viewer(&request);
        let message = request.into_inner();
        let request_id = convert::request_id("request_id", &message.request_id).map_err(status)?;
        let id = required(message.snapshot_id).map_err(status)?;
        self.delete(viewer, &id, request_id).await.map_err(status)?;
        Ok(Response::new(v1::DeleteSnapshotResponse {}))
    }
}
