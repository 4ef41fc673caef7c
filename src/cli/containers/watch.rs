//! `casemate containers watch`: changes as they happen.

use super::super::client::Client;
use super::super::failure::{Failure, UNAVAILABLE};
use super::super::output::Format;
use super::super::retry::{Broken, Patience, judge};
use super::super::{follow, output, present};
use super::{FilterArgs, failure, get};
use crate::proto::v1::watch_containers_response::Event;
use crate::proto::v1::{Container, ContainerFilter, WatchContainersRequest, WatchContainersResponse};
use clap::Args;
use std::collections::HashMap;
use std::time::SystemTime;

/// What to watch.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Name or id of one container; the watch then ends when it is over
    name: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// One reader of changes.
struct Watch<'a> {
    client: &'a Client,
    filter: ContainerFilter,
    format: Format,
    /// The only container that matters.
    only: Option<String>,
    /// `revision` of the newest message that was handled.
    revision: u64,
    /// Whether all that existed at the beginning was told.
    synced: bool,
    /// Names of the containers that were told, by id: a removal has only the id. With what was said of each:
    /// not every change shows in a line.
    told: HashMap<String, (String, String)>,
    patience: Patience,
}

/// Prints changes until nobody listens, or until the one container is over.
pub async fn run(client: &Client, args: WatchArgs, format: Format) -> Result<(), Failure> {
    let only = match args.name {
        None => None,
        // A name could be given to another container later.
        Some(name) => Some(get(client, &name).await?.id),
    };
    let mut watch = Watch {
        client,
        filter: args.filter.message(true),
        format,
        only,
        revision: 0,
        synced: false,
        told: HashMap::new(),
        patience: Patience::new(),
    };
    loop {
        let problem = match watch.read().await {
            Ok(()) => return Ok(()),
            Err(Broken::Output(failure)) => return Err(failure),
            Err(Broken::Answer(status)) => return Err(failure(client, "containers cannot be watched", &status)),
            Err(Broken::Connection(status)) => status,
        };
        if watch.patience.is_over() {
            let todo = "try again; `casemate health` tells how the server stands";
            return Err(Failure::new(UNAVAILABLE, "the connection was lost", problem.message(), todo));
        }
        watch.patience.wait().await;
    }
}

impl Watch<'_> {
    async fn read(&mut self) -> Result<(), Broken> {
        let request = WatchContainersRequest {
            filter: Some(self.filter.clone()),
            from_revision: self.revision,
            keepalive_interval: None,
        };
        let mut stream = self.client.containers().watch_containers(request).await.map_err(judge)?.into_inner();
        while let Some(message) = stream.message().await.map_err(judge)? {
            self.patience.refresh();
            let revision = message.revision;
            if self.take(message).map_err(Broken::Output)? {
                return Ok(());
            }
            self.revision = self.revision.max(revision);
        }
        Err(Broken::Connection(tonic::Status::unavailable("the stream ended")))
    }

    /// Tells of one message. True when there is nothing left to watch.
    fn take(&mut self, message: WatchContainersResponse) -> Result<bool, Failure> {
        let other = match (&self.only, &message.event) {
            (Some(only), Some(Event::Container(container))) => container.id != *only,
            (Some(only), Some(Event::RemovedContainerId(id))) => id != only,
            _ => false,
        };
        if other {
            return Ok(false);
        }
        if self.format == Format::Json {
            output::line(&present::container::news(&message).to_string())?;
        }
        match message.event {
            Some(Event::Container(container)) => {
                self.tell(&container)?;
                return Ok(self.only.is_some() && present::container::is_over(&container));
            }
            Some(Event::RemovedContainerId(id)) => {
                if let Some((name, _)) = self.told.remove(&id)
                    && self.format == Format::Human
                {
                    output::line(&format!("{}  {}  removed", now(), output::plain(&name)))?;
                }
                return Ok(self.only.is_some());
            }
            Some(Event::Synced(_)) => self.synced = true,
            Some(Event::Reset(_)) => {
                self.revision = 0;
                if self.format == Format::Human {
                    follow::aside(b"casemate: changes were missed; what follows is all there is\n");
                }
            }
            Some(Event::Keepalive(_)) | None => {}
        }
        Ok(false)
    }

    fn tell(&mut self, container: &Container) -> Result<(), Failure> {
        if self.format == Format::Json {
            return Ok(());
        }
        let line = present::container::change(container);
        let known = self.told.insert(container.id.clone(), (container.name.clone(), line.clone()));
        let seen = known.is_some_and(|(_, said)| said == line);
        // What was over before anybody watched is no news.
        let old = !self.synced && self.only.is_none() && present::container::is_over(container);
        if seen || old {
            return Ok(());
        }
        output::line(&format!("{}  {line}", now()))
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
