//! Images, and pulls as far as they go without a registry.

use crate::kit::{on_docker, reference};
use casemate::container::backend::{Backend, BackendError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

#[test]
fn images_are_found_by_whole_and_by_short_references() {
    on_docker(|corner| async move {
        let image = corner.docker.image(&reference("docker.io/casemate-test/busybox:1")).await.unwrap().unwrap();
        assert!(image.id.starts_with("sha256:"), "{image:?}");
        assert!(image.tags.contains(&"docker.io/casemate-test/busybox:1".to_owned()), "{image:?}");
        assert_eq!(image.command, ["/bin/sh"]);
        assert_eq!(image.working_directory, "/workspace");
        assert_eq!(image.environment, ["PATH=/bin:/usr/bin"]);
        assert!(image.platform.starts_with("linux/"), "{image:?}");
        assert!(image.size_bytes > 100_000 && image.created.is_some(), "{image:?}");
        assert_eq!(corner.docker.image(&reference("casemate-test/busybox:1")).await.unwrap(), Some(image.clone()));
        assert_eq!(corner.docker.image(&reference("casemate-test/busybox:nonesuch")).await.unwrap(), None);
        let digest = format!("casemate-test/busybox@sha256:{}", "0".repeat(64));
        assert_eq!(corner.docker.image(&reference(&digest)).await.unwrap(), None);
        let all = corner.docker.images().await.unwrap();
        assert!(all.contains(&image), "{all:?}");
    });
}

#[test]
fn a_registry_that_is_not_reached_is_named() {
    on_docker(|corner| async move {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let registry = format!("127.0.0.1:{port}");
        let (progress, unread) = mpsc::channel(1);
        drop(unread);
        let image = reference(&format!("{registry}/x:1"));
        let error = corner.docker.pull(&image, "", progress).await.unwrap_err();
        assert!(matches!(&error, BackendError::Unavailable(problem) if problem.contains(&registry)), "{error:?}");
    });
}

#[test]
fn a_registry_that_does_not_have_the_image_says_so() {
    on_docker(|corner| async move {
        if !corner.docker.facts().await.unwrap().shares_files {
            eprintln!("SKIPPED: the daemon does not see the loopback of this machine");
            return;
        }
        // A registry that has nothing.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = listener.local_addr().unwrap().to_string();
        let missing = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        let router = axum::Router::new()
            .route("/v2/", axum::routing::get(|| async { "{}" }))
            .fallback(move || async move { (axum::http::StatusCode::NOT_FOUND, missing) });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let (progress, mut news) = mpsc::channel(16);
        let began = Instant::now();
        let error = corner.docker.pull(&reference(&format!("{registry}/x:1")), "", progress).await.unwrap_err();
        assert!(matches!(error, BackendError::NotFound(_)), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(news.recv().await.is_some());
        serving.abort();
    });
}
