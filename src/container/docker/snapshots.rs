//! Root file systems of sandboxes as images, and back to nothing.

use super::client::Client;
use super::hardening::{CONTAINER_LABEL, INSTALLATION_LABEL};
use super::{errors, images, sandboxes};
use crate::container::backend::{BackendError, BackendResult, FoundImage, FrozenImage, Mark};
use crate::domain::id::SnapshotId;
use bollard::models::{ContainerConfig, ImageConfig};
use bollard::query_parameters::{CommitContainerOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use std::collections::{BTreeMap, HashMap};

/// The label with the snapshot that an image is of.
const SNAPSHOT_LABEL: &str = "casemate.snapshot";
/// Where their names are. No registry can have this name, so nothing is ever pulled or pushed by it, and no rule of an
/// operator allows it by accident; with a name at all they are not taken for leftovers.
const REPOSITORY: &str = "casemate.invalid/snapshot";

/// Makes an image of what a sandbox has as its root file system. The daemon freezes the processes itself and thaws them
/// when it is done, whatever becomes of whoever asked; those that are frozen already stay so.
pub(super) async fn commit(client: &Client, id: &str, mark: &Mark, freeze: bool) -> BackendResult<FrozenImage> {
    let seen = sandboxes::inspect(client, id).await?;
    let below = seen.image.unwrap_or_default();
    let base = images::inspect(client, &below)
        .await?
        .ok_or_else(|| BackendError::NotFound(format!("the image {below} that the sandbox runs")))?;
    let (container, tag) = (seen.id.unwrap_or_default(), mark.snapshot.to_string());
    let options = CommitContainerOptionsBuilder::default()
        .container(&container)
        .repo(REPOSITORY)
        .tag(&tag)
        .comment("a snapshot of Casemate's")
        .pause(freeze)
        .build();
    let environment = seen.config.and_then(|config| config.env).unwrap_or_default();
    let config = config(base.config.unwrap_or_default(), &environment, mark);
    // However much was written, it takes as long as it takes.
    let api = client.unlimited().await.map_err(|error| errors::backend(&error))?;
    let made = api.commit_container(options, config).await.map_err(|error| {
        if errors::is_away(&error) {
            client.forget();
        }
        errors::backend(&error)
    })?;
    let image = images::inspect(client, &made.id).await?;
    let image = image.map(images::facts).ok_or_else(|| {
        BackendError::Failed(format!("Docker says that it made the image {}, and does not have it", made.id))
    })?;
    let below = base.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    Ok(FrozenImage { added_bytes: image.size_bytes.saturating_sub(below), image })
}

/// The image's own configuration, not the sandbox's. What is left out or empty Docker takes from the sandbox.
fn config(base: ImageConfig, environment: &[String], mark: &Mark) -> ContainerConfig {
    let own = base.env.unwrap_or_default();
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let known: BTreeMap<String, ()> = own.iter().map(|pair| (name(pair), ())).collect();
    // A variable cannot be left out, but its value, which may be a secret, can.
    let emptied = environment.iter().map(|pair| name(pair)).filter(|name| !known.contains_key(name));
    let emptied: Vec<String> = emptied.map(|name| format!("{name}=")).collect();
    ContainerConfig {
        user: Some(base.user.filter(|user| !user.is_empty()).unwrap_or_else(|| "0".into())),
        exposed_ports: base.exposed_ports,
        env: Some(own.into_iter().chain(emptied).collect()),
        cmd: Some(base.cmd.unwrap_or_default()),
        healthcheck: base.healthcheck,
        volumes: base.volumes,
        working_dir: Some(base.working_dir.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into())),
        entrypoint: Some(base.entrypoint.unwrap_or_default()),
        on_build: base.on_build,
        stop_signal: base.stop_signal,
        shell: base.shell,
        labels: Some(HashMap::from([
            (SNAPSHOT_LABEL.to_owned(), mark.snapshot.to_string()),
            (INSTALLATION_LABEL.to_owned(), mark.installation.clone()),
            // Whatever somebody else makes of the image is no sandbox of ours.
            (CONTAINER_LABEL.to_owned(), String::new()),
        ])),
        ..ContainerConfig::default()
    }
}

/// Bytes that a sandbox wrote to its root file system.
pub(super) async fn written(client: &Client, id: &str) -> BackendResult<u64> {
    let seen = sandboxes::inspect_with_size(client, id).await?;
    Ok(seen.size_rw.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
}

/// All images that say they are snapshots of an installation.
pub(super) async fn find(client: &Client, installation: &str) -> BackendResult<Vec<FoundImage>> {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{INSTALLATION_LABEL}={installation}")])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let list = client
        .ask(|api| {
            let options = options.clone();
            async move { api.list_images(Some(options)).await }
        })
        .await?;
    let found = list.into_iter().filter_map(|image| {
        let snapshot = image.labels.get(SNAPSHOT_LABEL)?.parse().ok()?;
        Some(FoundImage { id: image.id, snapshot })
    });
    Ok(found.collect())
}

/// Removes the image of a snapshot. Nothing for one that is gone; layers that others stand on stay for these.
pub(super) async fn remove(client: &Client, snapshot: SnapshotId) -> BackendResult<()> {
    // By its name: names that somebody else gave the same content stay.
    remove_by(client, &format!("{REPOSITORY}:{snapshot}")).await
}

/// Removes an image that has no name any more.
pub(super) async fn remove_nameless(client: &Client, id: &str) -> BackendResult<()> {
    let image = images::inspect(client, id).await?;
    match image.is_some_and(|image| image.repo_tags.unwrap_or_default().is_empty()) {
        true => remove_by(client, id).await,
        false => Ok(()),
    }
}

async fn remove_by(client: &Client, name: &str) -> BackendResult<()> {
    let options = RemoveImageOptionsBuilder::default().build();
    let removed = client
        .call(|api| {
            let options = options.clone();
            async move { api.remove_image(name, Some(options), None).await }
        })
        .await;
    match removed {
        Ok(_) => Ok(()),
        Err(error) if errors::status(&error) == Some(404) => Ok(()),
        Err(error) => Err(errors::backend(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_keeps_its_own_configuration() {
        let mark = Mark { snapshot: SnapshotId::new(), installation: "here".into() };
        let base =
            ImageConfig { env: Some(vec!["PATH=/bin".into()]), cmd: Some(vec!["sh".into()]), ..ImageConfig::default() };
        let found = config(base, &["PATH=/bin".into(), "TOKEN=secret=1".into()], &mark);
        assert_eq!(found.env, Some(vec!["PATH=/bin".into(), "TOKEN=".into()]));
        // Not left out: Docker would take the supervisor, and the sandbox's user.
        assert_eq!((found.entrypoint, found.cmd), (Some(Vec::new()), Some(vec!["sh".into()])));
        assert_eq!((found.user.as_deref(), found.working_dir.as_deref()), (Some("0"), Some("/")));
        let labels = found.labels.unwrap();
        assert_eq!(labels[SNAPSHOT_LABEL], mark.snapshot.to_string());
        assert_eq!((labels[INSTALLATION_LABEL].as_str(), labels[CONTAINER_LABEL].as_str()), ("here", ""));
        let base = ImageConfig { user: Some("app".into()), working_dir: Some("/srv".into()), ..ImageConfig::default() };
        let found = config(base, &[], &mark);
        assert_eq!((found.user.as_deref(), found.working_dir.as_deref()), (Some("app"), Some("/srv")));
    }
}
