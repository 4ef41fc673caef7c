//! Sandboxes as Docker's containers: from their making to their removal.

use super::client::Client;
use super::hardening::{self, CONTAINER_LABEL, INSTALLATION_LABEL, Surroundings};
use super::{errors, images};
use crate::container::backend::{BackendError, BackendResult, Blueprint, Ending, Found, Standing};
use crate::domain::id::ContainerId;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_stream::StreamExt;

/// How long a daemon may be away while somebody waits for an end: it is being started again.
const AWAY: Duration = Duration::from_secs(30);
/// First and last pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A wait is asked for anew after this time: a connection that died without a word would wait for ever.
const WAIT: Duration = Duration::from_secs(300);
/// Longest time until a sandbox that is being removed is gone, or one that was killed is over.
const GONE: Duration = Duration::from_secs(30);

/// Makes a sandbox.
pub(super) async fn create(client: &Client, blueprint: &Blueprint) -> BackendResult<String> {
    let image = images::inspect(client, &blueprint.image_id)
        .await?
        .ok_or_else(|| BackendError::NotFound(format!("the image {}", blueprint.image_id)))?;
    let known = client.known().await.map_err(|error| errors::backend(&error))?;
    let surroundings = Surroundings {
        cgroup_v1: known.cgroup_v1,
        cpus: known.cpus,
        volumes: image.config.and_then(|config| config.volumes).unwrap_or_default(),
    };
    let name = name(blueprint.container);
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let body = hardening::body(blueprint, &surroundings);
    let until = Instant::now() + GONE;
    loop {
        let made = client
            .call(|api| {
                let (options, body) = (options.clone(), body.clone());
                async move { api.create_container(Some(options), body).await }
            })
            .await;
        let error = match made {
            Ok(made) => {
                for warning in made.warnings {
                    tracing::warn!(container = %blueprint.container, "Docker warns: {warning}");
                }
                return Ok(made.id);
            }
            Err(error) if errors::status(&error) == Some(409) => error,
            Err(error) => return Err(errors::backend(&error)),
        };
        match made_before(client, &name, blueprint, image.id.as_deref()).await? {
            Before::Ours(id) => return Ok(id),
            // Its name is taken before it is there: an earlier try, whose asker died, is not done yet.
            Before::Nothing if Instant::now() < until => tokio::time::sleep(PAUSES.0).await,
            Before::Nothing | Before::Another => return Err(errors::backend(&error)),
        }
    }
}

/// What has the name that is wanted.
enum Before {
    /// The sandbox that an earlier try made, whose answer was lost.
    Ours(String),
    /// Something else.
    Another,
    /// Nothing that can be looked at: it is being made, or went since.
    Nothing,
}

fn name(container: ContainerId) -> String {
    format!("casemate-{container}")
}

async fn made_before(
    client: &Client,
    name: &str,
    blueprint: &Blueprint,
    image_id: Option<&str>,
) -> BackendResult<Before> {
    let there = match inspect(client, name).await {
        Err(BackendError::NotFound(_)) => return Ok(Before::Nothing),
        there => there?,
    };
    let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
    let has = |label: &str, value: &str| labels.get(label).is_some_and(|found| found == value);
    let ours = has(CONTAINER_LABEL, &blueprint.container.to_string())
        && has(INSTALLATION_LABEL, &blueprint.installation)
        && there.image.as_deref() == image_id;
    Ok(there.id.filter(|_| ours).map_or(Before::Another, Before::Ours))
}

/// Starts a sandbox; nothing for one that runs.
pub(super) async fn start(client: &Client, id: &str) -> BackendResult<()> {
    client.ask(|api| async move { api.start_container(id, None::<StartContainerOptions>).await }).await
}

pub(super) async fn inspect(client: &Client, id: &str) -> BackendResult<ContainerInspectResponse> {
    client.ask(|api| async move { api.inspect_container(id, None::<InspectContainerOptions>).await }).await
}

/// As [`inspect`], with what it wrote, which takes Docker longer to find out.
pub(super) async fn inspect_with_size(client: &Client, id: &str) -> BackendResult<ContainerInspectResponse> {
    let options = InspectContainerOptions { size: true };
    client
        .ask(|api| {
            let options = options.clone();
            async move { api.inspect_container(id, Some(options)).await }
        })
        .await
}

/// How a sandbox stands.
pub(super) async fn look(client: &Client, id: &str) -> BackendResult<Standing> {
    standing(inspect(client, id).await?)
}

fn standing(seen: ContainerInspectResponse) -> BackendResult<Standing> {
    let state = seen.state.ok_or_else(|| BackendError::Failed("Docker does not say how the sandbox stands".into()))?;
    let problem = state.error.unwrap_or_default();
    if state.running == Some(true) || state.paused == Some(true) {
        let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        return Ok(Standing::Running { pid, paused: state.paused == Some(true) });
    }
    // One whose start failed still reads as made.
    if state.status == Some(ContainerStateStatusEnum::CREATED) && problem.is_empty() {
        return Ok(Standing::Made);
    }
    Ok(Standing::Over(Ending {
        code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
        out_of_memory: state.oom_killed.unwrap_or(false),
        problem,
    }))
}

/// All sandboxes of an installation.
pub(super) async fn find(client: &Client, installation: &str) -> BackendResult<Vec<Found>> {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{INSTALLATION_LABEL}={installation}")])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let list = client
        .ask(|api| {
            let options = options.clone();
            async move { api.list_containers(Some(options)).await }
        })
        .await?;
    let found = list.into_iter().filter_map(|container| {
        let id = container.labels?.get(CONTAINER_LABEL)?.parse().ok()?;
        Some(Found { id: container.id?, container: id })
    });
    Ok(found.collect())
}

/// Waits until a sandbox does not run, across restarts of the daemon.
pub(super) async fn ended(client: &Client, id: &str) -> BackendResult<Ending> {
    let mut away_since: Option<Instant> = None;
    let mut pause = PAUSES.0;
    loop {
        let problem = match wait(client, id).await {
            // What the wait says of the end is not enough, and a wait that is cut off says nothing.
            Ok(()) => match look(client, id).await {
                Ok(Standing::Over(ending)) => return Ok(ending),
                Ok(Standing::Made) => return Ok(Ending::default()),
                // The daemon answers: it was only asked too early.
                Ok(Standing::Running { .. }) => {
                    away_since = None;
                    None
                }
                Err(BackendError::Unavailable(problem)) => Some(problem),
                Err(error) => return Err(error),
            },
            Err(error) => match errors::backend(&error) {
                BackendError::Unavailable(problem) => Some(problem),
                error => return Err(error),
            },
        };
        match problem {
            Some(problem) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY {
                    return Err(BackendError::Unavailable(problem));
                }
            }
            None => pause = PAUSES.0,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Waits until Docker says that a sandbox does not run; a while at most.
async fn wait(client: &Client, id: &str) -> Result<(), Error> {
    let api = client.unlimited().await?;
    let mut answers = std::pin::pin!(api.wait_container(id, None::<WaitContainerOptions>));
    match tokio::time::timeout(WAIT, answers.next()).await {
        // The client makes an error of an end that is none.
        Ok(Some(Ok(_) | Err(Error::DockerContainerWaitError { .. }))) => Ok(()),
        Ok(Some(Err(error))) => {
            client.forget();
            Err(error)
        }
        // The daemon went without an answer, or there is none yet.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Freezes a sandbox.
pub(super) async fn pause(client: &Client, id: &str) -> BackendResult<()> {
    let result = client.call(|api| async move { api.pause_container(id).await }).await;
    unless(result, client, id, |standing| matches!(standing, Standing::Running { paused: true, .. })).await
}

/// Thaws a sandbox.
pub(super) async fn resume(client: &Client, id: &str) -> BackendResult<()> {
    let result = client.call(|api| async move { api.unpause_container(id).await }).await;
    unless(result, client, id, |standing| matches!(standing, Standing::Running { paused: false, .. })).await
}

/// An error is none if things stand as they should: versions of Docker differ in how they say so.
async fn unless(
    result: Result<(), Error>,
    client: &Client,
    id: &str,
    fits: impl Fn(&Standing) -> bool,
) -> BackendResult<()> {
    let Err(error) = result else { return Ok(()) };
    if !matches!(errors::status(&error), Some(304 | 409 | 500)) {
        return Err(errors::backend(&error));
    }
    match look(client, id).await? {
        standing if fits(&standing) => Ok(()),
        Standing::Made | Standing::Over(_) => Err(BackendError::Conflict(errors::said(&error).to_owned())),
        Standing::Running { .. } => Err(errors::backend(&error)),
    }
}

/// Kills a sandbox, and sees that it is over.
pub(super) async fn kill(client: &Client, id: &str) -> BackendResult<()> {
    let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
    let result = client
        .call(|api| {
            let options = options.clone();
            async move { api.kill_container(id, Some(options)).await }
        })
        .await;
    if let Err(error) = &result
        && !matches!(errors::status(error), Some(409 | 500))
    {
        return Err(errors::backend(error));
    }
    until(|| async {
        match look(client, id).await {
            Ok(Standing::Running { paused: true, .. }) => {
                // The signal waits for the thaw, and comes before anything else then.
                resume(client, id).await.map(|()| false).or_else(|error| match error {
                    BackendError::Conflict(_) | BackendError::NotFound(_) => Ok(false),
                    error => Err(error),
                })
            }
            Ok(Standing::Running { .. }) => match &result {
                Err(error) => Err(errors::backend(error)),
                Ok(()) => Ok(false),
            },
            Ok(Standing::Made | Standing::Over(_)) | Err(BackendError::NotFound(_)) => Ok(true),
            Err(error) => Err(error),
        }
    })
    .await
}

/// Sends a signal to the first process; nothing for a sandbox that does not run.
pub(super) async fn signal(client: &Client, id: &str, signal: i32) -> BackendResult<()> {
    let options = KillContainerOptionsBuilder::default().signal(&signal.to_string()).build();
    let result = client
        .call(|api| {
            let options = options.clone();
            async move { api.kill_container(id, Some(options)).await }
        })
        .await;
    let Err(error) = result else { return Ok(()) };
    match look(client, id).await {
        Ok(Standing::Running { .. }) => Err(errors::backend(&error)),
        Ok(Standing::Made | Standing::Over(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a sandbox, and what Docker made for it.
pub(super) async fn remove(client: &Client, id: &str) -> BackendResult<()> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let result = client
        .call(|api| {
            let options = options.clone();
            async move { api.remove_container(id, Some(options)).await }
        })
        .await;
    match result {
        Ok(()) => Ok(()),
        Err(error) if errors::status(&error) == Some(404) => Ok(()),
        // Somebody else is removing it right now.
        Err(error) if errors::said(&error).contains("already in progress") => {
            until(|| async {
                match inspect(client, id).await {
                    Ok(_) => Ok(false),
                    Err(BackendError::NotFound(_)) => Ok(true),
                    Err(error) => Err(error),
                }
            })
            .await
        }
        Err(error) => Err(errors::backend(&error)),
    }
}

/// Asks until the answer is yes; an error after a while.
async fn until<F: Future<Output = BackendResult<bool>>>(ask: impl Fn() -> F) -> BackendResult<()> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(5);
    while !ask().await? {
        if began.elapsed() > GONE {
            let problem = format!("the sandbox is still there after {} s; look at the Docker daemon", GONE.as_secs());
            return Err(BackendError::Failed(problem));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
    Ok(())
}
