//! Pulls from a registry of the test's own, on the loopback interface.

use crate::harness::reason;
use crate::kit::{BUSYBOX, House, ask, docker, image};
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use casemate::proto::v1;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::process::Command;
use std::sync::Arc;
use tonic::{Code, Status};
use v1::pull_image_response::Event;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a registry has: by digest, and by tag.
struct Shelf {
    blobs: HashMap<String, Vec<u8>>,
    manifest: Vec<u8>,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An image that nobody has: busybox, and a file of its own.
fn shelf() -> Shelf {
    let folder = tempfile::tempdir().unwrap();
    let marker = uuid::Uuid::now_v7().to_string();
    std::fs::write(folder.path().join("marker"), &marker).unwrap();
    let id = ask(&["create", BUSYBOX]);
    let script = format!(
        "docker export {} >layer.tar && tar -rf layer.tar marker && gzip -1 -k layer.tar && docker rm {}",
        id.trim(),
        id.trim()
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let (layer, packed) = (digest(&read("layer.tar")), read("layer.tar.gz"));
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/bin/cat", "/marker"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    });
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": config.len(), "digest": digest(&config) },
        "layers": [{ "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                     "size": packed.len(), "digest": digest(&packed) }],
    });
    let blobs = HashMap::from([(digest(&config), config), (digest(&packed), packed)]);
    Shelf { blobs, manifest: serde_json::to_vec(&manifest).unwrap() }
}

/// Serves a shelf; answers where.
async fn serve(shelf: Shelf) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = listener.local_addr().unwrap().to_string();
    let shelf = Arc::new(shelf);
    let manifests = shelf.clone();
    let manifest = move |Path(reference): Path<String>| async move {
        let bytes = manifests.manifest.clone();
        if reference != "1" && reference != digest(&bytes) {
            return (StatusCode::NOT_FOUND, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#).into_response();
        }
        let headers: HeaderMap =
            [(header::CONTENT_TYPE, MANIFEST.to_owned()), ("docker-content-digest".parse().unwrap(), digest(&bytes))]
                .into_iter()
                .map(|(name, value)| (name, value.parse().unwrap()))
                .collect();
        (headers, bytes).into_response()
    };
    let blob = move |Path(name): Path<String>| async move {
        match shelf.blobs.get(&name) {
            Some(bytes) => Body::from(bytes.clone()).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    };
    let router = axum::Router::new()
        .route("/v2/", axum::routing::get(|| async { "{}" }))
        .route("/v2/test/image/manifests/{reference}", axum::routing::get(manifest))
        .route("/v2/test/image/blobs/{digest}", axum::routing::get(blob));
    tokio::spawn(async move { axum::serve(listener, router).await });
    registry
}

/// Pulls: the image, and the phases that were told of its layers.
async fn pull(house: &House, reference: &str) -> Result<(v1::Image, BTreeSet<i32>), Status> {
    let request = v1::PullImageRequest { reference: reference.into(), ..Default::default() };
    let mut stream = house.containers().await.pull_image(request).await?.into_inner();
    let (mut image, mut phases) = (None, BTreeSet::new());
    while let Some(message) = stream.message().await? {
        match message.event {
            Some(Event::Progress(progress)) => {
                phases.insert(progress.phase);
            }
            Some(Event::Image(found)) => image = Some(found),
            _ => {}
        }
    }
    Ok((image.expect("the image comes last"), phases))
}

#[tokio::test]
async fn an_image_is_pulled_listed_and_run() {
    if !docker() {
        return;
    }
    let registry = serve(shelf()).await;
    let house = House::admitting(&[&format!("{registry}/test/*")]).await;
    let reference = format!("{registry}/test/image:1");
    let (found, phases) = pull(&house, &reference).await.unwrap();
    assert!(found.references.contains(&reference), "{found:?}");
    assert!(found.digests.iter().any(|digest| digest.starts_with(&format!("{registry}/test/image@sha256:"))));
    for phase in [v1::PullPhase::Resolving, v1::PullPhase::Done] {
        assert!(phases.contains(&phase.into()), "{phases:?}");
    }
    let filter = Some(v1::ImageFilter { repository: format!("{registry}/test/image"), ..Default::default() });
    let request = v1::ListImagesRequest { filter, ..Default::default() };
    let listed = house.containers().await.list_images(request).await.unwrap().into_inner().images;
    assert_eq!(listed.iter().map(|image| &image.id).collect::<Vec<_>>(), [&found.id]);
    // It runs what it says, by its id.
    let container = house.spawn(image(&reference, &[])).await.unwrap();
    assert_eq!(container.image_id, found.id);
    house.ended(&container.id).await;
    let ran = house.follow(&house.get(&container.id).await.main_execution_id, 0).await;
    assert_eq!((ran.text().len(), ran.code()), (36, 0), "{}", ran.text());
    ask(&["rmi", &reference]);
    // Spawning pulls what is not there.
    let container = house.spawn(image(&reference, &[])).await.unwrap();
    assert_eq!(container.image_id, found.id);
    house.ended(&container.id).await;
    ask(&["rmi", &reference]);
}

#[tokio::test]
async fn what_cannot_be_pulled_says_why() {
    if !docker() {
        return;
    }
    let good = shelf();
    let mut bad = shelf();
    // A layer that is not what its digest says.
    let largest = bad.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0.clone();
    bad.blobs.get_mut(&largest).unwrap()[100_000] ^= 1;
    let (good, bad) = (serve(good).await, serve(bad).await);
    let house = House::admitting(&[&format!("{good}/test/*"), &format!("{bad}/test/*")]).await;
    let error = pull(&house, &format!("{good}/test/image:2")).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::NotFound, "IMAGE_NOT_FOUND"), "{error:?}");
    let error = pull(&house, &format!("{good}/other/image:1")).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::PermissionDenied, "POLICY_DENIED"), "{error:?}");
    let error = pull(&house, &format!("{bad}/test/image:1")).await.unwrap_err();
    assert!(error.message().contains("verif") || error.message().contains("checksum"), "{error:?}");
    let error = pull(&house, "Not A Reference").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}
