//! The Agents service: part of the contract, not of this build. Every method names itself.

use super::unbuilt::{Never, refuse};
use crate::proto::v1;
use tonic::{Request, Response, Status};

/// The service.
pub struct Agents;

#[tonic::async_trait]
impl v1::agents_server::Agents for Agents {
    async fn register_agent(
        &self,
        _: Request<v1::RegisterAgentRequest>,
    ) -> Result<Response<v1::RegisterAgentResponse>, Status> {
        refuse("Agents.RegisterAgent")
    }

    async fn list_agents(&self, _: Request<v1::ListAgentsRequest>) -> Result<Response<v1::ListAgentsResponse>, Status> {
        refuse("Agents.ListAgents")
    }

    async fn get_agent(&self, _: Request<v1::GetAgentRequest>) -> Result<Response<v1::GetAgentResponse>, Status> {
        refuse("Agents.GetAgent")
    }

    async fn update_agent(
        &self,
        _: Request<v1::UpdateAgentRequest>,
    ) -> Result<Response<v1::UpdateAgentResponse>, Status> {
        refuse("Agents.UpdateAgent")
    }

    async fn start_agent(&self, _: Request<v1::StartAgentRequest>) -> Result<Response<v1::StartAgentResponse>, Status> {
        refuse("Agents.StartAgent")
    }

    async fn stop_agent(&self, _: Request<v1::StopAgentRequest>) -> Result<Response<v1::StopAgentResponse>, Status> {
        refuse("Agents.StopAgent")
    }

    async fn remove_agent(
        &self,
        _: Request<v1::RemoveAgentRequest>,
    ) -> Result<Response<v1::RemoveAgentResponse>, Status> {
        refuse("Agents.RemoveAgent")
    }

    async fn touch_agent(&self, _: Request<v1::TouchAgentRequest>) -> Result<Response<v1::TouchAgentResponse>, Status> {
        refuse("Agents.TouchAgent")
    }

    type WatchAgentsStream = Never<v1::WatchAgentsResponse>;

    async fn watch_agents(
        &self,
        _: Request<v1::WatchAgentsRequest>,
    ) -> Result<Response<Self::WatchAgentsStream>, Status> {
        refuse("Agents.WatchAgents")
    }
}
