//! Bounds: number, memory, time; forks and snapshots.

use super::adder::{Adders, PAGE};
use super::house::*;
use crate::domain::id::SnapshotId;
use crate::domain::session::{ClosureReason, Durability, SessionLimitsRequest, SessionState};
use crate::domain::snapshot::SnapshotState;
use crate::domain::time::Timestamp;
use crate::error::Error;
use crate::session::{Fork, NewSession, SessionSelection, SessionSnapshot, SessionsConfig, SnapshotSelection};
use crate::store::shelf::SnapshotKind;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn fork_of(session: crate::domain::id::SessionId, count: u32) -> Fork {
    Fork {
        session,
        count,
        limits: SessionLimitsRequest::default(),
        durability: None,
        labels: Default::default(),
        principal: "me".into(),
        request: None,
    }
}

fn snapshot_of(session: crate::domain::id::SessionId, name: &str) -> SessionSnapshot {
    SessionSnapshot {
        session,
        name: name.into(),
        description: "seven".into(),
        labels: Default::default(),
        principal: "me".into(),
        request: None,
    }
}

#[tokio::test]
async fn the_number_of_sessions_is_bounded_and_closing_makes_room() {
    let config = SessionsConfig { max_sessions: 3, max_per_principal: 2, ..SessionsConfig::default() };
    let house = House::with(config).await;
    let first = house.create(Durability::None).await;
    house.create(Durability::None).await;
    let refused = house.sessions.create(new_session(Durability::None)).await;
    assert!(matches!(refused, Err(Error::QuotaReached { .. })));
    let other = || NewSession { principal: "other".into(), ..new_session(Durability::None) };
    house.sessions.create(other()).await.unwrap();
    assert!(matches!(house.sessions.create(other()).await, Err(Error::QuotaReached { .. })));
    house.sessions.close(first, &me()).await.unwrap();
    house.create(Durability::None).await;
}

#[tokio::test]
async fn a_create_with_a_request_id_is_done_once_also_across_a_restart() {
    let house = House::new().await;
    let new = |tag: u8| NewSession { request: Some((request(1), [tag; 32])), ..new_session(Durability::Turn) };
    let (first, second) = tokio::join!(house.sessions.create(new(1)), house.sessions.create(new(1)));
    let id = first.unwrap().origin.id;
    assert_eq!(second.unwrap().origin.id, id);
    assert!(matches!(house.sessions.create(new(2)).await, Err(Error::RequestIdReused { .. })));
    let killed = house.killed().await;
    assert_eq!(killed.sessions.create(new(1)).await.unwrap().origin.id, id);
    assert_eq!(killed.sessions.load().0, 1);
}

#[tokio::test]
async fn time_closes_suspends_and_forgets() {
    let house = House::new().await;
    let config = SessionsConfig::default();
    let (idle, none) = (house.create(Durability::Idle).await, house.create(Durability::None).await);
    house.add(idle, 1).await;
    let now = Timestamp::now();
    house.sessions.round(now.after(config.checkpoint_idle)).await;
    assert_eq!(house.get(idle).checkpoint_turn, 1);
    house.sessions.round(now.after(config.suspend_idle)).await;
    let session = house.get(idle);
    assert_eq!((session.state, session.memory_bytes), (SessionState::Suspended, 0));
    assert_eq!(house.get(none).state, SessionState::Ready, "what is not durable stays");
    assert_eq!(house.add(idle, 1).await, 2);
    house.sessions.round(now.after(config.defaults.idle_timeout + Duration::from_secs(60))).await;
    assert_eq!(house.get(idle).closure.unwrap().reason, ClosureReason::Idle);
    let listed = |states: Vec<SessionState>| {
        let selection = SessionSelection { states, ..SessionSelection::default() };
        house.sessions.list(&selection, &me(), None, 10).unwrap().len()
    };
    assert_eq!((listed(vec![]), listed(vec![SessionState::Closed])), (0, 2));
    let expiring = house.create(Durability::None).await;
    let end = house.get(expiring).origin.expires();
    house.sessions.round(end).await;
    assert_eq!(house.get(expiring).closure.unwrap().reason, ClosureReason::Expired);
    // The others were closed long before that.
    assert_eq!((listed(vec![]), listed(vec![SessionState::Closed])), (0, 1));
    assert!(matches!(house.sessions.get(idle, &me()), Err(Error::SessionNotFound { .. })));
    assert!(matches!(house.killed().await.sessions.get(idle, &me()), Err(Error::SessionNotFound { .. })));
}

#[tokio::test]
async fn short_memory_suspends_the_longest_idle_and_evicts_only_as_a_last_resort() {
    let config = SessionsConfig { max_memory: 4 * PAGE as u64, ..SessionsConfig::default() };
    let house = House::with(config).await;
    let none = house.create(Durability::None).await;
    let old = house.create(Durability::Turn).await;
    house.add(old, 1).await;
    let young = house.create(Durability::Turn).await;
    house.add(young, 2).await;
    let newest = house.create(Durability::None).await;
    let fifth = house.create(Durability::Turn).await;
    assert_eq!(house.get(old).state, SessionState::Suspended);
    assert_eq!(house.get(none).state, SessionState::Ready);
    assert_eq!(house.add(old, 1).await, 2, "it comes back, and another goes");
    assert_eq!(house.get(young).state, SessionState::Suspended);
    // Only those that cannot be suspended are left.
    let busy = house.accept(house.session_call(fifth, json!({ "wait": 1, "grow": 10 }))).await.unwrap();
    let busy = tokio::spawn(busy.drive());
    house.switches.waiting.acquire().await.unwrap().forget();
    house.switches.gate.add_permits(1);
    busy.await.unwrap().unwrap();
    house.sessions.relieve(PAGE as u64 / 2).await;
    assert_eq!(house.get(none).closure.unwrap().reason, ClosureReason::Evicted);
    assert_eq!(house.get(newest).closure.unwrap().reason, ClosureReason::Evicted);
    assert_eq!(house.sessions.load().1, 0);
}

#[tokio::test]
async fn forks_go_on_from_the_turn_of_their_origin_each_by_itself() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    house.add(id, 10).await;
    let (copies, turn) = house.sessions.fork(fork_of(id, 3)).await.unwrap();
    assert_eq!((copies.len(), turn), (3, 1));
    let seed = |live: std::sync::Arc<crate::execution::Live>| said(&live);
    let mut seeds = Vec::new();
    for (number, copy) in copies.iter().enumerate() {
        assert_eq!((copy.turn, copy.origin.forked_from), (1, Some(id)));
        assert_eq!(house.add(copy.origin.id, number as i64).await, 10 + number as i64);
        assert_eq!(house.get(copy.origin.id).turn, 2);
        seeds.push(seed(house.call(copy.origin.id, json!({ "seed": 1, "add": -(number as i64) })).await.unwrap()));
    }
    seeds.dedup();
    assert_eq!(seeds.len(), 3, "each has randomness of its own");
    assert_eq!(house.add(id, 0).await, 10);
    // Their state is made durable as well, and they outlive a kill.
    let copy = copies[1].origin.id;
    house.settled(copy).await;
    let killed = house.killed().await;
    assert_eq!(killed.add(copy, 0).await, 10);
    let limited = killed.sessions.fork(fork_of(copy, 101)).await;
    assert!(matches!(limited, Err(Error::InvalidArgument(_))));
}

#[tokio::test]
async fn a_fork_makes_all_copies_or_none() {
    let house = House::new().await;
    let id = house.create(Durability::None).await;
    let before = house.sessions.load();
    house.switches.forks.store(2, Ordering::Relaxed);
    assert!(house.sessions.fork(fork_of(id, 5)).await.is_err());
    assert_eq!(house.sessions.load(), before);
    let all = SessionSelection::default();
    assert_eq!(house.sessions.list(&all, &me(), None, 10).unwrap().len(), 1);
    house.switches.forks.store(i64::MAX, Ordering::Relaxed);
    let config = SessionsConfig { max_sessions: 3, ..SessionsConfig::default() };
    let house = House::with(config).await;
    let id = house.create(Durability::None).await;
    assert!(matches!(house.sessions.fork(fork_of(id, 3)).await, Err(Error::QuotaReached { .. })));
    assert_eq!(house.sessions.fork(fork_of(id, 2)).await.unwrap().0.len(), 2);
    // With a request id, once.
    let house = House::new().await;
    let id = house.create(Durability::None).await;
    let again = || Fork { request: Some((request(3), [3; 32])), ..fork_of(id, 2) };
    let ids = |made: (Vec<crate::domain::session::Session>, u64)| {
        made.0.iter().map(|session| session.origin.id).collect::<Vec<_>>()
    };
    let first = ids(house.sessions.fork(again()).await.unwrap());
    assert_eq!(ids(house.sessions.fork(again()).await.unwrap()), first);
    assert_eq!(house.sessions.load().0, 3);
}

#[tokio::test]
async fn a_snapshot_of_a_container_has_its_name_and_is_nothing_for_sessions() {
    let house = House::new().await;
    let (id, snapshots) = (house.create(Durability::Turn).await, house.sessions.snapshots());
    snapshots.shelf().reserve("box").unwrap().keep(SnapshotId::new(), SnapshotKind::Container);
    assert!(matches!(house.sessions.snapshot(snapshot_of(id, "box")).await, Err(Error::SnapshotExists { .. })));
    let from = NewSession { snapshot: Some("box".into()), ..new_session(Durability::Turn) };
    let refused = house.sessions.create(from).await.unwrap_err();
    assert!(
        matches!(&refused, Error::SnapshotUnusable { problem, .. } if problem.contains("spec.snapshot_id")),
        "{refused}"
    );
}

#[tokio::test]
async fn snapshots_are_named_checked_and_started_from() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    house.add(id, 7).await;
    let made = house.sessions.snapshot(snapshot_of(id, "seven")).await.unwrap();
    assert_eq!((made.state, made.snapshot.turn, made.snapshot.size_bytes), (SnapshotState::Ready, 1, PAGE as u64));
    assert!(matches!(house.sessions.snapshot(snapshot_of(id, "seven")).await, Err(Error::SnapshotExists { .. })));
    assert!(matches!(house.sessions.snapshot(snapshot_of(id, "Seven!")).await, Err(Error::InvalidArgument(_))));
    let from = |name: &str| NewSession { snapshot: Some(name.into()), ..new_session(Durability::Turn) };
    let started = house.sessions.create(from("seven")).await.unwrap().origin.id;
    assert_eq!(house.add(started, 1).await, 8);
    house.settled(started).await;
    assert!(house.sessions.snapshots().get(&made.snapshot.id.to_string()).unwrap().snapshot.last_used.is_some());
    // What started from it keeps it, also after a restart.
    house.sessions.snapshots().delete("seven", None).await.unwrap();
    assert!(matches!(house.sessions.create(from("seven")).await, Err(Error::SnapshotNotFound { .. })));
    assert!(matches!(house.sessions.snapshots().delete("seven", None).await, Err(Error::SnapshotNotFound { .. })));
    let files = |house: &House| std::fs::read_dir(house.directory.path().join("snapshots")).unwrap().count();
    assert_eq!(files(&house), 1);
    let killed = house.killed().await;
    assert_eq!(killed.add(started, 1).await, 9);
    assert_eq!(files(&killed), 1);
    killed.sessions.close(started, &me()).await.unwrap();
    killed.sessions.round(Timestamp::now().after(SessionsConfig::default().keep_closed)).await;
    until(|| files(&killed) == 0).await;
}

#[tokio::test]
async fn a_damaged_or_foreign_snapshot_is_refused_and_its_room_is_bounded() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    house.add(id, 7).await;
    let made = house.sessions.snapshot(snapshot_of(id, "seven")).await.unwrap().snapshot;
    let from = || NewSession { snapshot: Some("seven".into()), ..new_session(Durability::Turn) };
    let foreign = Adders { fingerprint: [2; 32], ..Adders::new() };
    let foreign = house.killed_with(SessionsConfig::default(), foreign).await;
    assert_eq!(foreign.sessions.snapshots().get("seven").unwrap().state, SnapshotState::Foreign);
    assert!(matches!(foreign.sessions.create(from()).await, Err(Error::SnapshotUnusable { .. })));
    let damaged = house.killed().await;
    let path = damaged.directory.path().join("snapshots").join(made.id.to_string()).join("pages");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(damaged.sessions.create(from()).await, Err(Error::SnapshotUnusable { .. })));
    let selection = SnapshotSelection { states: vec![SnapshotState::Damaged], ..SnapshotSelection::default() };
    assert_eq!(damaged.sessions.snapshots().list(&selection, None, 10).len(), 1);
    damaged.sessions.snapshots().delete("seven", None).await.unwrap();
    let config = SessionsConfig { max_snapshots: PAGE as u64, ..SessionsConfig::default() };
    let small = house.killed_with(config, Adders::new()).await;
    let another = small.sessions.snapshot(snapshot_of(id, "eight")).await;
    assert!(matches!(another, Err(Error::QuotaReached { .. })));
    small.sessions.snapshots().delete("seven", None).await.unwrap();
    small.sessions.snapshot(snapshot_of(id, "eight")).await.unwrap();
}

/// Calls, forks, suspensions and short memory at once, on several threads: nothing is lost and nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_loses_no_turn() {
    const CALLS: i64 = 60;
    let config = SessionsConfig { max_memory: 3 * PAGE as u64, ..SessionsConfig::default() };
    let house = std::sync::Arc::new(House::with(config).await);
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(house.create(Durability::Turn).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for &id in &ids {
        for _ in 0..3 {
            let house = house.clone();
            tasks.spawn(async move {
                let mut done = 0;
                while done < CALLS / 3 {
                    match house.call(id, json!({ "add": 1 })).await {
                        Ok(_) => done += 1,
                        // Short memory is an answer; trying again is the caller's part.
                        Err(Error::Overloaded { .. }) => tokio::task::yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let house = house.clone();
        tasks.spawn(async move {
            for _ in 0..5 {
                if let Ok((copies, turn)) = house.sessions.fork(fork_of(id, 1)).await {
                    assert_eq!(copies[0].turn, turn);
                    house.sessions.close(copies[0].origin.id, &me()).await.unwrap();
                }
            }
        });
    }
    let all = async { while tasks.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("nobody waits for ever");
    for id in ids {
        house.settled(id).await;
        let session = house.get(id);
        assert_eq!((session.turn, session.interruption), (CALLS as u64, None));
    }
    let killed = house.killed_with(config, Adders::new()).await;
    for session in killed.sessions.list(&SessionSelection::default(), &me(), None, 10).unwrap() {
        assert_eq!(killed.add(session.origin.id, 0).await, CALLS);
    }
}
