//! Files: read, written, listed, looked at, made, moved, removed.

use super::{Containers, Messages, stream};
use crate::container::Viewer;
use crate::container::files::{FileWrite, NewDirectory, WriteMode, Written};
use crate::domain::file::FileFault;
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::rpc::convert::{self, file as to, fingerprint};
use crate::rpc::status::status;
use sha2::{Digest, Sha256};
use tonic::{Response, Status, Streaming};
use v1::read_file_response::Part as ReadPart;
use v1::write_file_request::Part as WritePart;

/// Entries in a page of a listing: where nobody asks, and at most.
const PAGE: (usize, usize) = (1000, 10_000);

impl Containers {
    pub(super) async fn serve_read_file(
        &self,
        viewer: Viewer,
        request: v1::ReadFileRequest,
    ) -> Result<Response<Messages<v1::ReadFileResponse>>> {
        let all = self.all()?;
        all.check_file_user(&request.container_id, &viewer, &request.user)?;
        let length = (request.length > 0).then_some(request.length);
        let (found, mut reader) =
            all.read_file(&request.container_id, &viewer, &request.path, request.offset, length).await?;
        Ok(stream(|send| async move {
            let message = |part| v1::ReadFileResponse { part: Some(part) };
            if send.send(Ok(message(ReadPart::Info(to::info(&found))))).await.is_err() {
                return;
            }
            loop {
                let next = match reader.next().await {
                    Ok(Some(data)) => Ok(message(ReadPart::Chunk(data))),
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

    pub(super) async fn serve_write_file(
        &self,
        viewer: Viewer,
        mut parts: Streaming<v1::WriteFileRequest>,
    ) -> std::result::Result<v1::WriteFileResponse, Status> {
        let Some(WritePart::Header(header)) = parts.message().await?.and_then(|first| first.part) else {
            return Err(status(Error::invalid("part", "the first message is `header`, and only the first")));
        };
        let known = |error| status(error);
        let all = self.all().map_err(known)?;
        all.check_file_user(&header.container_id, &viewer, &header.user).map_err(known)?;
        let write = to::write(&header).map_err(known)?;
        let request_id = convert::request_id("header.request_id", &header.request_id).map_err(known)?;
        let container = header.container_id.clone();
        let written = match request_id {
            None => self.write(&viewer, &container, write, &mut parts).await?,
            Some(request_id) => {
                let identity = (request_id, "Containers.WriteFile", fingerprint(&header));
                let path = write.path.clone();
                let mut cut_off = None;
                let (cut, parts_ref) = (&mut cut_off, &mut parts);
                let write = async |again| {
                    if again && write.mode == WriteMode::Append {
                        let text = "an earlier call with this request_id was cut off while it appended; look at the \
                                        file, and go on under another";
                        return Err(Error::File { path: write.path, fault: FileFault::Other(text.into()) });
                    }
                    // A stream that is cut off is no error of the domain: it is told as it is.
                    self.write(&viewer, &container, write, parts_ref).await.map_err(|status| {
                        *cut = Some(status);
                        Error::Internal("the write failed".into())
                    })
                };
                match (all.once(&viewer, identity, write).await, cut_off) {
                    (Err(_), Some(failure)) => return Err(failure),
                    (Err(error), None) => return Err(status(error)),
                    (Ok(Some(written)), _) => written,
                    (Ok(None), _) => repeated(all, &viewer, &container, &path, &mut parts).await?,
                }
            }
        };
        Ok(v1::WriteFileResponse {
            info: Some(to::info(&written.file)),
            written_bytes: written.bytes,
            digest: hex::encode(written.digest),
        })
    }

    async fn write(
        &self,
        viewer: &Viewer,
        container: &str,
        write: FileWrite,
        parts: &mut Streaming<v1::WriteFileRequest>,
    ) -> std::result::Result<Written, Status> {
        let mut writer = self.all().map_err(status)?.write_file(container, viewer, write).await.map_err(status)?;
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(WritePart::Chunk(data)) => writer.write(data).await.map_err(status)?,
                _ => return Err(status(Error::invalid("part", "expected `chunk` behind the header"))),
            }
        }
        writer.finish().await.map_err(status)
    }

    pub(super) async fn serve_list_directory(
        &self,
        viewer: Viewer,
        request: v1::ListDirectoryRequest,
    ) -> Result<v1::ListDirectoryResponse> {
        let all = self.all()?;
        all.check_file_user(&request.container_id, &viewer, &request.user)?;
        let kinds = to::kinds(&request.kinds)?;
        let limit = match usize::try_from(request.page_size) {
            Ok(0) => PAGE.0,
            Ok(size) => size.min(PAGE.1),
            Err(_) => {
                return Err(Error::invalid(
                    "page_size",
                    format!("expected 0 to {}, got {}", PAGE.1, request.page_size),
                ));
            }
        };
        let listing = format!("files {:?} {:?} {} {:?}", request.container_id, request.path, request.depth, kinds);
        let after = convert::page::position(&listing, &request.page_token)?;
        let found =
            all.list_directory(&request.container_id, &viewer, &request.path, request.depth, after, limit).await?;
        let wanted = found.entries.iter().filter(|entry| kinds.is_empty() || kinds.contains(&entry.kind));
        Ok(v1::ListDirectoryResponse {
            entries: wanted.map(to::info).collect(),
            next_page_token: found.next.map(|next| convert::page::token(&listing, &next)).unwrap_or_default(),
            unreadable_paths: Vec::new(),
        })
    }

    pub(super) async fn serve_stat_path(
        &self,
        viewer: Viewer,
        request: v1::StatPathRequest,
    ) -> Result<v1::StatPathResponse> {
        let all = self.all()?;
        all.check_file_user(&request.container_id, &viewer, &request.user)?;
        required("path", &request.path)?;
        let found = all.stat_path(&request.container_id, &viewer, &request.path, request.follow_links).await?;
        Ok(v1::StatPathResponse { info: Some(to::info(&found)) })
    }

    pub(super) async fn serve_make_directory(
        &self,
        viewer: Viewer,
        request: v1::MakeDirectoryRequest,
    ) -> Result<v1::MakeDirectoryResponse> {
        let all = self.all()?;
        all.check_file_user(&request.container_id, &viewer, &request.user)?;
        required("path", &request.path)?;
        let new = NewDirectory {
            path: request.path.clone(),
            mode: to::permissions("mode", request.mode)?,
            parents: request.parents,
        };
        let (id, path, viewer) = (&request.container_id, &request.path, &viewer);
        let make = |again: bool| async move {
            match all.make_directory(id, viewer, new).await {
                // The try that was cut off made it.
                Err(Error::File { fault: FileFault::Exists, .. }) if again => {
                    all.stat_path(id, viewer, path, true).await
                }
                made => made,
            }
        };
        let known = || all.stat_path(id, viewer, path, true);
        let asked = (&*request.request_id, "Containers.MakeDirectory", fingerprint(&request));
        let made = once(all, viewer, asked, make, known).await?;
        Ok(v1::MakeDirectoryResponse { info: Some(to::info(&made)) })
    }

    pub(super) async fn serve_move_path(
        &self,
        viewer: Viewer,
        request: v1::MovePathRequest,
    ) -> Result<v1::MovePathResponse> {
        let all = self.all()?;
        all.check_file_user(&request.container_id, &viewer, &request.user)?;
        required("source_path", &request.source_path)?;
        required("destination_path", &request.destination_path)?;
        let (id, viewer) = (&request.container_id, &viewer);
        let paths = (&*request.source_path, &*request.destination_path);
        let act = |again: bool| async move {
            match all.move_path(id, viewer, paths, request.replace).await {
                // The try that was cut off moved it.
                Err(Error::File { fault: FileFault::NotFound, .. }) if again => {
                    all.stat_path(id, viewer, paths.1, false).await
                }
                moved => moved,
            }
        };
        let known = || all.stat_path(id, viewer, paths.1, false);
        let asked = (&*request.request_id, "Containers.MovePath", fingerprint(&request));
        let moved = once(all, viewer, asked, act, known).await?;
        Ok(v1::MovePathResponse { info: Some(to::info(&moved)) })
    }

    pub(super) async fn serve_remove_path(
        &self,
        viewer: Viewer,
        request: v1::RemovePathRequest,
    ) -> Result<v1::RemovePathResponse> {
        let all = self.all()?;
        all.check_file_user(&request.container_id, &viewer, &request.user)?;
        required("path", &request.path)?;
        let (id, path, viewer) = (&request.container_id, &request.path, &viewer);
        let act = |again: bool| async move {
            // What a try that was cut off removed is not missed.
            let how = (request.recursive, request.allow_missing || again);
            all.remove_path(id, viewer, path, how).await
        };
        let asked = (&*request.request_id, "Containers.RemovePath", fingerprint(&request));
        let removed_entries = once(all, viewer, asked, act, async || Ok(0)).await?;
        Ok(v1::RemovePathResponse { removed_entries })
    }
}

/// Changes something, once for a request id if there is one; what is `known` is the answer to a repeated call.
async fn once<T, F: Future<Output = Result<T>>, K: Future<Output = Result<T>>>(
    all: &crate::container::Containers,
    viewer: &Viewer,
    (request_id, method, fingerprint): (&str, &'static str, [u8; 32]),
    act: impl FnOnce(bool) -> F,
    known: impl FnOnce() -> K,
) -> Result<T> {
    let Some(request_id) = convert::request_id("request_id", request_id)? else { return act(false).await };
    match all.once(viewer, (request_id, method, fingerprint), act).await? {
        Some(done) => Ok(done),
        None => known().await,
    }
}

/// A write that was done before: its bytes come again, and are only counted.
async fn repeated(
    all: &crate::container::Containers,
    viewer: &Viewer,
    container: &str,
    path: &str,
    parts: &mut Streaming<v1::WriteFileRequest>,
) -> std::result::Result<Written, Status> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while let Some(message) = parts.message().await? {
        if let Some(WritePart::Chunk(data)) = message.part {
            hash.update(&data);
            bytes += data.len() as u64;
        }
    }
    let file = all.stat_path(container, viewer, path, true).await.map_err(status)?;
    Ok(Written { file, bytes, digest: hash.finalize().into() })
}

fn required(field: &str, path: &str) -> Result<()> {
    if path.is_empty() { Err(Error::invalid(field, "is required")) } else { Ok(()) }
}
