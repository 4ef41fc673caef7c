//! The System service: part of the contract, not of this build. Every method names itself.

use super::unbuilt::{Never, refuse};
use crate::proto::v1;
use tonic::{Request, Response, Status};

/// The service.
pub struct System;

#[tonic::async_trait]
impl v1::system_server::System for System {
    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        refuse("System.GetServerInfo")
    }

    async fn get_stats(&self, _: Request<v1::GetStatsRequest>) -> Result<Response<v1::GetStatsResponse>, Status> {
        refuse("System.GetStats")
    }

    type StreamAuditStream = Never<v1::StreamAuditResponse>;

    async fn stream_audit(
        &self,
        _: Request<v1::StreamAuditRequest>,
    ) -> Result<Response<Self::StreamAuditStream>, Status> {
        refuse("System.StreamAudit")
    }

    async fn verify_audit(
        &self,
        _: Request<v1::VerifyAuditRequest>,
    ) -> Result<Response<v1::VerifyAuditResponse>, Status> {
        refuse("System.VerifyAudit")
    }
}
