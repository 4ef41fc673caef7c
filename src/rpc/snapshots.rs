//! The Snapshots service: part of the contract, not of this build. Every method names itself.

use super::unbuilt::refuse;
use crate::proto::v1;
use tonic::{Request, Response, Status};

/// The service.
pub struct Snapshots;

#[tonic::async_trait]
impl v1::snapshots_server::Snapshots for Snapshots {
    async fn list_snapshots(
        &self,
        _: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        refuse("Snapshots.ListSnapshots")
    }

    async fn get_snapshot(
        &self,
        _: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::GetSnapshotResponse>, Status> {
        refuse("Snapshots.GetSnapshot")
    }

    async fn delete_snapshot(
        &self,
        _: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<v1::DeleteSnapshotResponse>, Status> {
        refuse("Snapshots.DeleteSnapshot")
    }
}
