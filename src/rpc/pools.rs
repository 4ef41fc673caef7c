//! The Pools service: part of the contract, not of this build. Every method names itself.

use super::unbuilt::refuse;
use crate::proto::v1;
use tonic::{Request, Response, Status};

/// The service.
pub struct Pools;

#[tonic::async_trait]
impl v1::pools_server::Pools for Pools {
    async fn create_pool(&self, _: Request<v1::CreatePoolRequest>) -> Result<Response<v1::CreatePoolResponse>, Status> {
        refuse("Pools.CreatePool")
    }

    async fn list_pools(&self, _: Request<v1::ListPoolsRequest>) -> Result<Response<v1::ListPoolsResponse>, Status> {
        refuse("Pools.ListPools")
    }

    async fn get_pool(&self, _: Request<v1::GetPoolRequest>) -> Result<Response<v1::GetPoolResponse>, Status> {
        refuse("Pools.GetPool")
    }

    async fn update_pool(&self, _: Request<v1::UpdatePoolRequest>) -> Result<Response<v1::UpdatePoolResponse>, Status> {
        refuse("Pools.UpdatePool")
    }

    async fn delete_pool(&self, _: Request<v1::DeletePoolRequest>) -> Result<Response<v1::DeletePoolResponse>, Status> {
        refuse("Pools.DeletePool")
    }

    async fn lease_container(
        &self,
        _: Request<v1::LeaseContainerRequest>,
    ) -> Result<Response<v1::LeaseContainerResponse>, Status> {
        refuse("Pools.LeaseContainer")
    }

    async fn release_container(
        &self,
        _: Request<v1::ReleaseContainerRequest>,
    ) -> Result<Response<v1::ReleaseContainerResponse>, Status> {
        refuse("Pools.ReleaseContainer")
    }
}
