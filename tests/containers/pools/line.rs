//! Callers that wait.

use super::{asks, container, pool, reason, span, stats};
use crate::kit::{House, docker};
use casemate::proto::v1;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Code;

/// A pool of one container at most, which somebody has.
async fn taken(house: &House, name: &str, max_waiting: Option<u32>) -> v1::Lease {
    house.create(v1::Pool { max_size: 1, max_waiting, ..pool(name, 1) }).await.unwrap();
    house.full(name).await;
    house.lease(asks(name)).await.unwrap()
}

#[tokio::test]
async fn first_come_first_served() {
    if !docker() {
        return;
    }
    let house = Arc::new(House::open().await);
    let mut lease = taken(&house, "one", None).await;
    let (tell, mut served) = mpsc::unbounded_channel();
    for number in 0..5 {
        let (there, tell) = (house.clone(), tell.clone());
        tokio::spawn(async move {
            let lease = there.lease(asks("one")).await.unwrap();
            tell.send((number, lease)).unwrap();
        });
        // The next one comes when this one stands in line.
        house.until_pool("one", |pool| stats(pool).waiting == number + 1).await;
    }
    for expected in 0..5 {
        house.release(&lease.id).await.unwrap();
        let number;
        (number, lease) = served.recv().await.unwrap();
        assert_eq!(number, expected);
    }
    let figures = house.pool("one").await;
    let (median, p99) = (stats(&figures).median_wait.unwrap(), stats(&figures).p99_wait.unwrap());
    assert!(Duration::try_from(median).unwrap() > Duration::ZERO);
    assert!(Duration::try_from(p99).unwrap() >= Duration::try_from(median).unwrap());
}

#[tokio::test]
async fn a_full_line_takes_nobody_and_who_leaves_makes_room() {
    if !docker() {
        return;
    }
    let house = Arc::new(House::open().await);
    let lease = taken(&house, "short", Some(2)).await;
    let hasty = v1::LeaseContainerRequest { wait_timeout: span(0), ..asks("short") };
    assert_eq!(reason(&house.lease(hasty).await.unwrap_err()), (Code::DeadlineExceeded, "WAIT_TOO_LONG".into()));
    let patient = |millis| v1::LeaseContainerRequest { wait_timeout: span(millis), ..asks("short") };
    let mut waiting = Vec::new();
    for number in 0..2 {
        let there = house.clone();
        waiting.push(tokio::spawn(async move { there.lease(asks("short")).await }));
        house.until_pool("short", |pool| stats(pool).waiting == number + 1).await;
    }
    let refused = house.lease(patient(30_000)).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "POOL_EXHAUSTED".into()));
    let details = tonic_types::StatusExt::get_error_details(&refused);
    assert!(details.retry_info().is_some() && refused.message().contains("max_waiting"), "{refused}");
    // One hangs up, and his place is free for the next, who does not wait for ever.
    waiting.remove(0).abort();
    house.until_pool("short", |pool| stats(pool).waiting == 1).await;
    let refused = house.lease(patient(50)).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::DeadlineExceeded, "WAIT_TOO_LONG".into()));
    house.release(&lease.id).await.unwrap();
    let served = waiting.remove(0).await.unwrap().unwrap();
    assert_ne!(container(&served).id, container(&lease).id);
    let found = house.pool("short").await;
    let figures = stats(&found);
    assert_eq!((figures.total_rejected, figures.total_abandoned, figures.total_leases), (1, 2, 2));
    assert_eq!(figures.waiting, 0);
}

#[tokio::test]
async fn twenty_callers_at_once_over_a_pool_of_three() {
    if !docker() {
        return;
    }
    let house = Arc::new(House::open().await);
    house.create(v1::Pool { max_size: 5, ..pool("busy", 3) }).await.unwrap();
    house.full("busy").await;
    let began = std::time::Instant::now();
    let callers = (0..20).map(|number| {
        let there = house.clone();
        tokio::spawn(async move {
            let lease = there.lease(asks("busy")).await.unwrap();
            let id = container(&lease).id.clone();
            // What the one before left is not there.
            let script = format!("ls -A /workspace /tmp; echo {number} > /workspace/was-here; touch /tmp/was-here");
            let found = there.run(&id, &script).await.text();
            assert!(!found.contains("was-here"), "{found}");
            there.release(&lease.id).await.unwrap();
            id
        })
    });
    let mut seen = BTreeSet::new();
    for caller in callers.collect::<Vec<_>>() {
        assert!(seen.insert(caller.await.unwrap()), "no container had two borrowers");
        assert!(house.sandboxes().len() <= 5, "no more than max_size");
    }
    eprintln!("twenty leases over at most five containers: {:?}", began.elapsed());
    let found = house.full("busy").await;
    let figures = stats(&found);
    assert_eq!((figures.total_leases, figures.total_broken_leases, figures.total_failed), (20, 0, 0));
    assert_eq!((figures.idle, house.sandboxes().len()), (3, 3));
}
