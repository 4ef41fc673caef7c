//! All containers and their changes as a stream.

use super::{Containers, Messages, stream};
use crate::container::{ContainerFilter, News, Viewer};
use crate::domain::id::ContainerId;
use crate::error::Result;
use crate::proto::v1;
use crate::rpc::convert::container as to;
use crate::rpc::silence;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Response, Status};
use v1::watch_containers_response::Event;

/// Changes that follow each other faster are told together, each container as it is then.
const BREATH: Duration = Duration::from_millis(20);

type Sender = mpsc::Sender<std::result::Result<v1::WatchContainersResponse, Status>>;

impl Containers {
    pub(super) async fn serve_watch_containers(
        &self,
        viewer: Viewer,
        request: v1::WatchContainersRequest,
    ) -> Result<Response<Messages<v1::WatchContainersResponse>>> {
        let containers = self.all()?.clone();
        let filter = to::filter(request.filter)?;
        let silence = silence("keepalive_interval", request.keepalive_interval.as_ref())?;
        let from = request.from_revision;
        Ok(stream(move |send| async move {
            let mut watch = Watch { containers, filter, viewer, send, at: from, told: HashSet::new() };
            // An error is the reader's end.
            let _ = watch.run(silence).await;
        }))
    }
}

struct Watch {
    containers: Arc<crate::container::Containers>,
    filter: ContainerFilter,
    viewer: Viewer,
    send: Sender,
    /// The last number that was told.
    at: u64,
    /// Containers that the reader knows, as far as this stream told of them.
    told: HashSet<ContainerId>,
}

struct Gone;

impl Watch {
    async fn run(&mut self, silence: Duration) -> std::result::Result<(), Gone> {
        let mut changes = self.containers.changes();
        let fresh = self.at == 0;
        if !self.tell(fresh).await? {
            self.event(self.containers.revision(), Event::Reset(v1::WatchResetEvent {})).await?;
            self.at = 0;
            self.tell(true).await?;
        }
        self.event(self.at, Event::Synced(v1::WatchSyncedEvent {})).await?;
        loop {
            tokio::select! {
                () = self.send.closed() => return Err(Gone),
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(silence) => {
                    self.event(self.at, Event::Keepalive(v1::KeepaliveEvent {})).await?;
                    continue;
                }
            }
            if !self.tell(false).await? {
                self.event(self.containers.revision(), Event::Reset(v1::WatchResetEvent {})).await?;
                (self.at, self.told) = (0, HashSet::new());
                self.tell(true).await?;
                self.event(self.at, Event::Synced(v1::WatchSyncedEvent {})).await?;
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Tells what is new; all there is, if nothing was told before. False if that is not known any more.
    async fn tell(&mut self, fresh: bool) -> std::result::Result<bool, Gone> {
        // What changes from here on is told the next time, perhaps again.
        let now = self.containers.revision();
        let Some(News { found, gone }) = self.containers.changed(self.at, &self.filter, &self.viewer) else {
            return Ok(false);
        };
        let found = found.into_iter().map(|container| (container.revision, Some(container), None));
        let gone = gone.into_iter().map(|(revision, id)| (revision, None, Some(id)));
        let mut news: Vec<_> = found.chain(gone).collect();
        news.sort_by_key(|(revision, ..)| *revision);
        for (revision, container, gone) in news {
            if let Some(container) = container {
                self.told.insert(container.origin.id);
                self.event(revision, Event::Container(to::container(&container))).await?;
            } else if let Some(id) = gone
                && (self.told.remove(&id) || !fresh)
            {
                self.event(revision, Event::RemovedContainerId(id.to_string())).await?;
            }
        }
        self.at = self.at.max(now);
        Ok(true)
    }

    async fn event(&self, revision: u64, event: Event) -> std::result::Result<(), Gone> {
        let message = v1::WatchContainersResponse { revision, event: Some(event) };
        self.send.send(Ok(message)).await.map_err(|_| Gone)
    }
}
