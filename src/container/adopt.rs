//! After a start: what is recorded is compared with what there is, and gone on with.

use super::backend::{BackendError, Found, Standing};
use super::entry::Entry;
use super::manager::Containers;
use super::processes::container_of;
use super::unsupervised;
use crate::domain::container::{ContainerState, EndReason};
use crate::domain::id::ContainerId;
use crate::execution::Run;
use crate::store::containers::ContainerRecord;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Takes in what is recorded. Whatever is not over is looked for in the background.
pub(super) fn all(containers: &Arc<Containers>, records: Vec<Result<ContainerRecord, ContainerId>>) {
    let mut processes: HashMap<Option<ContainerId>, Vec<Run>> = HashMap::new();
    for run in containers.registry.take_survivors() {
        processes.entry(container_of(run.live())).or_default().push(run);
    }
    let mut roster = containers.roster.lock();
    for record in records {
        let ContainerRecord { origin, mut status, belonging } = match record {
            Ok(record) => record,
            Err(id) => {
                tracing::error!(container = %id, "the record of a container is damaged; the container is reaped");
                continue;
            }
        };
        let over = status.state.is_over();
        if matches!(status.state, ContainerState::Running | ContainerState::Paused) {
            status.state = ContainerState::Unreachable;
        }
        let entry = Entry::new(origin, status, belonging, containers.changes.clone());
        let origin = &entry.origin;
        if let Some(request_id) = origin.request_id {
            roster.requests.insert((origin.principal.clone(), request_id), origin.id);
        }
        containers.entries.insert(origin.id, entry.clone());
        if let Some(loan) = entry.belonging().and_then(|home| home.loan) {
            roster.lent(origin.id, &loan);
        }
        if !over {
            roster.names.insert(origin.name.clone(), origin.id);
            *roster.owned.entry(origin.principal.clone()).or_default() += 1;
            let runs = processes.remove(&Some(origin.id)).unwrap_or_default();
            tokio::spawn(adopt(containers.clone(), entry, runs));
        }
    }
    // Their containers are over, or unknown.
    for run in processes.into_values().flatten() {
        containers.take_up(run, None);
    }
}

/// Goes on with one container.
async fn adopt(containers: Arc<Containers>, entry: Arc<Entry>, runs: Vec<Run>) {
    let id = entry.origin.id;
    let standing = loop {
        match sandbox(&containers, &entry).await {
            Ok(standing) => break standing,
            Err(error) => {
                let problem = format!("it is not known how it is: {error}");
                entry.change(|status| status.problem = problem);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    entry.change(|status| status.problem.clear());
    let ending = entry.status().ending;
    let live = matches!(standing, Some(Standing::Running { .. }));
    // From here on its guest can come back; whatever it has to tell is of these processes.
    let supervised = live && !entry.is_unsupervised();
    let link = match supervised {
        true => containers.listen(&entry),
        false => Err(std::io::ErrorKind::NotFound.into()),
    };
    if let Err(error) = &link
        && supervised
    {
        tracing::error!(container = %id, %error, "its supervisor has no socket to come back to");
    }
    let link = link.ok();
    let main_known = runs.iter().any(|run| run.live().origin().id == entry.origin.main_execution);
    for run in runs {
        containers.take_up(run, link.clone().map(|link| (entry.clone(), link)));
    }
    if let (Some(link), Some(Standing::Running { pid, .. })) = (&link, &standing) {
        link.expect(*pid);
    }
    match (entry.state(), standing) {
        (_, _) if ending.is_some() => {
            let reason = ending.unwrap_or(EndReason::Stopped);
            containers.finish(entry, reason, "it was being ended when the server died".into(), Duration::ZERO).await;
        }
        // Nobody was told that it runs: it is made again from where it was.
        (ContainerState::Creating | ContainerState::Starting, _) if !main_known => {
            if let Err(error) = containers.bring_up(&entry).await {
                tracing::warn!(container = %id, %error, "a container that was being made when the server died");
            }
        }
        (_, Some(Standing::Running { paused, .. })) => {
            if entry.is_unsupervised() && !paused {
                unsupervised::sweep_all(&*containers.backend, &entry).await;
            }
            entry.change(|status| {
                status.state = if paused { ContainerState::Paused } else { ContainerState::Running };
                status.started.get_or_insert_with(crate::domain::time::Timestamp::now);
            });
            tracing::info!(container = %id, "adopted");
            containers.save_later(&entry);
            containers.tend(&entry);
        }
        (_, Some(Standing::Over(end))) => {
            let (reason, message) = match end.out_of_memory {
                true => (EndReason::OutOfMemory, "it ran out of memory while there was no server".to_owned()),
                false => (EndReason::Exited, "it ended while there was no server".to_owned()),
            };
            entry.doom(reason);
            containers.finish(entry, reason, message, Duration::ZERO).await;
        }
        (_, Some(Standing::Made) | None) => {
            entry.doom(EndReason::Vanished);
            let message = "it was not there any more when the server came back".to_owned();
            containers.finish(entry, EndReason::Vanished, message, Duration::ZERO).await;
        }
    }
}

/// How the sandbox of a container stands; none if there is none.
async fn sandbox(containers: &Containers, entry: &Entry) -> Result<Option<Standing>, BackendError> {
    if entry.backend_id().is_empty() {
        // It may have been made before that could be recorded.
        let found = containers.backend.find(&containers.installation).await?;
        let own = |found: &&Found| found.container == entry.origin.id;
        let Some(found) = found.iter().find(own) else { return Ok(None) };
        entry.change(|status| status.backend_id.clone_from(&found.id));
    }
    let found = match containers.backend.look(&entry.backend_id()).await {
        Ok(Standing::Running { pid, paused: true }) if containers.snapshots.froze(entry.origin.id) => {
            // For a snapshot that nobody is making any more, not by somebody's wish.
            containers.backend.resume(&entry.backend_id()).await.map(|()| Standing::Running { pid, paused: false })
        }
        found => found,
    };
    match found {
        Ok(standing) => Ok(Some(standing)),
        Err(BackendError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
