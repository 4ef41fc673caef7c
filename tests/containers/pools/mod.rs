//! Pools of containers: what is lent is clean, quick and lent once.

mod crash;
mod leases;
mod line;
mod poison;
mod size;
mod trouble;

use crate::harness::{Bearer, PATIENCE, TOKEN};
use crate::kit::{House, sh};
use casemate::proto::v1;
use casemate::proto::v1::pools_client::PoolsClient;
use std::time::{Duration, Instant};
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

type Pools = PoolsClient<InterceptedService<Channel, Bearer>>;

/// A pool of busyboxes that do nothing by themselves.
fn pool(name: &str, target_size: u32) -> v1::Pool {
    v1::Pool { name: name.into(), container: Some(sh("sleep 100000")), target_size, ..Default::default() }
}

fn asks(pool: &str) -> v1::LeaseContainerRequest {
    v1::LeaseContainerRequest { pool: pool.into(), ..Default::default() }
}

fn span(millis: u64) -> Option<prost_types::Duration> {
    Some(Duration::from_millis(millis).try_into().unwrap())
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default())
}

fn stats(pool: &v1::Pool) -> &v1::PoolStats {
    pool.stats.as_ref().unwrap()
}

impl House {
    async fn pools(&self) -> Pools {
        PoolsClient::with_interceptor(self.server().channel().await, Bearer(TOKEN))
    }

    async fn create(&self, pool: v1::Pool) -> Result<v1::Pool, Status> {
        let request = v1::CreatePoolRequest { pool: Some(pool), ..Default::default() };
        Ok(self.pools().await.create_pool(request).await?.into_inner().pool.unwrap())
    }

    async fn pool(&self, name: &str) -> v1::Pool {
        let request = v1::GetPoolRequest { name: name.into() };
        self.pools().await.get_pool(request).await.unwrap().into_inner().pool.unwrap()
    }

    /// Waits until a pool is as wanted.
    async fn until_pool(&self, name: &str, wanted: impl Fn(&v1::Pool) -> bool) -> v1::Pool {
        let (mut pools, deadline) = (self.pools().await, Instant::now() + PATIENCE);
        loop {
            let request = v1::GetPoolRequest { name: name.into() };
            let pool = pools.get_pool(request).await.unwrap().into_inner().pool.unwrap();
            if wanted(&pool) {
                return pool;
            }
            assert!(Instant::now() < deadline, "it never was as wanted: {pool:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a pool has as many idle containers as it should, and is at rest.
    async fn full(&self, name: &str) -> v1::Pool {
        let at_rest = |stats: &v1::PoolStats| stats.starting + stats.stopping + stats.waiting == 0;
        self.until_pool(name, |pool| pool.state() == v1::PoolState::Ready && at_rest(stats(pool))).await
    }

    /// A pool of busyboxes with as many idle containers as it should have.
    pub async fn filled(&self, name: &str, size: u32) {
        self.filled_with(name, sh("sleep 100000"), size).await;
    }

    pub async fn filled_with(&self, name: &str, container: v1::ContainerSpec, size: u32) {
        self.create(v1::Pool { container: Some(container), ..pool(name, size) }).await.unwrap();
        self.full(name).await;
    }

    /// A lease of a pool that is new.
    pub async fn lease_of(&self, name: &str, container: v1::ContainerSpec) -> Result<v1::Lease, Status> {
        self.create(v1::Pool { container: Some(container), ..pool(name, 1) }).await.unwrap();
        self.lease(asks(name)).await
    }

    pub async fn figures(&self, name: &str) -> v1::PoolStats {
        *stats(&self.pool(name).await)
    }

    async fn lease(&self, request: v1::LeaseContainerRequest) -> Result<v1::Lease, Status> {
        Ok(self.pools().await.lease_container(request).await?.into_inner().lease.unwrap())
    }

    async fn release(&self, id: &str) -> Result<(), Status> {
        let request = v1::ReleaseContainerRequest { lease_id: id.into(), ..Default::default() };
        self.pools().await.release_container(request).await.map(|_| ())
    }
}

fn container(lease: &v1::Lease) -> &v1::Container {
    lease.container.as_ref().unwrap()
}

/// The name of its sandbox at Docker.
fn sandbox(lease: &v1::Lease) -> String {
    format!("casemate-{}", container(lease).id)
}
