//! Containers frozen under a name.

use super::Containers;
use crate::container::{NewSnapshot, Viewer};
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::rpc::convert::{self, snapshot as to};
use crate::store::shelf::check_name;
use crate::tool::check_labels;

/// Bytes of a description.
const MAX_DESCRIPTION: usize = 4 << 10;

impl Containers {
    pub(super) async fn serve_snapshot_container(
        &self,
        viewer: Viewer,
        request: v1::SnapshotContainerRequest,
    ) -> Result<v1::SnapshotContainerResponse> {
        let identity = convert::request_id("request_id", &request.request_id)?.map(|request_id| {
            let rest = v1::SnapshotContainerRequest { request_id: String::new(), ..request.clone() };
            (request_id, convert::fingerprint(&rest))
        });
        check_name("name", &request.name)?;
        check_labels("labels", &request.labels)?;
        if request.description.len() > MAX_DESCRIPTION {
            let text = format!("is {} bytes; at most {MAX_DESCRIPTION}", request.description.len());
            return Err(Error::invalid("description", text));
        }
        let wanted = NewSnapshot {
            container: request.container_id,
            name: request.name,
            description: request.description,
            labels: request.labels,
            keep_running: request.keep_running,
            exclude_workspace: request.exclude_workspace,
            viewer,
            request: identity,
        };
        let made = self.all()?.snapshot(wanted).await?;
        Ok(v1::SnapshotContainerResponse { snapshot: Some(to::of_container(&made)) })
    }
}
