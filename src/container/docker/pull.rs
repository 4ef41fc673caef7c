//! Pulls: Docker's stream of news into progress by layer.

use super::client::Client;
use super::{errors, images};
use crate::container::backend::{BackendError, BackendResult, ImageFacts, LayerProgress, PullPhase};
use crate::domain::image::ImageReference;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_stream::StreamExt;

/// Patience with a slow reader at the end of a pull, all its news together.
const LAST_NEWS: Duration = Duration::from_millis(200);

/// Pulls an image. The daemon goes on for as long as this is waited for, read or not.
pub(super) async fn pull(
    client: &Client,
    reference: &ImageReference,
    platform: &str,
    progress: mpsc::Sender<LayerProgress>,
) -> BackendResult<ImageFacts> {
    let registry = reference.registry.as_str();
    let name = format!("{registry}/{}", reference.repository);
    // Of both the digest counts: it says more.
    let version = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or_default();
    let options = CreateImageOptionsBuilder::default().from_image(&name).tag(version).platform(platform).build();
    let api = client.unlimited().await.map_err(|error| errors::backend(&error))?;
    let mut news = News { unsent: BTreeMap::new(), progress };
    news.tell(LayerProgress { layer: String::new(), phase: PullPhase::Resolving, current: 0, total: 0 });
    let mut answers = std::pin::pin!(api.create_image(Some(options), None, None));
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(|error| {
            if errors::is_away(&error) {
                client.forget();
            }
            errors::pull(&error, registry)
        })?;
        if let Some(progress) = layer(answer) {
            news.tell(progress);
        }
    }
    let image = images::find(client, reference).await?.ok_or_else(|| {
        BackendError::Failed(format!("Docker says that it pulled {reference}, and does not have it; is its disk full?"))
    })?;
    // Docker gives what there is when there is only one, whatever was asked for.
    if !fits(platform, &image.platform) {
        let problem = format!("{registry} has {reference} for {}, not for {platform}", image.platform);
        return Err(BackendError::NotFound(problem));
    }
    news.tell(LayerProgress { layer: String::new(), phase: PullPhase::Done, current: 0, total: 0 });
    news.end().await;
    Ok(image)
}

/// Whether an image is for the system and the processor that were asked for. Variants of processors are left out: images
/// often do not say theirs.
fn fits(wanted: &str, image: &str) -> bool {
    let parts = |platform: &str| -> Option<(String, String)> {
        let (system, rest) = platform.split_once('/')?;
        let processor = match rest.split('/').next()? {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            processor => processor,
        };
        Some((system.to_lowercase(), processor.to_owned()))
    };
    match (parts(wanted), parts(image)) {
        (Some(wanted), Some(image)) => wanted == image,
        _ => true,
    }
}

/// News that nobody took yet: the newest of each layer, so that a slow reader misses steps and not layers.
struct News {
    unsent: BTreeMap<String, LayerProgress>,
    progress: mpsc::Sender<LayerProgress>,
}

impl News {
    fn tell(&mut self, newest: LayerProgress) {
        self.unsent.insert(newest.layer.clone(), newest);
        while let Some((layer, progress)) = self.unsent.pop_first() {
            match self.progress.try_send(progress) {
                Ok(()) => {}
                Err(TrySendError::Full(progress)) => {
                    self.unsent.insert(layer, progress);
                    return;
                }
                Err(TrySendError::Closed(_)) => return self.unsent.clear(),
            }
        }
    }

    async fn end(mut self) {
        let all = async {
            // The image as a whole is last: its layers are done before it is.
            let whole = self.unsent.remove("");
            for progress in self.unsent.into_values().chain(whole) {
                if self.progress.send(progress).await.is_err() {
                    return;
                }
            }
        };
        // Who does not read does not keep the image waiting.
        let _ = tokio::time::timeout(LAST_NEWS, all).await;
    }
}

/// What a line of news says of a layer; none for one that says something of the image as a whole.
fn layer(news: CreateImageInfo) -> Option<LayerProgress> {
    let layer = news.id?;
    let phase = match news.status?.as_str() {
        "Pulling fs layer" | "Waiting" | "Download complete" => PullPhase::Waiting,
        "Downloading" => PullPhase::Downloading,
        "Verifying Checksum" => PullPhase::Verifying,
        "Extracting" => PullPhase::Extracting,
        "Pull complete" | "Already exists" => PullPhase::Done,
        // Docker tries again by itself.
        status if status.starts_with("Retrying in") => PullPhase::Waiting,
        // "Pulling from library/x", where the tag takes the layer's place, and what later versions invent.
        _ => return None,
    };
    let detail = news.progress_detail.unwrap_or_default();
    let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    Some(LayerProgress { layer, phase, current: bytes(detail.current), total: bytes(detail.total) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(layer: &str, current: u64) -> LayerProgress {
        LayerProgress { layer: layer.into(), phase: PullPhase::Downloading, current, total: 9 }
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_of_each_layer() {
        let (progress, mut taken) = mpsc::channel(1);
        let mut news = News { unsent: BTreeMap::new(), progress };
        for current in 0..5 {
            news.tell(step("a", current));
            news.tell(step("b", current));
        }
        let end = tokio::spawn(news.end());
        let mut got = Vec::new();
        while let Some(progress) = taken.recv().await {
            got.push(progress);
        }
        end.await.unwrap();
        assert_eq!(got, [step("a", 0), step("a", 4), step("b", 4)]);
    }

    #[tokio::test]
    async fn nobody_needs_to_read() {
        let (progress, taken) = mpsc::channel(1);
        let mut news = News { unsent: BTreeMap::new(), progress };
        news.tell(step("a", 0));
        drop(taken);
        news.tell(step("a", 1));
        news.end().await;
        let (progress, _unread) = mpsc::channel(1);
        let mut news = News { unsent: BTreeMap::new(), progress };
        news.tell(step("a", 0));
        news.tell(step("a", 1));
        news.end().await;
    }

    #[test]
    fn platforms_are_compared_by_system_and_processor() {
        for (wanted, image, expected) in [
            ("", "linux/amd64", true),
            ("linux/x86_64", "linux/amd64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/amd64", false),
            ("linux/amd64", "", true),
        ] {
            assert_eq!(fits(wanted, image), expected, "{wanted:?} {image:?}");
        }
    }

    #[test]
    fn lines_of_news_are_steps_of_layers() {
        let news = |id: &str, status: &str| CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            ..CreateImageInfo::default()
        };
        assert_eq!(layer(news("latest", "Pulling from library/x")), None);
        assert_eq!(layer(news("abc", "Already exists")).unwrap().phase, PullPhase::Done);
        assert_eq!(layer(news("abc", "Retrying in 5 seconds")).unwrap().phase, PullPhase::Waiting);
    }
}
