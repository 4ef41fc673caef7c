//! Pools that are changed and deleted.

use super::{asks, container, pool, reason, sandbox, span, stats};
use crate::kit::{House, docker, image, sh};
use casemate::proto::v1;
use std::sync::Arc;
use tonic::{Code, Status};

impl House {
    async fn update(&self, pool: v1::Pool, paths: &[&str]) -> Result<v1::Pool, Status> {
        let mask = prost_types::FieldMask { paths: paths.iter().map(|path| path.to_string()).collect() };
        let update_mask = (!paths.is_empty()).then_some(mask);
        let request = v1::UpdatePoolRequest { pool: Some(pool), update_mask, ..Default::default() };
        Ok(self.pools().await.update_pool(request).await?.into_inner().pool.unwrap())
    }

    async fn delete(&self, name: &str, force: bool, etag: &str) -> Result<(), Status> {
        let request = v1::DeletePoolRequest { name: name.into(), force, etag: etag.into(), ..Default::default() };
        self.pools().await.delete_pool(request).await.map(|_| ())
    }
}

fn named(name: &str) -> v1::Pool {
    v1::Pool { name: name.into(), ..Default::default() }
}

#[tokio::test]
async fn a_pool_grows_and_shrinks_and_leaves_leases_alone() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let made = house.create(pool("size", 2)).await.unwrap();
    house.full("size").await;
    let lease = house.lease(asks("size")).await.unwrap();
    let stale = house.update(v1::Pool { target_size: 9, etag: "old".into(), ..named("size") }, &[]).await.unwrap_err();
    assert_eq!(reason(&stale), (Code::Aborted, "ETAG_MISMATCH".into()));
    let grown = v1::Pool { target_size: 4, etag: made.etag.clone(), ..named("size") };
    let grown = house.update(grown, &[]).await.unwrap();
    assert_ne!(grown.etag, made.etag);
    let full = house.until_pool("size", |pool| stats(pool).idle == 4).await;
    assert_eq!((full.etag.as_str(), stats(&full).leased), (grown.etag.as_str(), 1), "its figures are not its etag");
    // Smaller than what there is on loan: that stays.
    house.update(v1::Pool { max_size: 1, ..named("size") }, &["target_size", "max_size"]).await.unwrap();
    house.until_pool("size", |pool| stats(pool).idle + stats(pool).stopping == 0).await;
    assert_eq!(house.sandboxes(), [sandbox(&lease)]);
    house.run(&container(&lease).id, "true").await;
    let refused = house.update(named("size"), &["state"]).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));
    let refused = house.update(v1::Pool { target_size: 2, ..named("size") }, &["target_size"]).await.unwrap_err();
    assert!(refused.message().contains("pool.max_size"), "{refused}");
    house.release(&lease.id).await.unwrap();
    house.until_pool("size", |pool| stats(pool).stopping + stats(pool).leased == 0).await;
    assert!(house.sandboxes().is_empty());
    // With nothing kept ready, each lease makes its own.
    let lease = house.lease(asks("size")).await.unwrap();
    assert_eq!(container(&lease).state(), v1::ContainerState::Running);
}

#[tokio::test]
async fn another_specification_replaces_what_is_idle_at_its_pace() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    house.create(v1::Pool { max_size: 2, ..pool("spec", 2) }).await.unwrap();
    house.full("spec").await;
    let before = house.sandboxes();
    let mut spec = sh("sleep 100000");
    spec.environment = [("GENERATION".into(), "2".into())].into();
    let changed = house.update(v1::Pool { container: Some(spec), ..named("spec") }, &[]).await.unwrap();
    let shown = changed.container.unwrap();
    assert_eq!(shown.environment["GENERATION"], "", "values are not shown");
    house.until_pool("spec", |pool| stats(pool).total_created == 4 && stats(pool).idle == 2).await;
    house.full("spec").await;
    assert!(house.sandboxes().iter().all(|name| !before.contains(name)));
    let lease = house.lease(asks("spec")).await.unwrap();
    assert_eq!(house.run(&container(&lease).id, "echo $GENERATION").await.text(), "2\n");
}

#[tokio::test]
async fn a_pool_in_use_is_deleted_with_force_alone() {
    if !docker() {
        return;
    }
    let house = Arc::new(House::open().await);
    house.create(v1::Pool { max_size: 1, ..pool("gone", 1) }).await.unwrap();
    let made = house.full("gone").await;
    let lease = house.lease(asks("gone")).await.unwrap();
    let there = house.clone();
    let waiting = tokio::spawn(async move { there.lease(asks("gone")).await });
    house.until_pool("gone", |pool| stats(pool).waiting == 1).await;
    let refused = house.delete("gone", false, "").await.unwrap_err();
    assert_eq!(reason(&refused), (Code::FailedPrecondition, "POOL_NOT_READY".into()));
    let refused = house.delete("gone", true, "other").await.unwrap_err();
    assert_eq!(reason(&refused), (Code::Aborted, "ETAG_MISMATCH".into()));
    house.delete("gone", true, &made.etag).await.unwrap();
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "POOL_NOT_FOUND".into()));
    assert!(house.sandboxes().is_empty(), "nothing of it is left");
    let end = house.get(&container(&lease).id).await.end.unwrap();
    assert_eq!(end.reason(), v1::ContainerEndReason::Released);
    // A lease that ended with its pool is released still, and the name is free.
    house.release(&lease.id).await.unwrap();
    let refused = house.lease(asks("gone")).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "POOL_NOT_FOUND".into()));
    house.create(pool("gone", 1)).await.unwrap();
    let fresh = house.full("gone").await;
    assert_eq!((stats(&fresh).total_created, stats(&fresh).total_leases), (1, 0));
    house.delete("gone", false, "").await.unwrap();
    assert!(house.sandboxes().is_empty());
}

#[tokio::test]
async fn what_would_pass_from_one_borrower_to_the_next_is_refused() {
    if !docker() {
        return;
    }
    let shared = tempfile::tempdir().unwrap();
    let keys = format!(
        "mount_roots = [{:?}]\n[containers.templates.short]\nimage = \"casemate-test/busybox:1\"\ntime_to_live = \"1h\"",
        shared.path()
    );
    let house = House::with(&keys).await;
    let mut refusals = Vec::new();
    for number in 0..8 {
        let mut spec = sh("sleep 1");
        match number {
            0 => spec.workspace = Some(v1::Workspace { name: "kept".into(), ..Default::default() }),
            1 => spec.time_to_live = span(60_000),
            2 => spec.idle_timeout = span(60_000),
            3 => {
                let host_path = shared.path().to_str().unwrap().to_owned();
                spec.mounts = vec![v1::ContainerMount { host_path, container_path: "/m".into(), writable: true }];
            }
            4 => spec.ports = vec![v1::ContainerPort { container_port: 80, host_port: 80, ..Default::default() }],
            5 => spec.template = "short".into(),
            6 => spec.health_check = Some(v1::ContainerHealthCheck::default()),
            _ => spec = image("library/debian:12", &[]),
        }
        let sent = v1::Pool { container: Some(spec), ..pool("no", 1) };
        let refused = house.create(sent).await.unwrap_err();
        refusals.push((refused.code(), refused.message().to_owned()));
    }
    let fields = [
        "workspace.name",
        "time_to_live",
        "idle_timeout",
        "mounts[0].writable",
        "ports[0].host_port",
        "time_to_live",
        "health_check",
    ];
    for ((code, text), field) in refusals.iter().zip(fields) {
        assert_eq!(*code, Code::InvalidArgument, "{text}");
        assert!(text.contains(&format!("pool.container.{field}")), "{field}: {text}");
    }
    assert_eq!(refusals[7].0, Code::PermissionDenied, "{refusals:?}");
    assert!(refusals[7].1.contains("pool.container.image"), "{refusals:?}");
    for wrong in [v1::Pool { name: "No".into(), ..pool("no", 1) }, v1::Pool { max_size: 1, ..pool("no", 2) }] {
        assert_eq!(house.create(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let unknown = v1::ContainerSpec { template: "none".into(), ..Default::default() };
    let refused = house.create(v1::Pool { container: Some(unknown), ..pool("no", 1) }).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "TEMPLATE_NOT_FOUND".into()));
}

#[tokio::test]
async fn pools_are_listed_by_name_a_page_at_a_time() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    for name in ["b-two", "a-one", "b-one"] {
        let labels = [("team".to_owned(), name[..1].to_owned())].into();
        house.create(v1::Pool { labels, ..pool(name, 0) }).await.unwrap();
    }
    let refused = house.create(pool("a-one", 0)).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::AlreadyExists, "POOL_EXISTS".into()));
    let list = async |filter: v1::PoolFilter| {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListPoolsRequest { page_size: 1, page_token, filter: Some(filter.clone()) };
            let page = house.pools().await.list_pools(request).await.unwrap().into_inner();
            names.extend(page.pools.into_iter().map(|pool| pool.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    };
    assert_eq!(list(v1::PoolFilter::default()).await, ["a-one", "b-one", "b-two"]);
    assert_eq!(list(v1::PoolFilter { name_prefix: "b-".into(), ..Default::default() }).await, ["b-one", "b-two"]);
    let labels = [("team".to_owned(), "a".to_owned())].into();
    assert_eq!(list(v1::PoolFilter { labels, ..Default::default() }).await, ["a-one"]);
    assert!(list(v1::PoolFilter { principal: "other".into(), ..Default::default() }).await.is_empty());
    let states = vec![v1::PoolState::Ready.into()];
    assert_eq!(list(v1::PoolFilter { states, ..Default::default() }).await.len(), 3, "none is what they should have");
}
