//! Snapshots of containers, and what can go wrong with them.

use crate::harness::{PATIENCE, Server, reason};
use crate::kit::{House, ask, docker, images, sh};
use crate::snapshots::{from, house, order, writable};
use casemate::domain::id::SnapshotId;
use casemate::domain::snapshot::ContainerSnapshot;
use casemate::domain::time::Timestamp;
use casemate::proto::v1;
use casemate::store::container_snapshots::{self, ContainerSnapshotRecord, Making};
use std::time::{Duration, Instant};
use tonic::Code;
use v1::container_spec::Source;

#[tokio::test]
async fn what_is_damaged_or_gone_is_told_and_refused() {
    if !docker() {
        return;
    }
    let mut house = house().await;
    let container = house.idle().await;
    house.run(&container.id, "echo kept > file").await;
    for name in ["flipped", "cut", "lost"] {
        house.freeze(&container.id, name).await.unwrap();
    }
    let archive = |house: &House, id: &str| house.path().join(format!("data/container-snapshots/{id}.tar"));
    let flipped = house.snapshot("flipped").await.unwrap();
    let folder = house.server.take().unwrap().kill();
    let path = folder.path().join(format!("data/container-snapshots/{}.tar", flipped.id));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|four| four == b"kept").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    house.server = Some(Server::start(folder).await);
    house.ready().await;
    let cut = archive(&house, &house.snapshot("cut").await.unwrap().id);
    std::fs::File::options().write(true).open(&cut).unwrap().set_len(100).unwrap();
    let lost = house.snapshot("lost").await.unwrap();
    ask(&["rmi", &format!("casemate.invalid/snapshot:{}", lost.id)]);
    for (name, state) in [
        ("flipped", v1::SnapshotState::Damaged),
        ("cut", v1::SnapshotState::Damaged),
        ("lost", v1::SnapshotState::Foreign),
    ] {
        let refused = house.spawn(from(name)).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "SNAPSHOT_UNUSABLE"),
            "{name}"
        );
        let found = house.snapshot(name).await.unwrap();
        assert_eq!((found.state(), found.problem.is_empty()), (state, false), "{name}");
        let filter = v1::SnapshotFilter { states: vec![v1::SnapshotState::Ready.into()], ..Default::default() };
        let request = v1::ListSnapshotsRequest { filter: Some(filter), ..Default::default() };
        let ready = house.snapshots().await.list_snapshots(request).await.unwrap().into_inner().snapshots;
        assert!(ready.iter().all(|ready| ready.name != name), "{name}");
        house.forget(name).await.unwrap();
    }
    assert_eq!((images(house.path()), house.archives()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_kill_in_the_middle_leaves_nothing_behind_and_nothing_frozen() {
    if !docker() {
        return;
    }
    let mut house = house().await;
    let spec = writable(v1::ContainerSpec { user: "0:0".into(), ..sh("sleep 100000") });
    let container = house.spawn(spec).await.unwrap();
    // Enough for either part to take a while.
    let script = "dd if=/dev/zero of=/big bs=1M count=150 && dd if=/dev/zero of=file bs=1M count=40";
    assert_eq!(house.run(&container.id, script).await.code(), 0);
    let frozen = || ask(&["inspect", "-f", "{{.State.Paused}}", &container.backend_id]).trim() == "true";
    let packing = |house: &House| house.archives().iter().any(|path| path.extension().is_some_and(|end| end == "part"));
    for name in ["packing", "frozen"] {
        let reached = |house: &House| if name == "packing" { packing(house) } else { frozen() };
        let request_id = uuid::Uuid::now_v7().to_string();
        let wanted = v1::SnapshotContainerRequest { request_id, ..order(&container.id, name) };
        let (mut containers, first) = (house.containers().await, wanted.clone());
        let first = tokio::spawn(async move { containers.snapshot_container(first).await });
        let deadline = Instant::now() + PATIENCE;
        while !reached(&house) {
            assert!(Instant::now() < deadline && !first.is_finished(), "{name} was never seen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        house.kill_and_restart().await;
        assert!(first.await.unwrap().is_err());
        assert_eq!(house.run(&container.id, "echo on").await.text(), "on\n", "{name}");
        assert_eq!(house.get(&container.id).await.state(), v1::ContainerState::Running, "{name}");
        // What the daemon makes for the dead server is found when it is done.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !images(house.path()).is_empty() || !house.archives().is_empty() {
            assert!(Instant::now() < deadline, "{name}: {:?} {:?}", images(house.path()), house.archives());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(house.snapshot(name).await.unwrap_err().code(), Code::NotFound);
        // A retry makes it.
        let made = house.freeze_as(wanted.clone()).await.unwrap();
        assert_eq!(house.freeze_as(wanted).await.unwrap(), made);
        house.forget(name).await.unwrap();
    }
}

#[tokio::test]
async fn room_is_bounded_and_memory_is_not_needed() {
    if !docker() {
        return;
    }
    let house =
        House::with("allow_writable_root = true\nallow_root = true\n[sessions]\nmax_snapshots = \"400MiB\"").await;
    let workspace = Some(v1::Workspace { size_bytes: 320 << 20, ..Default::default() });
    let spec = writable(v1::ContainerSpec { workspace, user: "0:0".into(), ..sh("sleep 100000") });
    let container = house.spawn(spec.clone()).await.unwrap();
    assert_eq!(house.run(&container.id, "dd if=/dev/zero of=file bs=1M count=250").await.code(), 0);
    let before = house.memory().1;
    let began = Instant::now();
    let made = house.freeze(&container.id, "large").await.unwrap();
    let froze = began.elapsed();
    assert!(made.size_bytes > 250 << 20);
    // Files that do not fit are told of before there is a container.
    let workspace = Some(v1::Workspace { size_bytes: 200 << 20, ..Default::default() });
    let small = house.spawn(v1::ContainerSpec { workspace, ..from("large") }).await.unwrap_err();
    assert_eq!(small.code(), Code::InvalidArgument);
    assert!(small.message().contains("spec.workspace.size_bytes"), "{small}");
    let began = Instant::now();
    let spec = v1::ContainerSpec { source: Some(Source::SnapshotId("large".into())), ..spec };
    let other = house.spawn(spec).await.unwrap();
    eprintln!("250 MiB of workspace: frozen in {froze:?}, started from in {:?}", began.elapsed());
    assert_eq!(house.run(&other.id, "wc -c < file").await.text(), format!("{}\n", 250 << 20));
    let grown = house.memory().1 - before;
    eprintln!("the server's memory grew by {grown} KiB");
    assert!(grown < 48 << 10, "{grown} KiB");
    // A second one does not fit, whichever part of it is the large one, and leaves nothing.
    let workspace = house.freeze(&container.id, "second").await.unwrap_err();
    house.run(&other.id, "rm file; dd if=/dev/zero of=/file bs=1M count=200").await;
    let root = house.freeze(&other.id, "second").await.unwrap_err();
    for refused in [workspace, root] {
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::ResourceExhausted, "QUOTA_REACHED"),
            "{refused}"
        );
    }
    assert_eq!((images(house.path()).len(), house.archives().len()), (1, 1));
    // What is deleted makes room.
    house.kill(&other.id).await;
    house.forget("large").await.unwrap();
    house.freeze(&container.id, "second").await.unwrap();
}

#[tokio::test]
async fn without_a_supervisor_there_is_no_workspace() {
    if !docker() {
        return;
    }
    let house = House::with("control = \"exec\"\nallow_writable_root = true\nallow_root = true").await;
    let environment = [("SECRET".to_owned(), "s3cret".to_owned())].into();
    let spec =
        writable(v1::ContainerSpec { environment, user: "0:0".into(), ..sh("echo kept > /etc/mark; sleep 100000") });
    let container = house.spawn(spec).await.unwrap();
    let refused = house.freeze(&container.id, "bare").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "UNSUPERVISED"));
    house.run(&container.id, "until [ -s /etc/mark ]; do :; done").await;
    let bare = v1::SnapshotContainerRequest { exclude_workspace: true, ..order(&container.id, "bare") };
    house.freeze_as(bare).await.unwrap();
    let config = ask(&["inspect", "-f", "{{json .Config}}", &images(house.path())[0]]);
    assert!(!config.contains("s3cret"), "{config}");
    let other = house.spawn(from("bare")).await.unwrap();
    assert_eq!(house.run(&other.id, "cat /etc/mark").await.text(), "kept\n");
}

#[tokio::test]
async fn what_was_frozen_for_a_snapshot_goes_on_with_the_next_server() {
    if !docker() {
        return;
    }
    let mut house = house().await;
    let (frozen, paused) = (house.idle().await, house.idle().await);
    let pause = v1::PauseContainerRequest { container_id: paused.id.clone(), ..Default::default() };
    house.containers().await.pause_container(pause).await.unwrap();
    // As if Docker had died with the server in the middle, and left what it had frozen.
    let folder = house.server.take().unwrap().kill();
    ask(&["pause", &frozen.backend_id]);
    let snapshot = ContainerSnapshot {
        id: SnapshotId::new(),
        name: "half".into(),
        description: String::new(),
        labels: Default::default(),
        principal: "operator".into(),
        request_id: None,
        container: frozen.id.parse().unwrap(),
        image: String::new(),
        image_id: String::new(),
        image_bytes: 0,
        total_bytes: 0,
        workspace: None,
        created: Timestamp::now(),
        last_used: None,
    };
    {
        let store = rusqlite::Connection::open(folder.path().join("data/casemate.db")).unwrap();
        let record = ContainerSnapshotRecord { snapshot, making: Some(Making { froze: true }) };
        container_snapshots::put(&store, &record).unwrap();
    }
    house.server = Some(Server::start(folder).await);
    house.ready().await;
    assert_eq!(house.run(&frozen.id, "echo on").await.text(), "on\n");
    // What somebody froze stays so.
    let deadline = Instant::now() + PATIENCE;
    while house.get(&paused.id).await.state() != v1::ContainerState::Paused {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(ask(&["inspect", "-f", "{{.State.Paused}}", &paused.backend_id]).trim(), "true");
    // The name is free, and the record goes.
    house.freeze(&frozen.id, "half").await.unwrap();
    loop {
        let store = rusqlite::Connection::open(house.path().join("data/casemate.db")).unwrap();
        if container_snapshots::all(&store).unwrap().len() == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "what was half made is still recorded");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
