//! Kills at every step of a checkpoint, damage, and full disks: a session goes on from a whole state or is closed.

use super::adder::Adders;
use super::house::*;
use crate::domain::interruption::InterruptionReason;
use crate::domain::session::{ClosureReason, Durability, SessionState};
use crate::error::Error;
use crate::session::SessionsConfig;
use crate::session::checkpoint::{Files, Heading};
use crate::session::kernel::Frozen;
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_killed_server_goes_on_from_the_last_checkpoint_and_says_what_was_lost() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    assert_eq!(house.add(id, 7).await, 7);
    house.settled(id).await;
    let quiet = house.killed().await;
    let session = quiet.get(id);
    assert_eq!((session.state, session.turn, session.checkpoint_turn), (SessionState::Suspended, 1, 1));
    assert_eq!(session.interruption, None, "nothing was lost");
    assert_eq!(quiet.add(id, 1).await, 8);
    // In the middle of a turn.
    let run = house.accept(house.session_call(id, json!({ "wait": 1, "add": 50 }))).await.unwrap();
    let execution = run.live().origin().id;
    let running = tokio::spawn(run.drive());
    house.switches.waiting.acquire().await.unwrap().forget();
    let cut = house.killed().await;
    let interruption = cut.get(id).interruption.expect("a turn was cut off");
    assert_eq!(interruption.reason, InterruptionReason::ServerLost);
    assert_eq!((interruption.last_turn, interruption.resumed_turn), (1, 1));
    assert_eq!(interruption.execution, Some(execution));
    assert_eq!(cut.add(id, 1).await, 8);
    running.abort();
    // A run that was over is not blamed, even if the row still names it.
    let house = House::new().await;
    let id = house.create(Durability::Idle).await;
    house.add(id, 1).await;
    let Some(pass) = house.sessions.owned(id, &"me".into()).unwrap().line.try_pass() else { panic!("it is idle") };
    let entry = house.sessions.owned(id, &"me".into()).unwrap();
    assert!(house.sessions.save(&entry, pass).await);
    let first = house.call(id, json!({ "add": 1 })).await.unwrap();
    house.sessions.registry().list(Default::default(), None, 1).await.unwrap();
    let killed = house.killed().await;
    let interruption = killed.get(id).interruption.expect("a turn was lost");
    assert_eq!((interruption.execution, interruption.resumed_turn), (None, 1), "not {}", first.origin().id);
}

#[tokio::test]
async fn what_is_not_durable_is_closed_with_a_reason_after_a_kill() {
    let house = House::new().await;
    let (none, idle, fresh) = (
        house.create(Durability::None).await,
        house.create(Durability::Idle).await,
        house.create(Durability::Idle).await,
    );
    house.add(none, 1).await;
    house.add(idle, 1).await;
    let killed = house.killed().await;
    for id in [none, idle] {
        assert_eq!(killed.get(id).closure.unwrap().reason, ClosureReason::Interrupted);
    }
    // One that never ran has nothing to lose.
    assert_eq!(killed.get(fresh).interruption, None);
    assert_eq!(killed.add(fresh, 4).await, 4);
    // In order, an idle one is made durable and the other is closed for that reason.
    let house = House::new().await;
    let (none, idle) = (house.create(Durability::None).await, house.create(Durability::Idle).await);
    house.add(idle, 9).await;
    house.sessions.shut_down().await;
    let started = house.killed().await;
    assert_eq!(started.get(none).closure.unwrap().reason, ClosureReason::ServerShutdown);
    assert_eq!(started.get(idle).interruption, None);
    assert_eq!(started.add(idle, 1).await, 10);
}

/// What a crash between the steps of a checkpoint leaves beside the chain that counts.
#[tokio::test]
async fn files_of_a_checkpoint_that_was_never_recorded_change_nothing() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    house.add(id, 7).await;
    house.settled(id).await;
    for step in ["written aside, in part", "written aside", "renamed", "recorded, the old files still there"] {
        let killed = house.killed().await;
        let files = Files::open(killed.directory.path().join("sessions")).unwrap();
        let state = Frozen { whole: true, meta: vec![9; 100].into(), ..Frozen::default() };
        let heading = Heading { fingerprint: [1; 32], session: id, turn: 2 };
        let file = files.write_aside(&heading, &state).unwrap();
        let aside = files.directory(id).join(format!("{}.part", file.name));
        match step {
            "written aside, in part" => std::fs::write(&aside, &std::fs::read(&aside).unwrap()[..60]).unwrap(),
            "written aside" => {}
            _ => files.settle(id, &file).unwrap(),
        }
        let again = killed.killed().await;
        let own = again.directory.path().join("sessions").join(id.to_string());
        assert_eq!(std::fs::read_dir(own).unwrap().count(), 1, "{step}: what no record names is gone");
        assert_eq!((again.get(id).turn, again.add(id, 1).await), (1, 8), "{step}");
    }
}

#[tokio::test]
async fn damage_is_found_and_never_half_read() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    house.add(id, 7).await;
    house.settled(id).await;
    let own = |house: &House| house.directory.path().join("sessions").join(id.to_string());
    let file = |house: &House| std::fs::read_dir(own(house)).unwrap().next().unwrap().unwrap().path();
    let closed = |house: House| async move {
        assert!(matches!(house.call(id, json!({})).await, Err(Error::SessionClosed { .. })));
        let closure = house.get(id).closure.unwrap();
        assert_eq!(closure.reason, ClosureReason::CheckpointUnusable);
        closure.message
    };
    let flipped = house.killed().await;
    let mut bytes = std::fs::read(file(&flipped)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file(&flipped), bytes).unwrap();
    assert!(closed(flipped).await.contains("digest"));
    let missing = house.killed().await;
    std::fs::remove_file(file(&missing)).unwrap();
    assert!(closed(missing).await.contains("cannot be read"));
    let foreign = Adders { fingerprint: [2; 32], ..Adders::new() };
    let foreign = house.killed_with(SessionsConfig::default(), foreign).await;
    assert!(closed(foreign).await.contains("another version of the interpreter"));
}

#[tokio::test]
async fn a_full_disk_costs_durability_and_nothing_else() {
    let config = SessionsConfig { max_checkpoints: 10_000, ..SessionsConfig::default() };
    let house = House::with(config).await;
    let id = house.create(Durability::Turn).await;
    house.add(id, 1).await;
    house.settled(id).await;
    house.call(id, json!({ "grow": 3, "add": 1 })).await.unwrap();
    until(|| house.told.0.lock().is_some()).await;
    assert!(house.told.0.lock().as_ref().unwrap().contains("sessions.max_checkpoints"));
    assert_eq!(house.add(id, 1).await, 3, "it goes on");
    assert_eq!(house.get(id).checkpoint_turn, 1);
    let killed = house.killed_with(config, Adders::new()).await;
    let session = killed.get(id);
    assert_eq!((session.turn, session.interruption.unwrap().resumed_turn), (1, 1));
    assert_eq!(killed.add(id, 1).await, 2);
    // With the session the trouble is over, and so is the use of the disk.
    house.sessions.close(id, &me()).await.unwrap();
    until(|| house.sessions.load().2 == 0).await;
    assert_eq!(*house.told.0.lock(), None);
}

#[tokio::test]
async fn changes_are_written_until_they_outgrow_the_whole() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    house.call(id, json!({ "grow": 10 })).await.unwrap();
    house.settled(id).await;
    let whole = house.get(id).checkpoint_bytes;
    assert!(whole > 11 * 4096);
    house.add(id, 1).await;
    house.settled(id).await;
    let both = house.get(id).checkpoint_bytes;
    assert!((whole + 4096..whole + 2 * 4096).contains(&both), "one page was added to {whole}: {both}");
    for _ in 0..30 {
        house.add(id, 1).await;
        house.settled(id).await;
        assert!(house.get(id).checkpoint_bytes < 3 * whole);
    }
    let killed = house.killed().await;
    assert_eq!(killed.add(id, 0).await, 31);
}

#[tokio::test]
async fn calls_back_to_back_are_frozen_once_in_an_interval() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    let begun = std::time::Instant::now();
    for _ in 0..300 {
        house.add(id, 1).await;
    }
    let intervals = begun.elapsed().as_millis() as u64 / 50 + 2;
    let freezes = house.switches.freezes.load(Ordering::Relaxed);
    assert!(freezes <= intervals, "{freezes} freezes in {intervals} intervals");
    house.settled(id).await;
}

#[derive(Clone, Debug)]
enum Step {
    Add(i64),
    Grow,
    Trap,
    Settle,
    Suspend,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1i64..1000).prop_map(Step::Add),
        1 => Just(Step::Grow),
        1 => Just(Step::Trap),
        2 => Just(Step::Settle),
        1 => Just(Step::Suspend),
        2 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens, the state of turn n is the state after turn n.
    #[test]
    fn a_session_is_always_at_the_turn_it_says(steps in proptest::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut house = House::new().await;
            let id = house.create(Durability::Turn).await;
            let mut sums: HashMap<u64, i64> = HashMap::from([(0, 0)]);
            for step in steps {
                let before = house.get(id);
                if before.state == SessionState::Closed {
                    // Only a kill or a loss before the first checkpoint does that.
                    assert_eq!(before.closure.unwrap().reason, ClosureReason::Interrupted);
                    assert_eq!(before.checkpoint_time, None);
                    return;
                }
                match step {
                    Step::Add(number) => {
                        let sum = house.add(id, number).await;
                        assert_eq!(sum, sums[&before.turn] + number);
                        sums.insert(before.turn + 1, sum);
                    }
                    Step::Grow => {
                        house.call(id, json!({ "grow": 3 })).await.unwrap();
                        sums.insert(before.turn + 1, sums[&before.turn]);
                    }
                    Step::Trap => {
                        let ended = outcome(&house.call(id, json!({ "end": "trap", "add": 1 })).await.unwrap());
                        if let Some(interruption) = &ended.session_interruption {
                            assert_eq!(interruption.last_turn, before.turn);
                            assert!(interruption.resumed_turn <= before.turn);
                            assert_eq!(house.get(id).turn, interruption.resumed_turn);
                        }
                    }
                    Step::Settle if before.turn > 0 => house.settled(id).await,
                    Step::Suspend => {
                        let entry = house.sessions.owned(id, &"me".into()).unwrap();
                        house.sessions.suspend(&entry).await;
                    }
                    Step::Settle => {}
                    Step::Kill => {
                        house = house.killed().await;
                        let after = house.get(id);
                        assert!(after.turn <= before.turn && after.turn >= before.checkpoint_turn);
                    }
                }
            }
        });
    }
}
