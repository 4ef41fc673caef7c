//! `casemate containers images` and `pull`.

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::output::Format;
use super::super::{follow, output, present};
use super::{PAGE, failure};
use crate::proto::v1::pull_image_response::Event;
use crate::proto::v1::{Image, ImageFilter, ListImagesRequest, PullImageRequest, PullPhase, PullProgress};
use clap::Args;
use serde_json::{Value, json};
use std::io::IsTerminal;
use tonic::{Code, Status};
use uuid::Uuid;

/// Which images to list.
#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// Only of this repository, such as docker.io/library/python
    #[arg(long, value_name = "NAME", default_value = "")]
    repository: String,
}

/// What to fetch.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Reference by tag or digest; without either, the tag latest
    reference: String,
    /// Platform, such as linux/arm64; none means the server's own
    #[arg(long, value_name = "PLATFORM", default_value = "")]
    platform: String,
}

/// Lists the images.
pub async fn list(client: &Client, args: ImagesArgs, format: Format) -> Result<(), Failure> {
    let filter = ImageFilter { repository: args.repository, snapshots: None };
    let mut images: Vec<Image> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListImagesRequest {
            page_size: i32::try_from(PAGE).unwrap_or_default(),
            page_token,
            filter: Some(filter.clone()),
        };
        let page = client.containers().list_images(request).await;
        let page = page.map_err(|status| failure(client, "images cannot be listed", &status))?.into_inner();
        images.extend(page.images);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match format {
        Format::Json => {
            let images: Vec<Value> = images.iter().map(present::image::json).collect();
            output::json(&json!({ "images": images }))
        }
        Format::Human if images.is_empty() => {
            output::line("No images. containers.images of the server's configuration says which may be used.")
        }
        Format::Human => output::line(&present::image::table(&images)),
    }
}

/// Fetches an image. The progress goes to standard error, the image to standard output.
pub async fn pull(client: &Client, args: PullArgs, format: Format) -> Result<(), Failure> {
    let what = || format!("image {:?} was not fetched", args.reference);
    let request = PullImageRequest {
        reference: args.reference.clone(),
        platform: args.platform.clone(),
        request_id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let refused = |status: Status| match status.code() {
        Code::NotFound => failure(client, what(), &status).instead("check the reference, and that its registry has it"),
        _ => failure(client, what(), &status),
    };
    let mut news = client.containers().pull_image(request).await.map_err(refused)?.into_inner();
    let mut progress = Progress { drawn: std::io::stderr().is_terminal(), ..Default::default() };
    loop {
        match news.message().await.map_err(refused)?.and_then(|news| news.event) {
            Some(Event::Progress(news)) => follow::aside(progress.tell(news).as_bytes()),
            Some(Event::Keepalive(_)) => {}
            Some(Event::Image(image)) => {
                return match format {
                    Format::Json => output::json(&present::image::json(&image)),
                    Format::Human => output::line(&present::image::detail(&image)),
                };
            }
            None => return Err(Failure::local(what(), "the stream ended before the image was told")),
        }
    }
}

/// What is known of the layers, in the order they were first told of.
#[derive(Default)]
struct Progress {
    /// Whether the lines of before are drawn over.
    drawn: bool,
    layers: Vec<PullProgress>,
}

impl Progress {
    /// What to print for this piece of news.
    fn tell(&mut self, news: PullProgress) -> String {
        let known = self.layers.iter().position(|layer| layer.layer == news.layer);
        let before = known.map(|at| self.layers[at].phase());
        let lines = self.layers.len();
        match known {
            Some(at) => self.layers[at] = news.clone(),
            None => self.layers.push(news.clone()),
        }
        if !self.drawn {
            // Bytes alone are no line of their own.
            let phase = news.phase();
            let same = before == Some(phase) || phase == PullPhase::Unspecified;
            return match same {
                true => String::new(),
                false => format!("{}: {}\n", present::image::subject(&news), present::image::phase(phase)),
            };
        }
        let mut text = if lines > 0 { format!("\x1b[{lines}A\r") } else { String::new() };
        for layer in &self.layers {
            text.push_str(&present::image::bar(layer));
            text.push_str("\x1b[K\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(layer: &str, phase: PullPhase, current_bytes: u64) -> PullProgress {
        PullProgress { layer: layer.into(), phase: phase.into(), current_bytes, total_bytes: 4 }
    }

    #[test]
    fn a_program_gets_a_line_for_each_phase() {
        let mut progress = Progress::default();
        let told: Vec<String> = [
            news("a", PullPhase::Downloading, 0),
            news("a", PullPhase::Downloading, 2),
            news("b", PullPhase::Waiting, 0),
            news("a", PullPhase::Done, 4),
        ]
        .map(|news| progress.tell(news))
        .into();
        assert_eq!(told, ["a: downloading\n", "", "b: waiting\n", "a: done\n"]);
    }

    #[test]
    fn a_terminal_gets_each_layer_once() {
        let mut progress = Progress { drawn: true, ..Default::default() };
        assert_eq!(progress.tell(news("a", PullPhase::Downloading, 0)).matches('\n').count(), 1);
        let second = progress.tell(news("b", PullPhase::Waiting, 0));
        assert!(second.starts_with("\x1b[1A\r") && second.matches('\n').count() == 2, "{second:?}");
        assert!(progress.tell(news("a", PullPhase::Done, 4)).starts_with("\x1b[2A\r"));
    }
}
