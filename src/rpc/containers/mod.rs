//! The Containers service. A room for each kind of call; here stands only which method is whose.

mod archives;
mod files;
mod forward;
mod images;
mod lifecycle;
mod logs;
mod processes;
mod snapshots;
mod stats;
mod watch;
mod watch_path;

use super::caller;
use super::status::status;
use crate::auth::Principal;
use crate::auth::permission::Permission;
use crate::container::Viewer;
use crate::error::{Error, Result as Outcome};
use crate::proto::v1;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages that wait for a slow reader.
const QUEUE: usize = 16;

type Messages<T> = ReceiverStream<Result<T, Status>>;

/// The service.
#[derive(Clone)]
pub struct Containers {
    containers: Option<Arc<crate::container::Containers>>,
    registry: crate::execution::Registry,
}

impl Containers {
    /// Serves these containers; none where the operator wants none.
    pub fn new(containers: Option<Arc<crate::container::Containers>>, registry: crate::execution::Registry) -> Self {
        Containers { containers, registry }
    }

    fn all(&self) -> Outcome<&Arc<crate::container::Containers>> {
        self.containers.as_ref().ok_or_else(|| Error::BackendUnavailable {
            problem: "they are turned off here; the operator turns them on with containers.enabled".into(),
        })
    }
}

/// Who asks, and whether it may see what belongs to others.
pub(super) fn viewer<T>(request: &Request<T>) -> Viewer {
    let principal = request.extensions().get::<Arc<Principal>>();
    Viewer { name: caller(request), administers: principal.is_some_and(|one| one.may >= Permission::Administer) }
}

/// A stream that a task fills.
fn stream<T, F>(fill: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F) -> Response<Messages<T>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (send, receive) = mpsc::channel(QUEUE);
    tokio::spawn(fill(send));
    Response::new(ReceiverStream::new(receive))
}

#[tonic::async_trait]
impl v1::containers_server::Containers for Containers {
    async fn spawn_container(
        &self,
        request: Request<v1::SpawnContainerRequest>,
    ) -> Result<Response<v1::SpawnContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_spawn_container(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_list_containers(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_container(
        &self,
        request: Request<v1::GetContainerRequest>,
    ) -> Result<Response<v1::GetContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_get_container(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    type WatchContainersStream = Messages<v1::WatchContainersResponse>;

    async fn watch_containers(
        &self,
        request: Request<v1::WatchContainersRequest>,
    ) -> Result<Response<Self::WatchContainersStream>, Status> {
        let viewer = viewer(&request);
        self.serve_watch_containers(viewer, request.into_inner()).await.map_err(status)
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_stop_container(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn kill_container(
        &self,
        request: Request<v1::KillContainerRequest>,
    ) -> Result<Response<v1::KillContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_kill_container(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn pause_container(
        &self,
        request: Request<v1::PauseContainerRequest>,
    ) -> Result<Response<v1::PauseContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_pause_container(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn resume_container(
        &self,
        request: Request<v1::ResumeContainerRequest>,
    ) -> Result<Response<v1::ResumeContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_resume_container(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn snapshot_container(
        &self,
        request: Request<v1::SnapshotContainerRequest>,
    ) -> Result<Response<v1::SnapshotContainerResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_snapshot_container(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    type StreamLogsStream = Messages<v1::StreamLogsResponse>;

    async fn stream_logs(
        &self,
        request: Request<v1::StreamLogsRequest>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        let viewer = viewer(&request);
        self.serve_stream_logs(viewer, request.into_inner()).await.map_err(status)
    }

    type StreamStatsStream = Messages<v1::StreamStatsResponse>;

    async fn stream_stats(
        &self,
        request: Request<v1::StreamStatsRequest>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        let viewer = viewer(&request);
        self.serve_stream_stats(viewer, request.into_inner()).await.map_err(status)
    }

    async fn start_process(
        &self,
        request: Request<v1::StartProcessRequest>,
    ) -> Result<Response<v1::StartProcessResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_start_process(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    type ExecStream = processes::Exec;

    async fn exec(&self, request: Request<Streaming<v1::ExecRequest>>) -> Result<Response<Self::ExecStream>, Status> {
        let viewer = viewer(&request);
        self.serve_exec(viewer, request.into_inner()).await.map(Response::new)
    }

    type ReadFileStream = Messages<v1::ReadFileResponse>;

    async fn read_file(&self, request: Request<v1::ReadFileRequest>) -> Result<Response<Self::ReadFileStream>, Status> {
        let viewer = viewer(&request);
        self.serve_read_file(viewer, request.into_inner()).await.map_err(status)
    }

    async fn write_file(
        &self,
        request: Request<Streaming<v1::WriteFileRequest>>,
    ) -> Result<Response<v1::WriteFileResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_write_file(viewer, request.into_inner()).await.map(Response::new)
    }

    async fn list_directory(
        &self,
        request: Request<v1::ListDirectoryRequest>,
    ) -> Result<Response<v1::ListDirectoryResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_list_directory(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn stat_path(&self, request: Request<v1::StatPathRequest>) -> Result<Response<v1::StatPathResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_stat_path(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn make_directory(
        &self,
        request: Request<v1::MakeDirectoryRequest>,
    ) -> Result<Response<v1::MakeDirectoryResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_make_directory(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn move_path(&self, request: Request<v1::MovePathRequest>) -> Result<Response<v1::MovePathResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_move_path(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn remove_path(
        &self,
        request: Request<v1::RemovePathRequest>,
    ) -> Result<Response<v1::RemovePathResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_remove_path(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    type WatchPathStream = Messages<v1::WatchPathResponse>;

    async fn watch_path(
        &self,
        request: Request<v1::WatchPathRequest>,
    ) -> Result<Response<Self::WatchPathStream>, Status> {
        let viewer = viewer(&request);
        self.serve_watch_path(viewer, request.into_inner()).await.map_err(status)
    }

    async fn upload_archive(
        &self,
        request: Request<Streaming<v1::UploadArchiveRequest>>,
    ) -> Result<Response<v1::UploadArchiveResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_upload_archive(viewer, request.into_inner()).await.map(Response::new)
    }

    type DownloadArchiveStream = Messages<v1::DownloadArchiveResponse>;

    async fn download_archive(
        &self,
        request: Request<v1::DownloadArchiveRequest>,
    ) -> Result<Response<Self::DownloadArchiveStream>, Status> {
        let viewer = viewer(&request);
        self.serve_download_archive(viewer, request.into_inner()).await.map_err(status)
    }

    type ForwardPortStream = Messages<v1::ForwardPortResponse>;

    async fn forward_port(
        &self,
        request: Request<Streaming<v1::ForwardPortRequest>>,
    ) -> Result<Response<Self::ForwardPortStream>, Status> {
        let viewer = viewer(&request);
        self.serve_forward_port(viewer, request.into_inner()).await
    }

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let viewer = viewer(&request);
        self.serve_list_images(viewer, request.into_inner()).await.map(Response::new).map_err(status)
    }

    type PullImageStream = Messages<v1::PullImageResponse>;

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        let viewer = viewer(&request);
        self.serve_pull_image(viewer, request.into_inner()).await.map_err(status)
    }
}
