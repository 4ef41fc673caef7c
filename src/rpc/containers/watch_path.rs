//! Changes below a path.

use super::{Containers, Messages, stream};
use crate::container::Viewer;
use crate::container::files::Found;
use crate::domain::file::{FileChange, FileChangeKind};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::rpc::convert::{self, file as to};
use crate::rpc::silence;
use crate::rpc::status::status;
use tonic::Response;
use v1::FileChangeKind as Kind;
use v1::watch_path_response::Event;

impl Containers {
    pub(super) async fn serve_watch_path(
        &self,
        viewer: Viewer,
        request: v1::WatchPathRequest,
    ) -> Result<Response<Messages<v1::WatchPathResponse>>> {
        let silence = silence("keepalive_interval", request.keepalive_interval.as_ref())?;
        let kinds = request.kinds.iter().map(|number| match Kind::try_from(*number) {
            Ok(Kind::Unspecified) | Err(_) => {
                Err(Error::invalid("kinds", format!("{number} is not a kind of this contract")))
            }
            Ok(kind) => Ok(kind),
        });
        let kinds = kinds.collect::<Result<Vec<_>>>()?;
        let all = self.all()?;
        let (found, mut watcher) =
            all.watch_path(&request.container_id, &viewer, &request.path, request.recursive).await?;
        Ok(stream(move |send| async move {
            let message = |event| Ok(v1::WatchPathResponse { event: Some(event) });
            let started = v1::WatchPathStarted { info: Some(to::info(&found)) };
            if send.send(message(Event::Started(started))).await.is_err() {
                return;
            }
            loop {
                let next = tokio::select! {
                    () = send.closed() => return,
                    next = tokio::time::timeout(silence, watcher.next()) => next,
                };
                let event = match next {
                    Err(_) => Event::Keepalive(v1::KeepaliveEvent {}),
                    Ok(Ok(Found::Overflow)) => Event::Overflow(v1::WatchPathOverflow { missed_changes: 0 }),
                    Ok(Ok(Found::Change(change))) => {
                        let change = told(&change);
                        if !kinds.is_empty() && !kinds.contains(&change.kind()) {
                            continue;
                        }
                        Event::Change(change)
                    }
                    Ok(Err(error)) => {
                        let _ = send.send(Err(status(error))).await;
                        return;
                    }
                };
                if send.send(message(event)).await.is_err() {
                    return;
                }
            }
        }))
    }
}

fn told(change: &FileChange) -> v1::FileChange {
    let (kind, from) = match &change.kind {
        FileChangeKind::Created => (Kind::Created, None),
        FileChangeKind::Modified => (Kind::Modified, None),
        FileChangeKind::Written => (Kind::Written, None),
        FileChangeKind::Attributes => (Kind::Attributes, None),
        FileChangeKind::MovedFrom(from) => (Kind::Moved, Some(String::from_utf8_lossy(from).into_owned())),
        FileChangeKind::Removed => (Kind::Removed, None),
    };
    let (path, raw_path) = to::path(&change.path);
    let file_kind = if change.directory { v1::FileKind::Directory } else { v1::FileKind::File };
    v1::FileChange {
        kind: kind.into(),
        path,
        moved_from_path: from.unwrap_or_default(),
        file_kind: file_kind.into(),
        time: Some(convert::timestamp(Timestamp::now())),
        raw_path,
    }
}
