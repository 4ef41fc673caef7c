//! Servers that are killed, and callers that try again.

use super::{asks, container, pool, reason, span, stats};
use crate::kit::{House, docker};
use casemate::proto::v1;
use std::collections::BTreeSet;
use tonic::Code;

fn fresh() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[tokio::test]
async fn a_kill_of_the_server_takes_no_container_and_lends_none_twice() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    house.create(pool("durable", 4)).await.unwrap();
    house.full("durable").await;
    let mut lent = BTreeSet::new();
    let mut leases = Vec::new();
    for round in 0..4 {
        // Killed with the answer: what is on disk is what was there before it.
        let lease = house.lease(asks("durable")).await.unwrap();
        let id = container(&lease).id.clone();
        let process = house.run(&id, &format!("echo {round} > /workspace/mark")).await;
        assert_eq!(process.code(), 0);
        assert!(lent.insert(id), "round {round}: lent before");
        leases.push(house.lease(asks("durable")).await.unwrap());
        house.kill_and_restart().await;
        assert!(lent.insert(container(leases.last().unwrap()).id.clone()));
        leases.push(lease);
        let found = house.full("durable").await;
        assert_eq!((stats(&found).leased as usize, stats(&found).idle), (lent.len(), 4), "{found:?}");
        assert_eq!(house.sandboxes().len(), lent.len() + 4, "no orphans");
    }
    let found = house.pool("durable").await;
    assert_eq!((stats(&found).total_leases, stats(&found).total_broken_leases), (8, 0));
    for lease in &leases {
        let there = house.get(&container(lease).id).await;
        assert_eq!((there.state(), there.pool.as_str()), (v1::ContainerState::Running, "durable"));
        assert_eq!(there.expire_time, lease.expire_time);
        house.release(&lease.id).await.unwrap();
    }
    house.full("durable").await;
    assert_eq!(house.sandboxes().len(), 4);
    // What was released stays so.
    house.kill_and_restart().await;
    let found = house.full("durable").await;
    assert_eq!((stats(&found).leased, stats(&found).idle), (0, 4));
    house.release(&leases[0].id).await.unwrap();
}

#[tokio::test]
async fn a_lease_whose_time_passes_without_a_server_ends_with_the_next() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    house.create(pool("late", 1)).await.unwrap();
    house.full("late").await;
    let asked = v1::LeaseContainerRequest { lease_time: span(1000), ..asks("late") };
    let lease = house.lease(asked).await.unwrap();
    house.kill_and_restart().await;
    let end = house.ended(&container(&lease).id).await;
    assert_eq!(end.reason(), v1::ContainerEndReason::Released);
    let found = house.full("late").await;
    assert_eq!((stats(&found).total_expired_leases, stats(&found).idle), (1, 1));
    assert_eq!(house.sandboxes().len(), 1);
}

#[tokio::test]
async fn pools_that_were_being_filled_and_deleted_are_finished() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    house.create(pool("filling", 6)).await.unwrap();
    house.until_pool("filling", |pool| stats(pool).idle >= 1).await;
    house.kill_and_restart().await;
    house.full("filling").await;
    assert_eq!(house.sandboxes().len(), 6);
    let mut pools = house.pools().await;
    let delete = v1::DeletePoolRequest { name: "filling".into(), ..Default::default() };
    let deleting = tokio::spawn(async move { pools.delete_pool(delete).await });
    house.until_pool("filling", |pool| pool.state() == v1::PoolState::Deleting).await;
    house.kill_and_restart().await;
    // The connection went with the server.
    assert!(deleting.await.unwrap().is_err());
    let mut pools = house.pools().await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while let Ok(found) = pools.get_pool(v1::GetPoolRequest { name: "filling".into() }).await {
        assert!(std::time::Instant::now() < deadline, "{found:?}: {:?}", house.sandboxes());
    }
    assert!(house.sandboxes().is_empty());
}

#[tokio::test]
async fn retries_find_what_the_first_call_led_to() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let create = v1::CreatePoolRequest { pool: Some(pool("again", 2)), request_id: fresh() };
    let first = house.pools().await.create_pool(create.clone()).await.unwrap().into_inner().pool.unwrap();
    let lease = v1::LeaseContainerRequest { request_id: fresh(), ..asks("again") };
    let one = house.lease(lease.clone()).await.unwrap();
    assert_eq!(one.request_id, lease.request_id);
    for crash in [false, true] {
        if crash {
            house.kill_and_restart().await;
        }
        let again = house.pools().await.create_pool(create.clone()).await.unwrap().into_inner().pool.unwrap();
        assert_eq!((again.create_time, again.request_id.as_str()), (first.create_time, create.request_id.as_str()));
        let again = house.lease(lease.clone()).await.unwrap();
        assert_eq!((again.id.as_str(), &container(&again).id), (one.id.as_str(), &container(&one).id));
        assert_eq!(stats(&house.pool("again").await).leased, 1);
        let other = v1::LeaseContainerRequest { lease_time: span(5000), ..lease.clone() };
        let refused = house.lease(other).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::AlreadyExists, "REQUEST_ID_REUSED".into()));
    }
    // Two at once are one.
    let twin = v1::LeaseContainerRequest { request_id: fresh(), ..asks("again") };
    let (left, right) = tokio::join!(house.lease(twin.clone()), house.lease(twin));
    assert_eq!(left.unwrap().id, right.unwrap().id);
    let release = v1::ReleaseContainerRequest { lease_id: one.id.clone(), request_id: fresh() };
    for _ in 0..2 {
        house.pools().await.release_container(release.clone()).await.unwrap();
    }
    let refused = house.lease(lease).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::FailedPrecondition, "LEASE_OVER".into()));
    let unknown = house.release(&fresh()).await.unwrap_err();
    assert_eq!(reason(&unknown), (Code::NotFound, "LEASE_NOT_FOUND".into()));
    assert_eq!(house.release("x").await.unwrap_err().code(), Code::InvalidArgument);
    let update = v1::UpdatePoolRequest {
        pool: Some(v1::Pool { name: "again".into(), description: "x".into(), ..Default::default() }),
        request_id: fresh(),
        ..Default::default()
    };
    let mut pools = house.pools().await;
    let changed = pools.update_pool(update.clone()).await.unwrap().into_inner().pool.unwrap();
    assert_eq!(pools.update_pool(update).await.unwrap().into_inner().pool.unwrap().etag, changed.etag);
    let delete = v1::DeletePoolRequest { name: "again".into(), force: true, request_id: fresh(), ..Default::default() };
    for _ in 0..2 {
        pools.delete_pool(delete.clone()).await.unwrap();
    }
}
