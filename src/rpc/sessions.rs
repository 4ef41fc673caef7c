//! The Sessions service: part of the contract, not of this build. Every method names itself.

use super::unbuilt::refuse;
use crate::proto::v1;
use tonic::{Request, Response, Status};

/// The service.
pub struct Sessions;

#[tonic::async_trait]
impl v1::sessions_server::Sessions for Sessions {
    async fn create_session(
        &self,
        _: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        refuse("Sessions.CreateSession")
    }

    async fn get_session(&self, _: Request<v1::GetSessionRequest>) -> Result<Response<v1::GetSessionResponse>, Status> {
        refuse("Sessions.GetSession")
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        refuse("Sessions.ListSessions")
    }

    async fn fork_session(
        &self,
        _: Request<v1::ForkSessionRequest>,
    ) -> Result<Response<v1::ForkSessionResponse>, Status> {
        refuse("Sessions.ForkSession")
    }

    async fn snapshot_session(
        &self,
        _: Request<v1::SnapshotSessionRequest>,
    ) -> Result<Response<v1::SnapshotSessionResponse>, Status> {
        refuse("Sessions.SnapshotSession")
    }

    async fn close_session(
        &self,
        _: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        refuse("Sessions.CloseSession")
    }
}
