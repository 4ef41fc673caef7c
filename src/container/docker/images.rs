//! Images that are here.

use super::client::Client;
use super::errors;
use crate::container::backend::{BackendError, BackendResult, ImageFacts};
use crate::domain::image::ImageReference;
use crate::domain::time::Timestamp;
use bollard::models::ImageInspect;
use bollard::query_parameters::ListImagesOptions;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Images that are looked at at the same time.
const TOGETHER: usize = 8;

/// An image by its reference or its id; `None` when it is not here.
pub(super) async fn inspect(client: &Client, name: &str) -> BackendResult<Option<ImageInspect>> {
    match client.call(|api| async move { api.inspect_image(name).await }).await {
        Ok(image) => Ok(Some(image)),
        Err(error) if errors::status(&error) == Some(404) => Ok(None),
        Err(error) => Err(errors::backend(&error)),
    }
}

/// Looks an image up by its reference.
pub(super) async fn find(client: &Client, reference: &ImageReference) -> BackendResult<Option<ImageFacts>> {
    Ok(inspect(client, &reference.to_string()).await?.map(facts))
}

/// All images that have a reference or that something was made of.
pub(super) async fn list(client: &Arc<Client>) -> BackendResult<Vec<ImageFacts>> {
    let all = client.ask(|api| async move { api.list_images(None::<ListImagesOptions>).await }).await?;
    // The list says little; and an image may be in it once for each of its tags.
    let mut ids = all.into_iter().map(|image| image.id).collect::<BTreeSet<_>>().into_iter();
    let mut looking = JoinSet::new();
    let mut found = Vec::new();
    loop {
        while looking.len() < TOGETHER {
            let Some(id) = ids.next() else { break };
            let client = client.clone();
            looking.spawn(async move { inspect(&client, &id).await });
        }
        match looking.join_next().await {
            None => break,
            // One that went since is none.
            Some(Ok(image)) => found.extend(image?.map(facts)),
            Some(Err(error)) => return Err(BackendError::Failed(error.to_string())),
        }
    }
    found.sort_by(|a, b| (&a.tags, &a.id).cmp(&(&b.tags, &b.id)));
    Ok(found)
}

pub(super) fn facts(image: ImageInspect) -> ImageFacts {
    let config = image.config.unwrap_or_default();
    let parts = [image.os, image.architecture, image.variant];
    let platform: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    ImageFacts {
        id: image.id.unwrap_or_default(),
        tags: full_references(image.repo_tags),
        digests: full_references(image.repo_digests),
        size_bytes: image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        created: image.created.as_deref().and_then(moment),
        platform: platform.join("/"),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        environment: config.env.unwrap_or_default(),
        working_directory: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        stop_signal: config.stop_signal.unwrap_or_default(),
    }
}

/// Docker leaves out what its own registry's references begin with, and writes `<none>` for what is not there.
fn full_references(short: Option<Vec<String>>) -> Vec<String> {
    short
        .unwrap_or_default()
        .iter()
        .filter_map(|text| ImageReference::parse(text).ok())
        .map(|reference| reference.to_string())
        .collect()
}

/// A moment as images have it, such as `2024-05-06T07:08:09.123456789Z` or with `+02:00` behind. None for what is no
/// such text, or before 1970: images say what they like.
fn moment(text: &str) -> Option<Timestamp> {
    let zone = text.len().checked_sub(6).filter(|at| text.is_char_boundary(*at)).map(|at| text.split_at(at));
    let (local, sign, offset) = match zone {
        Some((local, zone)) if zone.starts_with(['+', '-']) => (local, &zone[..1], &zone[1..]),
        _ => (text.trim_end_matches(['Z', 'z']), "+", "00:00"),
    };
    let (hours, minutes) = offset.split_once(':')?;
    let minutes = hours.parse::<u64>().ok()?.checked_mul(60)?.checked_add(minutes.parse().ok()?)?;
    let offset = Duration::from_secs(minutes.checked_mul(60)?);
    let local = Timestamp::from(humantime::parse_rfc3339(&format!("{local}Z")).ok()?);
    Some(if sign == "+" { local.before(offset) } else { local.after(offset) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_given_back_whole() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let short = ["x:1", "acme/x:1", "<none>:<none>", "localhost:5000/x:y"];
        let mut short: Vec<String> = short.into_iter().map(str::to_owned).collect();
        short.push(format!("x@{digest}"));
        let expected = ["docker.io/library/x:1", "docker.io/acme/x:1", "localhost:5000/x:y"];
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expected.push(format!("docker.io/library/x@{digest}"));
        assert_eq!(full_references(Some(short)), expected);
    }

    #[test]
    fn moments_are_read_with_and_without_a_zone() {
        let noon = moment("2024-05-06T12:00:00Z").unwrap();
        assert_eq!(moment("2024-05-06T14:00:00+02:00"), Some(noon));
        assert_eq!(moment("2024-05-06T06:30:00-05:30"), Some(noon));
        assert_eq!(moment("2024-05-06T12:00:00.5Z").unwrap().0, noon.0 + 500_000);
        for text in ["", "yesterday", "2024-05-06", "2024-05-06T12:00:00+ab:cd", "0001-01-01T00:00:00Z", "ääääää"]
        {
            let read = moment(text);
            assert!(read.is_none_or(|read| read.0 == 0), "{text}: {read:?}");
        }
    }
}
