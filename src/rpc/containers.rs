//! The Containers service: part of the contract, not of this build. Every method names itself.

use super::unbuilt::{Never, refuse};
use crate::proto::v1;
use tonic::{Request, Response, Status, Streaming};

/// The service.
pub struct Containers;

#[tonic::async_trait]
impl v1::containers_server::Containers for Containers {
    async fn spawn_container(
        &self,
        _: Request<v1::SpawnContainerRequest>,
    ) -> Result<Response<v1::SpawnContainerResponse>, Status> {
        refuse("Containers.SpawnContainer")
    }

    async fn list_containers(
        &self,
        _: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        refuse("Containers.ListContainers")
    }

    async fn get_container(
        &self,
        _: Request<v1::GetContainerRequest>,
    ) -> Result<Response<v1::GetContainerResponse>, Status> {
        refuse("Containers.GetContainer")
    }

    type WatchContainersStream = Never<v1::WatchContainersResponse>;

    async fn watch_containers(
        &self,
        _: Request<v1::WatchContainersRequest>,
    ) -> Result<Response<Self::WatchContainersStream>, Status> {
        refuse("Containers.WatchContainers")
    }

    async fn stop_container(
        &self,
        _: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        refuse("Containers.StopContainer")
    }

    async fn kill_container(
        &self,
        _: Request<v1::KillContainerRequest>,
    ) -> Result<Response<v1::KillContainerResponse>, Status> {
        refuse("Containers.KillContainer")
    }

    async fn pause_container(
        &self,
        _: Request<v1::PauseContainerRequest>,
    ) -> Result<Response<v1::PauseContainerResponse>, Status> {
        refuse("Containers.PauseContainer")
    }

    async fn resume_container(
        &self,
        _: Request<v1::ResumeContainerRequest>,
    ) -> Result<Response<v1::ResumeContainerResponse>, Status> {
        refuse("Containers.ResumeContainer")
    }

    async fn snapshot_container(
        &self,
        _: Request<v1::SnapshotContainerRequest>,
    ) -> Result<Response<v1::SnapshotContainerResponse>, Status> {
        refuse("Containers.SnapshotContainer")
    }

    type StreamLogsStream = Never<v1::StreamLogsResponse>;

    async fn stream_logs(&self, _: Request<v1::StreamLogsRequest>) -> Result<Response<Self::StreamLogsStream>, Status> {
        refuse("Containers.StreamLogs")
    }

    type StreamStatsStream = Never<v1::StreamStatsResponse>;

    async fn stream_stats(
        &self,
        _: Request<v1::StreamStatsRequest>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        refuse("Containers.StreamStats")
    }

    async fn start_process(
        &self,
        _: Request<v1::StartProcessRequest>,
    ) -> Result<Response<v1::StartProcessResponse>, Status> {
        refuse("Containers.StartProcess")
    }

    type ExecStream = Never<v1::ExecResponse>;

    async fn exec(&self, _: Request<Streaming<v1::ExecRequest>>) -> Result<Response<Self::ExecStream>, Status> {
        refuse("Containers.Exec")
    }

    type ReadFileStream = Never<v1::ReadFileResponse>;

    async fn read_file(&self, _: Request<v1::ReadFileRequest>) -> Result<Response<Self::ReadFileStream>, Status> {
        refuse("Containers.ReadFile")
    }

    async fn write_file(
        &self,
        _: Request<Streaming<v1::WriteFileRequest>>,
    ) -> Result<Response<v1::WriteFileResponse>, Status> {
        refuse("Containers.WriteFile")
    }

    async fn list_directory(
        &self,
        _: Request<v1::ListDirectoryRequest>,
    ) -> Result<Response<v1::ListDirectoryResponse>, Status> {
        refuse("Containers.ListDirectory")
    }

    async fn stat_path(&self, _: Request<v1::StatPathRequest>) -> Result<Response<v1::StatPathResponse>, Status> {
        refuse("Containers.StatPath")
    }

    async fn make_directory(
        &self,
        _: Request<v1::MakeDirectoryRequest>,
    ) -> Result<Response<v1::MakeDirectoryResponse>, Status> {
        refuse("Containers.MakeDirectory")
    }

    async fn move_path(&self, _: Request<v1::MovePathRequest>) -> Result<Response<v1::MovePathResponse>, Status> {
        refuse("Containers.MovePath")
    }

    async fn remove_path(&self, _: Request<v1::RemovePathRequest>) -> Result<Response<v1::RemovePathResponse>, Status> {
        refuse("Containers.RemovePath")
    }

    type WatchPathStream = Never<v1::WatchPathResponse>;

    async fn watch_path(&self, _: Request<v1::WatchPathRequest>) -> Result<Response<Self::WatchPathStream>, Status> {
        refuse("Containers.WatchPath")
    }

    async fn upload_archive(
        &self,
        _: Request<Streaming<v1::UploadArchiveRequest>>,
    ) -> Result<Response<v1::UploadArchiveResponse>, Status> {
        refuse("Containers.UploadArchive")
    }

    type DownloadArchiveStream = Never<v1::DownloadArchiveResponse>;

    async fn download_archive(
        &self,
        _: Request<v1::DownloadArchiveRequest>,
    ) -> Result<Response<Self::DownloadArchiveStream>, Status> {
        refuse("Containers.DownloadArchive")
    }

    type ForwardPortStream = Never<v1::ForwardPortResponse>;

    async fn forward_port(
        &self,
        _: Request<Streaming<v1::ForwardPortRequest>>,
    ) -> Result<Response<Self::ForwardPortStream>, Status> {
        refuse("Containers.ForwardPort")
    }

    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Result<Response<v1::ListImagesResponse>, Status> {
        refuse("Containers.ListImages")
    }

    type PullImageStream = Never<v1::PullImageResponse>;

    async fn pull_image(&self, _: Request<v1::PullImageRequest>) -> Result<Response<Self::PullImageStream>, Status> {
        refuse("Containers.PullImage")
    }
}
