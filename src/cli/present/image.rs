//! Images, and how far pulls of them are.

use super::{Fields, short_size, short_time, time, word};
use crate::cli::output;
use crate::proto::v1::{Image, PullPhase, PullProgress};
use serde_json::Value;

/// An image as JSON.
pub fn json(image: &Image) -> Value {
    Fields::default()
        .set("id", image.id.as_str())
        .set("references", image.references.clone())
        .set("digests", image.digests.clone())
        .set("sizeBytes", image.size_bytes)
        .set("createTime", time(&image.create_time))
        .set("platform", image.platform.as_str())
        .set("snapshotId", image.snapshot_id.as_str())
        .set("containers", image.containers)
        .into_value()
}

/// What an image is called, or its id where it has no name.
fn name(image: &Image) -> String {
    image.references.first().or(image.digests.first()).unwrap_or(&image.id).clone()
}

/// The beginning of an id, as people tell images apart.
fn short_id(image: &Image) -> String {
    let digest = image.id.split_once(':').map_or(image.id.as_str(), |(_, digest)| digest);
    digest.chars().take(12).collect()
}

/// A table of images.
pub fn table(images: &[Image]) -> String {
    let row = |image: &Image| {
        vec![
            name(image),
            short_id(image),
            image.platform.clone(),
            short_size(image.size_bytes),
            short_time(&image.create_time),
            image.containers.to_string(),
        ]
    };
    let head = ["REFERENCE", "ID", "PLATFORM", "SIZE", "BUILT", "CONTAINERS"];
    output::table(&head, &images.iter().map(row).collect::<Vec<_>>())
}

/// One image in full.
pub fn detail(image: &Image) -> String {
    output::facts(&[
        ("references", image.references.join(" ")),
        ("id", image.id.clone()),
        ("digests", image.digests.join(" ")),
        ("platform", image.platform.clone()),
        ("size", short_size(image.size_bytes)),
        ("built", time(&image.create_time).unwrap_or_default()),
        ("snapshot", image.snapshot_id.clone()),
    ])
}

/// `downloading`, `done`, ...
pub fn phase(phase: PullPhase) -> String {
    word(phase.as_str_name(), "PULL_PHASE_")
}

/// How far a layer is, with a bar where that is known: `abc  downloading [####    ] 2 MiB of 4 MiB`.
pub fn bar(progress: &PullProgress) -> String {
    const WIDTH: u64 = 24;
    let head = format!("{:12}  {:11}", subject(progress), phase(progress.phase()));
    if progress.total_bytes == 0 || progress.phase() == PullPhase::Done {
        return head.trim_end().to_owned();
    }
    let done = progress.current_bytes.min(progress.total_bytes);
    let filled = usize::try_from(u128::from(done) * u128::from(WIDTH) / u128::from(progress.total_bytes));
    let bar = "#".repeat(filled.unwrap_or_default());
    let (current, total) = (short_size(progress.current_bytes), short_size(progress.total_bytes));
    format!("{head} [{bar:24}] {current} of {total}")
}

/// What a piece of news is about: a layer, or the image.
pub fn subject(progress: &PullProgress) -> String {
    if progress.layer.is_empty() { "image".to_owned() } else { output::plain(&progress.layer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_is_done() {
        let mut progress =
            PullProgress { layer: "abc".into(), current_bytes: 512, total_bytes: 1024, ..Default::default() };
        progress.set_phase(PullPhase::Downloading);
        assert_eq!(bar(&progress), format!("abc           downloading [{:24}] 512 B of 1.0 KiB", "#".repeat(12)));
        // A registry's word for the total may be wrong.
        progress.current_bytes = 4096;
        assert!(bar(&progress).contains(&"#".repeat(24)));
        progress.set_phase(PullPhase::Done);
        assert_eq!(bar(&progress), "abc           done");
    }
}
