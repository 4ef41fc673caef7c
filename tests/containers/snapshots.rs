//! Containers frozen under a name, and others that start from there.

use crate::harness::{Bearer, PATIENCE, TOKEN, reason};
use crate::kit::{BUSYBOX, House, ask, docker, image, images, sh};
use casemate::proto::v1;
use casemate::proto::v1::snapshots_client::SnapshotsClient;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use v1::container_spec::Source;

impl House {
    async fn snapshots(&self) -> SnapshotsClient<InterceptedService<Channel, Bearer>> {
        SnapshotsClient::with_interceptor(self.server().channel().await, Bearer(TOKEN))
    }

    async fn freeze(&self, container: &str, name: &str) -> Result<v1::Snapshot, Status> {
        self.freeze_as(order(container, name)).await
    }

    async fn freeze_as(&self, request: v1::SnapshotContainerRequest) -> Result<v1::Snapshot, Status> {
        Ok(self.containers().await.snapshot_container(request).await?.into_inner().snapshot.unwrap())
    }

    async fn snapshot(&self, name: &str) -> Result<v1::Snapshot, Status> {
        let request = v1::GetSnapshotRequest { snapshot_id: name.into() };
        Ok(self.snapshots().await.get_snapshot(request).await?.into_inner().snapshot.unwrap())
    }

    async fn delete(&self, name: &str) -> Result<(), Status> {
        let request = v1::DeleteSnapshotRequest { snapshot_id: name.into(), ..Default::default() };
        self.snapshots().await.delete_snapshot(request).await.map(drop)
    }

    /// Files of workspaces that the server keeps.
    fn archives(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(self.path().join("data/container-snapshots")).unwrap();
        all.map(|entry| entry.unwrap().path()).collect()
    }
}

fn order(container: &str, name: &str) -> v1::SnapshotContainerRequest {
    v1::SnapshotContainerRequest { container_id: container.into(), name: name.into(), ..Default::default() }
}

/// A container from a snapshot that idles.
fn from(snapshot: &str) -> v1::ContainerSpec {
    v1::ContainerSpec { source: Some(Source::SnapshotId(snapshot.into())), ..sh("sleep 100000") }
}

fn writable(spec: v1::ContainerSpec) -> v1::ContainerSpec {
    let hardening = v1::ContainerHardening { writable_root: true, ..Default::default() };
    v1::ContainerSpec { hardening: Some(hardening), ..spec }
}

/// A server whose containers may write to their root file systems.
async fn house() -> House {
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
