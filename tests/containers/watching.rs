//! Watches of paths in containers.

use crate::kit::{House, docker};
use casemate::proto::v1;
use tonic::{Code, Streaming};
use v1::FileChangeKind as Kind;
use v1::watch_path_response::Event;

async fn watch(house: &House, id: &str, path: &str) -> Streaming<v1::WatchPathResponse> {
    let request =
        v1::WatchPathRequest { container_id: id.into(), path: path.into(), recursive: true, ..Default::default() };
    let mut stream = house.containers().await.watch_path(request).await.unwrap().into_inner();
    let Some(Event::Started(started)) = stream.message().await.unwrap().unwrap().event else {
        panic!("the beginning comes first")
    };
    assert_eq!(started.info.unwrap().kind(), v1::FileKind::Directory);
    stream
}

/// Changes up to the one that ends it.
async fn until(stream: &mut Streaming<v1::WatchPathResponse>, path: &str) -> Vec<(Kind, String, String)> {
    let mut all = Vec::new();
    loop {
        if let Some(Event::Change(change)) = stream.message().await.unwrap().unwrap().event {
            if change.path == path {
                return all;
            }
            all.push((change.kind(), change.path, change.moved_from_path));
        }
    }
}

#[tokio::test]
async fn changes_are_told_as_they_happen() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    house.run(&id, "cd /workspace; mkdir -p a/b; echo x >a/old; mkdir /tmp/out").await;
    let mut stream = watch(&house, &id, "a").await;
    let script = "cd /workspace/a; echo x >f; mv f g; mkdir d; echo y >d/deep; mv g /tmp/out/g; rm old; echo end >end";
    house.run(&id, script).await;
    let all = until(&mut stream, "/workspace/a/end").await;
    let has = |kind, path: &str, from: &str| {
        all.iter().any(|(of, at, old)| (*of, at.as_str(), old.as_str()) == (kind, path, from))
    };
    assert!(has(Kind::Created, "/workspace/a/f", ""), "{all:?}");
    assert!(has(Kind::Written, "/workspace/a/f", ""), "{all:?}");
    assert!(has(Kind::Moved, "/workspace/a/g", "/workspace/a/f"), "{all:?}");
    assert!(has(Kind::Created, "/workspace/a/d", ""), "{all:?}");
    assert!(has(Kind::Created, "/workspace/a/d/deep", "") || has(Kind::Written, "/workspace/a/d/deep", ""), "{all:?}");
    // Out of what is watched is gone.
    assert!(has(Kind::Removed, "/workspace/a/g", ""), "{all:?}");
    assert!(has(Kind::Removed, "/workspace/a/old", ""), "{all:?}");
}

#[tokio::test]
async fn only_what_is_asked_for_is_told_and_what_is_not_there_is_refused() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let request = v1::WatchPathRequest { container_id: id.clone(), path: "none".into(), ..Default::default() };
    assert_eq!(house.containers().await.watch_path(request).await.unwrap_err().code(), Code::NotFound);
    let request = v1::WatchPathRequest {
        container_id: id.clone(),
        kinds: vec![Kind::Removed.into()],
        keepalive_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let mut stream = house.containers().await.watch_path(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    house.run(&id, "cd /workspace; echo x >f; rm f").await;
    let Some(Event::Change(change)) = stream.message().await.unwrap().unwrap().event else { panic!("a change") };
    assert_eq!((change.kind(), &*change.path), (Kind::Removed, "/workspace/f"));
    assert!(matches!(stream.message().await.unwrap().unwrap().event, Some(Event::Keepalive(_))));
    // It ends with the container, and says so.
    house.kill(&id).await;
    loop {
        match stream.message().await {
            Ok(Some(message)) => assert!(matches!(message.event, Some(Event::Keepalive(_))), "{message:?}"),
            Ok(None) => panic!("an end without a word"),
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_flood_is_told_as_one() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let mut stream = watch(&house, &id, "").await;
    // Nobody reads meanwhile.
    let flood = "cd /workspace; i=0; while [ $i -lt 60000 ]; do : >f$((i % 100)); i=$((i + 1)); done; echo x >last";
    assert_eq!(house.run(&id, flood).await.code(), 0);
    let (mut overflow, mut changes) = (false, 0);
    loop {
        match stream.message().await.unwrap().unwrap().event {
            Some(Event::Overflow(_)) => overflow = true,
            Some(Event::Change(change)) if change.path == "/workspace/last" => break,
            Some(Event::Change(_)) => changes += 1,
            _ => {}
        }
        // What is lost last may be the last file itself: then the overflow is told.
        if overflow && changes > 0 {
            break;
        }
    }
    assert!(overflow || changes >= 60_000, "{changes}");
    // It goes on.
    house.run(&id, "echo x >/workspace/after").await;
    until(&mut stream, "/workspace/after").await;
}
