//! One lease after another.

use super::{asks, container, pool, reason, span, stats};
use crate::kit::{House, docker, shell};
use casemate::proto::v1;
use std::collections::BTreeSet;
use std::time::Instant;
use tonic::Code;

#[tokio::test]
async fn a_lease_is_quick_and_its_container_is_used_once() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let made = house.create(v1::Pool { labels: [("kind".into(), "warm".into())].into(), ..pool("warm", 3) }).await;
    let made = made.unwrap();
    assert_eq!((made.state(), made.principal.as_str()), (v1::PoolState::Filling, "operator"));
    house.full("warm").await;
    let mut pools = house.pools().await;
    let (mut seen, mut times) = (BTreeSet::new(), Vec::new());
    for round in 0..12 {
        house.until_pool("warm", |pool| stats(pool).idle > 0).await;
        let labels = [("job".to_owned(), round.to_string())].into();
        let began = Instant::now();
        let answer = pools.lease_container(v1::LeaseContainerRequest { labels, ..asks("warm") }).await.unwrap();
        times.push(began.elapsed());
        let lease = answer.into_inner().lease.unwrap();
        let lent = container(&lease);
        assert!(seen.insert(lent.id.clone()), "each is lent once");
        assert_eq!((lent.state(), lent.pool.as_str()), (v1::ContainerState::Running, "warm"));
        assert_eq!((lent.principal.as_str(), lease.principal.as_str()), ("operator", "operator"));
        let spec = lent.spec.as_ref().unwrap();
        assert_eq!((spec.labels["kind"].as_str(), spec.labels["job"].as_str()), ("warm", round.to_string().as_str()));
        assert_eq!((lease.labels.len(), lent.expire_time), (1, lease.expire_time));
        assert_eq!(house.run(&lent.id, "ls /workspace; echo mine > /workspace/mark").await.text(), "");
        // By the lease or by the container: both are known to whoever has it.
        house.release(if round % 2 == 0 { &lease.id } else { &lent.id }).await.unwrap();
        let end = house.ended(&lent.id).await;
        assert_eq!(end.reason(), v1::ContainerEndReason::Released, "{end:?}");
        house.release(&lease.id).await.unwrap();
    }
    times.sort();
    let (_, metrics) = house.server().get("/metrics").await;
    let figure = |name: &str| {
        let line =
            metrics.lines().find(|line| line.starts_with(name) && line.contains("Pools/LeaseContainer")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let inside = figure("casemate_rpc_seconds_sum") / figure("casemate_rpc_seconds_count");
    eprintln!("in the server: {:.2} ms each on average", inside * 1000.0);
    let count = metrics.lines().find(|line| line.starts_with("casemate_pool_wait_seconds_count")).unwrap();
    assert!(count.ends_with(" 12"), "{count}");
    eprintln!("leases: median {:?}, longest {:?}", times[times.len() / 2], times[times.len() - 1]);
    let found = house.full("warm").await;
    let figures = stats(&found);
    assert_eq!((figures.total_leases, figures.idle, figures.leased), (12, 3, 0));
    assert_eq!((figures.total_expired_leases, figures.total_broken_leases, figures.total_failed), (0, 0, 0));
    assert_eq!(figures.total_created, 15);
    assert!(figures.median_wait.is_some() && figures.p99_wait.is_some());
    assert_eq!(house.sandboxes().len(), 3, "what was lent is destroyed");
}

#[tokio::test]
async fn nobody_uses_a_container_before_it_is_leased() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    house.create(pool("kept", 1)).await.unwrap();
    house.full("kept").await;
    let filter = v1::ContainerFilter { pool: "kept".into(), ..Default::default() };
    let request = v1::ListContainersRequest { filter: Some(filter), ..Default::default() };
    let mut containers = house.containers().await;
    let listed = containers.list_containers(request.clone()).await.unwrap().into_inner().containers;
    assert_eq!(listed.len(), 1);
    let refused = house.start(&listed[0].id, shell("true")).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::FailedPrecondition, "CONTAINER_NOT_READY".into()));
    assert!(refused.message().contains("LeaseContainer"), "{refused}");
    let lease = house.lease(asks("kept")).await.unwrap();
    assert_eq!(container(&lease).id, listed[0].id);
    house.start(&listed[0].id, shell("true")).await.unwrap();
    // A caller that will not wait is told at once.
    let hasty = v1::LeaseContainerRequest { wait_timeout: span(0), ..asks("none") };
    assert_eq!(reason(&house.lease(hasty).await.unwrap_err()), (Code::NotFound, "POOL_NOT_FOUND".into()));
}
