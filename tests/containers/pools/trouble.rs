//! What goes wrong: containers that die, borrowers that do not come back, images that vanish, a server that is full.

use super::{asks, container, pool, reason, sandbox, span, stats};
use crate::kit::{BUSYBOX, House, ask, docker, image};
use casemate::proto::v1;
use std::sync::Arc;
use tonic::Code;

#[tokio::test]
async fn what_dies_while_idle_is_replaced_and_not_lent() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    house.create(pool("frail", 3)).await.unwrap();
    house.full("frail").await;
    let first = house.sandboxes();
    for name in &first {
        ask(&["kill", name]);
    }
    let lease = house.lease(asks("frail")).await.unwrap();
    assert!(!first.contains(&sandbox(&lease)), "none of the dead was lent");
    house.run(&container(&lease).id, "true").await;
    let found = house.until_pool("frail", |pool| stats(pool).idle == 3).await;
    assert_eq!((stats(&found).total_unhealthy, stats(&found).total_broken_leases), (3, 0));
    house.full("frail").await;
    assert!(house.sandboxes().iter().all(|name| !first.contains(name)));
    // One that dies on loan ends its lease.
    ask(&["kill", &sandbox(&lease)]);
    let end = house.ended(&container(&lease).id).await;
    assert_eq!(end.reason(), v1::ContainerEndReason::Vanished);
    let found = house.until_pool("frail", |pool| stats(pool).leased == 0).await;
    assert_eq!(stats(&found).total_broken_leases, 1);
    house.release(&lease.id).await.unwrap();
}

#[tokio::test]
async fn a_borrower_that_does_not_come_back_loses_it_in_time() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    house.create(v1::Pool { max_lease_time: span(60_000), ..pool("timed", 1) }).await.unwrap();
    house.full("timed").await;
    let asked = v1::LeaseContainerRequest { lease_time: span(1000), ..asks("timed") };
    let lease = house.lease(asked).await.unwrap();
    let end = house.ended(&container(&lease).id).await;
    assert_eq!(end.reason(), v1::ContainerEndReason::Released);
    assert!(end.message.contains("lease_time"), "{end:?}");
    let ended = house.get(&container(&lease).id).await.end_time.unwrap();
    let due = lease.expire_time.unwrap();
    assert!((ended.seconds, ended.nanos) >= (due.seconds, due.nanos));
    let found = house.full("timed").await;
    assert_eq!((stats(&found).total_expired_leases, stats(&found).idle), (1, 1));
    // More than the pool allows is lowered to that.
    let asked = v1::LeaseContainerRequest { lease_time: span(3_600_000), ..asks("timed") };
    let lease = house.lease(asked).await.unwrap();
    assert_eq!(lease.expire_time.unwrap().seconds - lease.create_time.unwrap().seconds, 60);
}

#[tokio::test]
async fn a_pool_whose_image_vanishes_says_so_and_recovers() {
    if !docker() {
        return;
    }
    const OWN: &str = "casemate-test/pool-vanishing:1";
    ask(&["tag", BUSYBOX, OWN]);
    let house = Arc::new(House::open().await);
    let mut spec = image(OWN, &["sleep", "100000"]);
    spec.set_pull_policy(v1::ImagePullPolicy::Never);
    house.create(v1::Pool { container: Some(spec.clone()), ..pool("rootless", 2) }).await.unwrap();
    house.full("rootless").await;
    ask(&["rmi", OWN]);
    // What is idle is lent still; what follows cannot be made.
    let leases = [house.lease(asks("rootless")).await.unwrap(), house.lease(asks("rootless")).await.unwrap()];
    let found = house.until_pool("rootless", |pool| pool.state() == v1::PoolState::Degraded).await;
    assert!(found.problem.contains("pool-vanishing"), "{}", found.problem);
    let refused = house.lease(asks("rootless")).await;
    // It may have come just while another was tried.
    let refused = refused.unwrap_err();
    assert_eq!(reason(&refused), (Code::FailedPrecondition, "POOL_NOT_READY".into()));
    assert!(refused.message().contains("pool-vanishing"), "{refused}");
    let missing = house.create(v1::Pool { container: Some(spec), ..pool("second", 1) }).await.unwrap_err();
    assert_eq!(reason(&missing), (Code::NotFound, "IMAGE_NOT_FOUND".into()));
    ask(&["tag", BUSYBOX, OWN]);
    let found = house.full("rootless").await;
    assert!(found.problem.is_empty() && stats(&found).total_failed > 0, "{found:?}");
    for lease in leases {
        house.release(&lease.id).await.unwrap();
    }
    house.full("rootless").await;
    ask(&["rmi", OWN]);
}

#[tokio::test]
async fn a_full_server_degrades_a_pool_and_does_not_break_it() {
    if !docker() {
        return;
    }
    let house = House::with("max_containers = 2").await;
    let others = [house.idle().await, house.idle().await];
    house.create(pool("late", 1)).await.unwrap();
    let found = house.until_pool("late", |pool| pool.state() == v1::PoolState::Degraded).await;
    assert!(found.problem.contains("containers: at most 2"), "{}", found.problem);
    let refused = house.lease(asks("late")).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "POOL_EXHAUSTED".into()));
    house.kill(&others[0].id).await;
    house.full("late").await;
    house.lease(asks("late")).await.unwrap();
}
