//! Archives: unpacked in containers, and packed there.

use super::{Containers, Messages, stream};
use crate::container::Viewer;
use crate::container::files::{ArchivePart, ArchiveUpload, Arrival, Unpacked};
use crate::domain::file::FileFault;
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::rpc::convert::{self, archive as to, file, fingerprint};
use crate::rpc::status::status;
use tonic::{Response, Status, Streaming};
use v1::download_archive_response::Part as DownloadPart;
use v1::upload_archive_request::Part as UploadPart;

impl Containers {
    pub(super) async fn serve_upload_archive(
        &self,
        viewer: Viewer,
        mut parts: Streaming<v1::UploadArchiveRequest>,
    ) -> std::result::Result<v1::UploadArchiveResponse, Status> {
        let Some(UploadPart::Header(header)) = parts.message().await?.and_then(|first| first.part) else {
            return Err(status(Error::invalid("part", "the first message is `header`, and only the first")));
        };
        let known = |error| status(error);
        let all = self.all().map_err(known)?;
        all.check_file_user(&header.container_id, &viewer, &header.user).map_err(known)?;
        let upload = to::upload(&header).map_err(known)?;
        let request_id = convert::request_id("header.request_id", &header.request_id).map_err(known)?;
        let container = header.container_id.clone();
        let unpacked = match request_id {
            None => self.unpack(&viewer, &container, upload, &mut parts).await?,
            Some(request_id) => {
                let identity = (request_id, "Containers.UploadArchive", fingerprint(&header));
                let mut arrival = Arrival::new(upload.announced);
                let mut cut_off = None;
                let (cut, parts_ref) = (&mut cut_off, &mut parts);
                // One that was cut off is unpacked once more: with FAIL it finds what it brought, should it have got so
                // far, and says so.
                let unpack = async |_| {
                    // A stream that is cut off is no error of the domain: it is told as it is.
                    self.unpack(&viewer, &container, upload, parts_ref).await.map_err(|status| {
                        *cut = Some(status);
                        Error::Internal("the upload failed".into())
                    })
                };
                match (all.once(&viewer, identity, unpack).await, cut_off) {
                    (Err(_), Some(failure)) => return Err(failure),
                    (Err(error), None) => return Err(status(error)),
                    (Ok(Some(unpacked)), _) => unpacked,
                    (Ok(None), _) => repeated(&header.path, &mut arrival, &mut parts).await?,
                }
            }
        };
        Ok(to::unpacked(&unpacked))
    }

    async fn unpack(
        &self,
        viewer: &Viewer,
        container: &str,
        upload: ArchiveUpload,
        parts: &mut Streaming<v1::UploadArchiveRequest>,
    ) -> std::result::Result<Unpacked, Status> {
        let mut writer = self.all().map_err(status)?.upload_archive(container, viewer, upload).await.map_err(status)?;
        while let Some(data) = chunk(parts).await? {
            writer.write(data).await.map_err(status)?;
        }
        writer.finish().await.map_err(status)
    }

    pub(super) async fn serve_download_archive(
        &self,
        viewer: Viewer,
        request: v1::DownloadArchiveRequest,
    ) -> Result<Response<Messages<v1::DownloadArchiveResponse>>> {
        let all = self.all()?;
        all.check_file_user(&request.container_id, &viewer, &request.user)?;
        let download = to::download(&request)?;
        let (only, mut reader) = all.download_archive(&request.container_id, &viewer, download).await?;
        Ok(stream(|send| async move {
            let message = |part| v1::DownloadArchiveResponse { part: Some(part) };
            if let Some(only) = only
                && send.send(Ok(message(DownloadPart::Info(file::info(&only))))).await.is_err()
            {
                return;
            }
            loop {
                let next = match reader.next().await {
                    Ok(Some(ArchivePart::Bytes(data))) => Ok(message(DownloadPart::Chunk(data))),
                    Ok(Some(ArchivePart::Packed(packed))) => Ok(message(DownloadPart::Summary(to::summary(&packed)))),
                    Ok(None) => return,
                    Err(error) => Err(status(error)),
                };
                let last = next.is_err();
                if send.send(next).await.is_err() || last {
                    return;
                }
            }
        }))
    }
}

async fn chunk(parts: &mut Streaming<v1::UploadArchiveRequest>) -> std::result::Result<Option<bytes::Bytes>, Status> {
    match parts.message().await?.map(|message| message.part) {
        None => Ok(None),
        Some(Some(UploadPart::Chunk(data))) => Ok(Some(data)),
        Some(_) => Err(status(Error::invalid("part", "expected `chunk` behind the header"))),
    }
}

/// An upload that was done before: its bytes come again and are only looked at, and nothing more is unpacked.
async fn repeated(
    path: &str,
    arrival: &mut Arrival,
    parts: &mut Streaming<v1::UploadArchiveRequest>,
) -> std::result::Result<Unpacked, Status> {
    let refused = |fault: FileFault| status(Error::File { path: path.to_owned(), fault });
    while let Some(data) = chunk(parts).await? {
        arrival.take(&data).map_err(refused)?;
    }
    let digest = arrival.check().map_err(refused)?;
    Ok(Unpacked { digest, ..Unpacked::default() })
}
