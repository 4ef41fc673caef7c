//! Containers frozen under a name, and others that start from there.

use crate::harness::{Bearer, TOKEN, reason};
use crate::kit::{BUSYBOX, House, ask, docker, image, images, sh};
use casemate::proto::v1;
use casemate::proto::v1::snapshots_client::SnapshotsClient;
use std::path::PathBuf;
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use v1::container_spec::Source;

impl House {
    pub async fn snapshots(&self) -> SnapshotsClient<InterceptedService<Channel, Bearer>> {
        SnapshotsClient::with_interceptor(self.server().channel().await, Bearer(TOKEN))
    }

    pub async fn freeze(&self, container: &str, name: &str) -> Result<v1::Snapshot, Status> {
        self.freeze_as(order(container, name)).await
    }

    pub async fn freeze_as(&self, request: v1::SnapshotContainerRequest) -> Result<v1::Snapshot, Status> {
        Ok(self.containers().await.snapshot_container(request).await?.into_inner().snapshot.unwrap())
    }

    pub async fn snapshot(&self, name: &str) -> Result<v1::Snapshot, Status> {
        let request = v1::GetSnapshotRequest { snapshot_id: name.into() };
        Ok(self.snapshots().await.get_snapshot(request).await?.into_inner().snapshot.unwrap())
    }

    pub async fn forget(&self, name: &str) -> Result<(), Status> {
        let request = v1::DeleteSnapshotRequest { snapshot_id: name.into(), ..Default::default() };
        self.snapshots().await.delete_snapshot(request).await.map(drop)
    }

    /// Files of workspaces that the server keeps.
    pub fn archives(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(self.path().join("data/container-snapshots")).unwrap();
        all.map(|entry| entry.unwrap().path()).collect()
    }
}

pub fn order(container: &str, name: &str) -> v1::SnapshotContainerRequest {
    v1::SnapshotContainerRequest { container_id: container.into(), name: name.into(), ..Default::default() }
}

/// A container from a snapshot that idles.
pub fn from(snapshot: &str) -> v1::ContainerSpec {
    v1::ContainerSpec { source: Some(Source::SnapshotId(snapshot.into())), ..sh("sleep 100000") }
}

pub fn writable(spec: v1::ContainerSpec) -> v1::ContainerSpec {
    let hardening = v1::ContainerHardening { writable_root: true, ..Default::default() };
    v1::ContainerSpec { hardening: Some(hardening), ..spec }
}

/// A server whose containers may write to their root file systems.
pub async fn house() -> House {
    House::with("allow_writable_root = true\nallow_root = true").await
}

#[tokio::test]
async fn files_come_back_and_processes_go_on() {
    if !docker() {
        return;
    }
    let mut house = house().await;
    let spec = writable(sh("i=0; while :; do i=$((i+1)); echo $i > /tmp/beat; sleep 0.05; done"));
    let container = house.spawn(v1::ContainerSpec { user: "0:0".into(), ..spec }).await.unwrap();
    let script = "mkdir -p d/e && echo one > d/e/f && chmod 750 d/e/f && ln -s d/e/f link && printf 'x%.0s' $(seq 5000) > big \
                  && echo root > /etc/mark && rm /bin/true || exit 9";
    assert_eq!(house.run(&container.id, script).await.code(), 0);
    let labels = [("job".to_owned(), "7".to_owned())].into();
    let wanted =
        v1::SnapshotContainerRequest { description: "all of it".into(), labels, ..order(&container.id, "first") };
    let made = house.freeze_as(wanted).await.unwrap();
    assert_eq!((made.kind(), made.state()), (v1::SnapshotKind::Container, v1::SnapshotState::Ready));
    assert_eq!((made.name.as_str(), made.description.as_str(), made.labels.len()), ("first", "all of it", 1));
    assert_eq!(made.source, Some(v1::snapshot::Source::ContainerId(container.id.clone())));
    assert!(made.size_bytes > 5000 && made.total_bytes > made.size_bytes && made.digest.len() == 64, "{made:?}");
    // What ran goes on.
    assert_eq!(house.get(&container.id).await.state(), v1::ContainerState::Running);
    let beats =
        house.run(&container.id, "a=$(cat /tmp/beat); until [ $(cat /tmp/beat) -gt $a ]; do :; done; echo on").await;
    assert_eq!(beats.text(), "on\n");
    // What is done after it is not in it.
    house.run(&container.id, "echo two > d/e/f; echo later > /etc/mark").await;

    house.kill_and_restart().await;
    let found = house.snapshot("first").await.unwrap();
    assert_eq!(found, made);
    let other = house.spawn(writable(from("first"))).await.unwrap();
    assert_eq!(other.spec.unwrap().source, Some(Source::SnapshotId(made.id.clone())));
    let script =
        "cat d/e/f; readlink link; stat -c '%a %u' d/e/f; wc -c < big; cat /etc/mark; ls /bin/true 2>/dev/null; id -u";
    let ran = house.run(&other.id, script).await;
    assert_eq!(ran.text(), "one\nd/e/f\n750 1000\n5000\nroot\n1000\n");
    assert!(house.snapshot(&made.id).await.unwrap().last_used_time.is_some());
    // By its id as well, without a root that can be written, and with the image's own command.
    let spec = v1::ContainerSpec { command: vec!["-c".into(), "cat d/e/f".into()], ..from(&made.id) };
    let spec = v1::ContainerSpec { entrypoint: vec!["/bin/sh".into()], ..spec };
    let third = house.spawn(spec).await.unwrap();
    house.until(&third.main_execution_id, "one").await;
}

#[tokio::test]
async fn a_container_that_was_frozen_stays_frozen() {
    if !docker() {
        return;
    }
    let house = house().await;
    let container = house.idle().await;
    let mut containers = house.containers().await;
    let pause = v1::PauseContainerRequest { container_id: container.id.clone(), ..Default::default() };
    containers.pause_container(pause).await.unwrap();
    let refused = house.freeze(&container.id, "cold").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "CONTAINER_NOT_READY"));
    assert!(refused.message().contains("exclude_workspace"), "{refused}");
    let bare = v1::SnapshotContainerRequest { exclude_workspace: true, ..order(&container.id, "cold") };
    let made = house.freeze_as(bare.clone()).await.unwrap();
    assert_eq!(house.get(&container.id).await.state(), v1::ContainerState::Paused);
    assert_eq!(ask(&["inspect", "-f", "{{.State.Paused}}", &container.backend_id]).trim(), "true");
    assert!(house.archives().is_empty());
    let resume = v1::ResumeContainerRequest { container_id: container.id.clone(), ..Default::default() };
    containers.resume_container(resume).await.unwrap();
    // Without freezing, and without the workspace.
    house.run(&container.id, "echo left > out").await;
    let running = v1::SnapshotContainerRequest { keep_running: true, name: "warm".into(), ..bare };
    house.freeze_as(running).await.unwrap();
    let other = house.spawn(from("warm")).await.unwrap();
    assert_eq!(house.run(&other.id, "ls -A").await.text(), "");
    assert_eq!(made.size_bytes, house.snapshot("warm").await.unwrap().size_bytes);
}

#[tokio::test]
async fn names_are_given_once_and_retries_make_nothing_twice() {
    if !docker() {
        return;
    }
    let mut house = house().await;
    let container = house.idle().await;
    let request_id = uuid::Uuid::now_v7().to_string();
    let wanted = v1::SnapshotContainerRequest { request_id: request_id.clone(), ..order(&container.id, "once") };
    let made = house.freeze_as(wanted.clone()).await.unwrap();
    assert_eq!(house.freeze_as(wanted.clone()).await.unwrap().id, made.id);
    house.kill_and_restart().await;
    assert_eq!(house.freeze_as(wanted.clone()).await.unwrap().id, made.id);
    let other = v1::SnapshotContainerRequest { name: "twice".into(), ..wanted };
    for (refused, code, why) in [
        (house.freeze_as(other).await, Code::AlreadyExists, "REQUEST_ID_REUSED"),
        (house.freeze(&container.id, "once").await, Code::AlreadyExists, "SNAPSHOT_EXISTS"),
        (house.freeze(&container.id, "Once").await, Code::InvalidArgument, "INVALID_ARGUMENT"),
        (house.freeze("nobody", "none").await, Code::NotFound, "CONTAINER_NOT_FOUND"),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, why), "{refused}");
    }
    // Only what was made is there.
    assert_eq!((house.archives().len(), images(house.path()).len()), (1, 1));
    house.kill(&container.id).await;
    let over = house.freeze(&container.id, "late").await.unwrap_err();
    assert_eq!((over.code(), reason(&over).as_str()), (Code::FailedPrecondition, "CONTAINER_NOT_READY"));
    let unknown = house.spawn(from("late")).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "SNAPSHOT_NOT_FOUND"));
}

#[tokio::test]
async fn a_snapshot_outlives_its_container_and_its_image() {
    if !docker() {
        return;
    }
    let house = house().await;
    let name = format!("casemate-test/gone-{}:1", uuid::Uuid::now_v7());
    let id = ask(&["create", BUSYBOX]);
    ask(&[
        "commit",
        "--change",
        "ENV WHO=image",
        "--change",
        "CMD [\"sh\", \"-c\", \"echo $WHO; sleep 100000\"]",
        id.trim(),
        &name,
    ]);
    ask(&["rm", id.trim()]);
    let spec = v1::ContainerSpec { environment: [("SECRET".into(), "s3".into())].into(), ..image(&name, &[]) };
    let container = house.spawn_until(spec, "image\n").await;
    house.run(&container.id, "echo kept > file").await;
    house.freeze(&container.id, "alone").await.unwrap();
    house.kill(&container.id).await;
    ask(&["rmi", &name]);
    // The image's own command and variables, and not the container's.
    let spec = v1::ContainerSpec { command: Vec::new(), ..from("alone") };
    let other = house.spawn_until(spec, "image\n").await;
    assert_eq!(house.run(&other.id, "cat file; echo ${SECRET-none}").await.text(), "kept\nnone\n");
    assert_ne!(other.image_id, container.image_id);
    let config = ask(&["inspect", "-f", "{{json .Config}}", &images(house.path())[0]]);
    assert!(!config.contains("s3") && !config.contains(".casemate"), "{config}");
}

#[tokio::test]
async fn what_is_needed_stays_and_what_is_deleted_is_gone() {
    if !docker() {
        return;
    }
    let house = house().await;
    let container = house.idle().await;
    house.run(&container.id, "echo kept > file").await;
    let made = house.freeze(&container.id, "base").await.unwrap();
    let child = house.spawn(from("base")).await.unwrap();
    let refused = house.forget("base").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SNAPSHOT_UNUSABLE"));
    assert!(refused.message().contains(&child.id), "{refused}");
    // A snapshot of what came from it stands on it, and stays when it goes.
    house.run(&child.id, "echo more > second").await;
    house.freeze(&child.id, "upon").await.unwrap();
    house.kill(&child.id).await;

    let mut pools = v1::pools_client::PoolsClient::with_interceptor(house.server().channel().await, Bearer(TOKEN));
    let spec = v1::ContainerSpec { source: Some(Source::SnapshotId("base".into())), ..sh("sleep 100000") };
    let pool = v1::Pool { name: "warm".into(), container: Some(spec), target_size: 1, ..Default::default() };
    let request = v1::CreatePoolRequest { pool: Some(pool), ..Default::default() };
    let pool = pools.create_pool(request).await.unwrap().into_inner().pool.unwrap();
    assert_eq!(pool.container.unwrap().source, Some(Source::SnapshotId("base".into())));
    let lease = v1::LeaseContainerRequest { pool: "warm".into(), ..Default::default() };
    let lent = pools.lease_container(lease).await.unwrap().into_inner().lease.unwrap().container.unwrap();
    assert_eq!(house.run(&lent.id, "cat file").await.text(), "kept\n");
    assert_eq!(house.forget(&made.id).await.unwrap_err().code(), Code::FailedPrecondition);
    let gone = v1::DeletePoolRequest { name: "warm".into(), force: true, ..Default::default() };
    pools.delete_pool(gone).await.unwrap();

    let request_id = uuid::Uuid::now_v7().to_string();
    let request = v1::DeleteSnapshotRequest { snapshot_id: "base".into(), request_id };
    let mut snapshots = house.snapshots().await;
    snapshots.delete_snapshot(request.clone()).await.unwrap();
    snapshots.delete_snapshot(request).await.unwrap();
    assert_eq!(house.snapshot("base").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(house.archives().len(), 1);
    let last = house.spawn(from("upon")).await.unwrap();
    assert_eq!(house.run(&last.id, "cat file second").await.text(), "kept\nmore\n");
    // The name is free.
    house.freeze(&last.id, "base").await.unwrap();
    house.kill(&last.id).await;
    for name in ["base", "upon"] {
        house.forget(name).await.unwrap();
    }
    assert_eq!((images(house.path()), house.archives()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn listings_and_what_the_operator_allows() {
    if !docker() {
        return;
    }
    let keys = "[containers.templates.kept]\nsnapshot = \"b-gold\"\ncommand = [\"sleep\", \"100000\"]";
    let mut house = House::with(keys).await;
    let (one, two) = (house.idle().await, house.idle().await);
    house.run(&one.id, "echo gold > file").await;
    let mut ids = Vec::new();
    for (container, name) in [(&two, "c-other"), (&one, "a-first"), (&one, "b-gold")] {
        let labels = [("of".to_owned(), container.id.clone())].into();
        ids.push(
            house.freeze_as(v1::SnapshotContainerRequest { labels, ..order(&container.id, name) }).await.unwrap().id,
        );
    }
    let mut snapshots = house.snapshots().await;
    let mut list = async |filter: v1::SnapshotFilter| {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListSnapshotsRequest { page_size: 1, page_token, filter: Some(filter.clone()) };
            let page = snapshots.list_snapshots(request).await.unwrap().into_inner();
            assert!(page.snapshots.len() <= 1);
            let own = page.snapshots.into_iter().filter(|one| one.kind() == v1::SnapshotKind::Container);
            names.extend(own.map(|one| one.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    };
    let container = v1::SnapshotKind::Container.into();
    for (filter, expected) in [
        (v1::SnapshotFilter::default(), &["a-first", "b-gold", "c-other"][..]),
        (v1::SnapshotFilter { kinds: vec![container], ..Default::default() }, &["a-first", "b-gold", "c-other"]),
        (v1::SnapshotFilter { kinds: vec![v1::SnapshotKind::Interpreter.into()], ..Default::default() }, &[]),
        (v1::SnapshotFilter { container_id: one.id.clone(), ..Default::default() }, &["a-first", "b-gold"]),
        (v1::SnapshotFilter { labels: [("of".into(), two.id.clone())].into(), ..Default::default() }, &["c-other"]),
        (v1::SnapshotFilter { name_prefix: "b".into(), ..Default::default() }, &["b-gold"]),
        (v1::SnapshotFilter { tool: "python".into(), ..Default::default() }, &[]),
    ] {
        assert_eq!(list(filter.clone()).await, expected, "{filter:?}");
    }
    let listed = async |wanted: Option<bool>| {
        let filter = Some(v1::ImageFilter { snapshots: wanted, ..Default::default() });
        let request = v1::ListImagesRequest { page_size: 1000, filter, ..Default::default() };
        let images = house.containers().await.list_images(request).await.unwrap().into_inner().images;
        let (own, others): (Vec<_>, Vec<_>) = images.into_iter().partition(|image| !image.snapshot_id.is_empty());
        let mut own: Vec<String> = own.into_iter().map(|image| image.snapshot_id).collect();
        own.sort();
        (own, others.len())
    };
    assert_eq!(listed(Some(true)).await, (ids.clone(), 0));
    let (own, others) = listed(Some(false)).await;
    assert!(own.is_empty() && others > 0);
    assert_eq!(listed(None).await.0, ids);

    let templated = v1::ContainerSpec { template: "kept".into(), ..Default::default() };
    let kept = house.spawn(templated).await.unwrap();
    assert_eq!(house.run(&kept.id, "cat file").await.text(), "gold\n");
    // Its image is no image that can be asked for past the snapshot.
    let past = house.spawn(image(&format!("casemate.invalid/snapshot:{}", ids[0]), &["true"])).await.unwrap_err();
    assert_eq!(reason(&past), "POLICY_DENIED");
    // What it was made from is not allowed any more, and so is it not.
    let folder = house.server.take().unwrap().kill();
    std::fs::write(folder.path().join("casemate.toml"), "[containers]\nimages = [\"docker.io/library/*\"]").unwrap();
    house.server = Some(crate::harness::Server::start(folder).await);
    house.ready().await;
    let refused = house.spawn(from("a-first")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "POLICY_DENIED"));
    assert!(refused.message().contains("spec.snapshot_id"), "{refused}");
}
