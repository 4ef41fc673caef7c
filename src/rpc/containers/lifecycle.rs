//! Containers made, found, frozen and ended.

use super::Containers;
use crate::container::{Order, Viewer};
use crate::domain::event::OutputStream;
use crate::domain::id::ContainerId;
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::rpc::convert::{self, container as to};
use crate::tool::check_labels;

const MAX_REASON: usize = 1000;
/// Output that a kill returns of each stream: where nobody asks, and at most.
const KILL_OUTPUT: (u64, u64) = (64 << 10, 1 << 20);

impl Containers {
    pub(super) async fn serve_spawn_container(
        &self,
        viewer: Viewer,
        request: v1::SpawnContainerRequest,
    ) -> Result<v1::SpawnContainerResponse> {
        let identity = convert::request_id("request_id", &request.request_id)?.map(|request_id| {
            let rest = v1::SpawnContainerRequest { request_id: String::new(), ..request.clone() };
            (request_id, convert::fingerprint(&rest))
        });
        let wish = to::wish(request.spec)?;
        check_labels("spec.labels", &wish.labels)?;
        let Viewer { name: principal, administers } = viewer;
        let order = Order { wish, name: request.name, principal, administers, request: identity, belonging: None };
        let container = self.all()?.spawn(order).await?;
        Ok(v1::SpawnContainerResponse { container: Some(to::container(&container)) })
    }

    pub(super) async fn serve_list_containers(
        &self,
        viewer: Viewer,
        request: v1::ListContainersRequest,
    ) -> Result<v1::ListContainersResponse> {
        let size = convert::page::size(request.page_size)?;
        let filter = to::filter(request.filter)?;
        let listing = format!("containers {filter:?}");
        let before = match convert::page::position(&listing, &request.page_token)? {
            None => None,
            Some(position) => Some(ContainerId::from_bytes(position.try_into().map_err(|_| {
                Error::invalid("page_token", "is not a token of this server; begin with an empty one")
            })?)),
        };
        // One more than asked for tells whether there is a next page.
        let mut containers = self.all()?.list(&filter, &viewer, before, size + 1);
        let more = containers.len() > size;
        containers.truncate(size);
        let next_page_token = match containers.last() {
            Some(last) if more => convert::page::token(&listing, last.origin.id.as_bytes()),
            _ => String::new(),
        };
        Ok(v1::ListContainersResponse { containers: containers.iter().map(to::container).collect(), next_page_token })
    }

    pub(super) async fn serve_get_container(
        &self,
        viewer: Viewer,
        request: v1::GetContainerRequest,
    ) -> Result<v1::GetContainerResponse> {
        if request.detect_capabilities {
            return Err(Error::Unimplemented { feature: "GetContainerRequest.detect_capabilities" });
        }
        let container = self.all()?.get(&request.container_id, &viewer)?;
        Ok(v1::GetContainerResponse { container: Some(to::container(&container)) })
    }

    pub(super) async fn serve_stop_container(
        &self,
        viewer: Viewer,
        request: v1::StopContainerRequest,
    ) -> Result<v1::StopContainerResponse> {
        check_end(&request.request_id, &request.reason)?;
        let grace = request.grace.as_ref().map(|grace| convert::span("grace", grace)).transpose()?;
        if grace.is_some_and(|grace| grace.as_secs() > 600) {
            return Err(Error::invalid("grace", "is longer than 10 minutes"));
        }
        let container = self.all()?.stop(&request.container_id, grace, &request.reason, &viewer).await?;
        Ok(v1::StopContainerResponse { container: Some(to::container(&container)) })
    }

    pub(super) async fn serve_kill_container(
        &self,
        viewer: Viewer,
        request: v1::KillContainerRequest,
    ) -> Result<v1::KillContainerResponse> {
        check_end(&request.request_id, &request.reason)?;
        let most = match request.max_output_bytes {
            0 => KILL_OUTPUT.0,
            most if most <= KILL_OUTPUT.1 => most,
            most => {
                let text = format!("is {most}; at most {}", KILL_OUTPUT.1);
                return Err(Error::invalid("max_output_bytes", text));
            }
        };
        let (container, ended) = self.all()?.kill(&request.container_id, &request.reason, &viewer).await?;
        let [stdout, stderr] = match self.registry.find(container.origin.main_execution).await {
            Ok(main) => [OutputStream::Stdout, OutputStream::Stderr].map(|stream| {
                let (mut data, _) = main.journal().collect(stream);
                let excess = data.len().saturating_sub(usize::try_from(most).unwrap_or(usize::MAX));
                let data = data.split_off(excess);
                let end = main.journal().offsets()[stream as usize];
                Some(v1::OutputChunk { offset: end.saturating_sub(data.len() as u64), data })
            }),
            Err(_) => [None, None],
        };
        Ok(v1::KillContainerResponse {
            container: Some(to::container(&container)),
            stdout,
            stderr,
            ended_execution_ids: ended.iter().map(ToString::to_string).collect(),
        })
    }

    pub(super) async fn serve_pause_container(
        &self,
        viewer: Viewer,
        request: v1::PauseContainerRequest,
    ) -> Result<v1::PauseContainerResponse> {
        check_end(&request.request_id, "")?;
        let container = self.all()?.pause(&request.container_id, &viewer).await?;
        Ok(v1::PauseContainerResponse { container: Some(to::container(&container)) })
    }

    pub(super) async fn serve_resume_container(
        &self,
        viewer: Viewer,
        request: v1::ResumeContainerRequest,
    ) -> Result<v1::ResumeContainerResponse> {
        check_end(&request.request_id, "")?;
        let container = self.all()?.resume(&request.container_id, &viewer).await?;
        Ok(v1::ResumeContainerResponse { container: Some(to::container(&container)) })
    }
}

fn check_end(request_id: &str, reason: &str) -> Result<()> {
    convert::request_id("request_id", request_id)?;
    if reason.chars().count() > MAX_REASON {
        return Err(Error::invalid("reason", format!("is longer than {MAX_REASON} characters")));
    }
    Ok(())
}
