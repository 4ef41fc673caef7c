//! The Snapshots service.

use super::caller;
use super::convert::{self, snapshot as to};
use super::status::status;
use crate::error::{Error, Result};
use crate::proto::v1;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub struct Snapshots {
    snapshots: Arc<crate::session::Snapshots>,
}

impl Snapshots {
    /// Serves these snapshots.
    pub fn new(snapshots: Arc<crate::session::Snapshots>) -> Self {
        Snapshots { snapshots }
    }

    fn list(&self, request: v1::ListSnapshotsRequest) -> Result<v1::ListSnapshotsResponse> {
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
        let Some(selection) = selection else { return Ok(v1::ListSnapshotsResponse::default()) };
        // One more than asked for tells whether there is a next page.
        let mut found = self.snapshots.list(&selection, after.as_deref(), size + 1);
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = match found.last() {
            Some(last) if more => convert::page::token(&listing, last.snapshot.name.as_bytes()),
            _ => String::new(),
        };
        Ok(v1::ListSnapshotsResponse { snapshots: found.iter().map(to::snapshot).collect(), next_page_token })
    }
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
        self.list(request.into_inner()).map(Response::new).map_err(status)
    }

    async fn get_snapshot(
        &self,
        request: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::GetSnapshotResponse>, Status> {
        let found = required(request.into_inner().snapshot_id).and_then(|id| self.snapshots.get(&id));
        Ok(Response::new(v1::GetSnapshotResponse { snapshot: Some(to::snapshot(&found.map_err(status)?)) }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<v1::DeleteSnapshotResponse>, Status> {
        let principal = caller(&request);
        let message = request.into_inner();
        let request_id = convert::request_id("request_id", &message.request_id).map_err(status)?;
        let id = required(message.snapshot_id).map_err(status)?;
        let request = request_id.map(|request_id| (principal, request_id));
        self.snapshots.delete(&id, request).await.map_err(status)?;
        Ok(Response::new(v1::DeleteSnapshotResponse {}))
    }
}
