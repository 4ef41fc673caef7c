//! The Pools service.

use super::containers::viewer;
use super::convert::{self, pool as to};
use super::status::status;
use crate::container::Viewer;
use crate::domain::id::LeaseId;
use crate::error::{Error, Result as Outcome};
use crate::pool::{self, LeaseOrder};
use crate::proto::v1;
use crate::tool::check_labels;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Longest wait in line: where nobody asks, and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

/// The service.
pub struct Pools {
    pools: Option<Arc<pool::Pools>>,
}

impl Pools {
    /// Serves these pools; none where the operator wants no containers.
    pub fn new(pools: Option<Arc<pool::Pools>>) -> Self {
        Pools { pools }
    }

    fn all(&self) -> Outcome<&Arc<pool::Pools>> {
        self.pools.as_ref().ok_or_else(|| Error::BackendUnavailable {
            problem: "they are turned off here; the operator turns them on with containers.enabled".into(),
        })
    }

    async fn create(&self, viewer: Viewer, request: v1::CreatePoolRequest) -> Outcome<v1::CreatePoolResponse> {
        let pools = self.all()?;
        let asked = convert::request_id("request_id", &request.request_id)?.map(|request_id| {
            let rest = v1::CreatePoolRequest { request_id: String::new(), ..request.clone() };
            (request_id, convert::fingerprint(&rest))
        });
        let order = to::order(request.pool)?;
        check_labels("pool.labels", &order.settings.labels)?;
        check_labels("pool.container.labels", &order.wish.labels)?;
        let made = pools.create(order, &viewer, asked).await?;
        Ok(v1::CreatePoolResponse { pool: Some(to::pool(&made)) })
    }

    fn list(&self, viewer: &Viewer, request: v1::ListPoolsRequest) -> Outcome<v1::ListPoolsResponse> {
        let size = convert::page::size(request.page_size)?;
        let filter = to::filter(request.filter)?;
        let listing = format!("pools {filter:?}");
        let after =
            match convert::page::position(&listing, &request.page_token)? {
                None => None,
                Some(position) => Some(String::from_utf8(position).map_err(|_| {
                    Error::invalid("page_token", "is not a token of this server; begin with an empty one")
                })?),
            };
        // One more than asked for tells whether there is a next page.
        let mut found = self.all()?.list(&filter, viewer, after.as_deref(), size + 1);
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = match found.last() {
            Some(last) if more => convert::page::token(&listing, last.record.origin.name.as_bytes()),
            _ => String::new(),
        };
        Ok(v1::ListPoolsResponse { pools: found.iter().map(to::pool).collect(), next_page_token })
    }

    async fn update(&self, viewer: Viewer, request: v1::UpdatePoolRequest) -> Outcome<v1::UpdatePoolResponse> {
        let pools = self.all()?;
        let asked = convert::request_id("request_id", &request.request_id)?.map(|request_id| {
            let rest = v1::UpdatePoolRequest { request_id: String::new(), ..request.clone() };
            (request_id, convert::fingerprint(&rest))
        });
        let sent = request.pool.ok_or_else(|| Error::invalid("pool", "is required"))?;
        let (name, etag) = (sent.name.clone(), sent.etag.clone());
        if name.is_empty() {
            return Err(Error::invalid("pool.name", "is required: the name of a pool"));
        }
        let change = to::change(sent, request.update_mask)?;
        check_labels("pool.labels", &change.labels.clone().unwrap_or_default())?;
        let container = change.wish.as_ref().map(|wish| wish.labels.clone());
        check_labels("pool.container.labels", &container.unwrap_or_default())?;
        let changed = pools.update(&name, change, &etag, &viewer, asked).await?;
        Ok(v1::UpdatePoolResponse { pool: Some(to::pool(&changed)) })
    }

    async fn delete(&self, viewer: Viewer, request: v1::DeletePoolRequest) -> Outcome<v1::DeletePoolResponse> {
        let pools = self.all()?;
        let asked = convert::request_id("request_id", &request.request_id)?.map(|request_id| {
            let rest = v1::DeletePoolRequest { request_id: String::new(), ..request.clone() };
            (request_id, convert::fingerprint(&rest))
        });
        pools.delete(&request.name, request.force, &request.etag, &viewer, asked).await?;
        Ok(v1::DeletePoolResponse {})
    }

    async fn lease(&self, viewer: Viewer, request: v1::LeaseContainerRequest) -> Outcome<v1::LeaseContainerResponse> {
        let pools = self.all()?;
        let asked = convert::request_id("request_id", &request.request_id)?.map(|request_id| {
            let rest = v1::LeaseContainerRequest { request_id: String::new(), ..request.clone() };
            (request_id, convert::fingerprint(&rest))
        });
        let span = |field: &str, span: &Option<prost_types::Duration>| {
            span.as_ref().map(|span| convert::span(field, span)).transpose()
        };
        let wait = span("wait_timeout", &request.wait_timeout)?.unwrap_or(WAIT.0);
        if wait > WAIT.1 {
            return Err(Error::invalid("wait_timeout", "is longer than 1 hour"));
        }
        let time = span("lease_time", &request.lease_time)?;
        if time.is_some_and(|time| time < Duration::from_secs(1)) {
            return Err(Error::invalid("lease_time", "is shorter than 1 second"));
        }
        let labels = request.labels.into_iter().collect();
        check_labels("labels", &labels)?;
        let order = LeaseOrder { principal: viewer.name.clone(), wait, time, labels, request: asked };
        Ok(to::lease(&pools.lease(&request.pool, order, &viewer).await?))
    }

    async fn release(
        &self,
        viewer: Viewer,
        request: v1::ReleaseContainerRequest,
    ) -> Outcome<v1::ReleaseContainerResponse> {
        let pools = self.all()?;
        let lease: LeaseId = convert::id("lease_id", &request.lease_id)?;
        let asked = convert::request_id("request_id", &request.request_id)?.map(|request_id| {
            let rest = v1::ReleaseContainerRequest { request_id: String::new(), ..request.clone() };
            (request_id, convert::fingerprint(&rest))
        });
        pools.release(lease, &viewer, asked).await?;
        Ok(v1::ReleaseContainerResponse {})
    }
}

#[tonic::async_trait]
impl v1::pools_server::Pools for Pools {
    async fn create_pool(
        &self,
        request: Request<v1::CreatePoolRequest>,
    ) -> Result<Response<v1::CreatePoolResponse>, Status> {
        let viewer = viewer(&request);
        self.create(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn list_pools(
        &self,
        request: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let viewer = viewer(&request);
        self.list(&viewer, request.into_inner()).map(Response::new).map_err(status)
    }

    async fn get_pool(&self, request: Request<v1::GetPoolRequest>) -> Result<Response<v1::GetPoolResponse>, Status> {
        let viewer = viewer(&request);
        let found = self.all().and_then(|pools| pools.get(&request.get_ref().name, &viewer)).map_err(status)?;
        Ok(Response::new(v1::GetPoolResponse { pool: Some(to::pool(&found)) }))
    }

    async fn update_pool(
        &self,
        request: Request<v1::UpdatePoolRequest>,
    ) -> Result<Response<v1::UpdatePoolResponse>, Status> {
        let viewer = viewer(&request);
        self.update(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn delete_pool(
        &self,
        request: Request<v1::DeletePoolRequest>,
    ) -> Result<Response<v1::DeletePoolResponse>, Status> {
        let viewer = viewer(&request);
        self.delete(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn lease_container(
        &self,
        request: Request<v1::LeaseContainerRequest>,
    ) -> Result<Response<v1::LeaseContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.lease(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn release_container(
        &self,
        request: Request<v1::ReleaseContainerRequest>,
    ) -> Result<Response<v1::ReleaseContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.release(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }
}
