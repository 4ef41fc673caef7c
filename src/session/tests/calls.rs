//! Calls: order, bounds, the turn that is expected, cancels and losses.

use super::house::*;
use crate::domain::execution::Exit;
use crate::domain::interruption::InterruptionReason;
use crate::domain::session::{ClosureReason, Durability, SessionLimitsRequest, SessionState};
use crate::error::Error;
use crate::execution::Ended;
use crate::session::{Caller, NewSession, SessionCall, SessionCalled, SessionSelection};
use serde_json::json;

#[tokio::test]
async fn state_lives_between_calls_and_turns_count() {
    let house = House::new().await;
    let id = house.create(Durability::None).await;
    assert_eq!(house.add(id, 40).await, 40);
    assert_eq!(house.add(id, 2).await, 42);
    let session = house.get(id);
    assert_eq!((session.turn, session.checkpoint_turn, session.state), (2, 0, SessionState::Ready));
    assert!(session.memory_bytes > 0 && session.idle_expires.is_some());
}

#[tokio::test]
async fn calls_run_in_the_order_they_came_and_the_line_is_bounded() {
    let house = House::new().await;
    let limits = SessionLimitsRequest { queue_length: Some(2), ..Default::default() };
    let id = house.sessions.create(NewSession { limits, ..new_session(Durability::None) }).await.unwrap().origin.id;
    let first = house.accept(house.session_call(id, json!({ "wait": 1, "add": 1 }))).await.unwrap();
    let second = house.accept(house.session_call(id, json!({ "add": 10 }))).await.unwrap();
    let third = house.accept(house.session_call(id, json!({ "add": 100 }))).await.unwrap();
    match house.accept(house.session_call(id, json!({}))).await {
        Err(Error::Overloaded { limit: 2, scope, .. }) => assert!(scope.contains(&id.to_string())),
        other => panic!("{:?}", other.err()),
    }
    // Driven in another order than they came.
    let (third, second, first) =
        (tokio::spawn(third.drive()), tokio::spawn(second.drive()), tokio::spawn(first.drive()));
    house.switches.waiting.acquire().await.unwrap().forget();
    let session = house.get(id);
    assert_eq!((session.state, session.queued), (SessionState::Busy, 2));
    assert!(session.idle_expires.is_none() && session.running.is_some());
    house.switches.gate.add_permits(1);
    assert_eq!(said(&first.await.unwrap().unwrap()), "1\n");
    assert_eq!(said(&second.await.unwrap().unwrap()), "11\n");
    assert_eq!(said(&third.await.unwrap().unwrap()), "111\n");
    assert_eq!(house.get(id).turn, 3);
}

#[tokio::test]
async fn an_expected_turn_that_is_not_there_runs_nothing() {
    let house = House::new().await;
    let id = house.create(Durability::None).await;
    let expecting = |turn| SessionCall { expected_turn: Some(turn), ..house.session_call(id, json!({ "add": 1 })) };
    match house.accept(expecting(5)).await {
        Err(Error::TurnMismatch { expected: 5, turn: 0, .. }) => {}
        other => panic!("{:?}", other.err()),
    }
    house.accept(expecting(0)).await.unwrap().drive().await.unwrap();
    // One that waits learns it when its turn comes.
    let first = house.accept(house.session_call(id, json!({ "wait": 1 }))).await.unwrap();
    let second = house.accept(expecting(1)).await.unwrap();
    let live = second.live().clone();
    let (first, second) = (tokio::spawn(first.drive()), tokio::spawn(second.drive()));
    house.switches.gate.add_permits(1);
    first.await.unwrap().unwrap();
    assert!(matches!(second.await.unwrap(), Err(Error::TurnMismatch { expected: 1, turn: 2, .. })));
    assert_eq!(outcome(&live).exit, Exit::NotStarted);
    assert_eq!((house.get(id).turn, house.get(id).queued), (2, 0));
    assert!(matches!(house.sessions.answer(live).await, Err(Error::NotStarted { .. })));
}

#[tokio::test]
async fn a_retry_with_the_same_request_id_is_not_run_again() {
    let house = House::new().await;
    let id = house.create(Durability::None).await;
    let call = |turn| {
        let mut call = house.session_call(id, json!({ "add": 1 }));
        call.start.request = Some((request(7), [7; 32]));
        SessionCall { expected_turn: turn, ..call }
    };
    house.accept(call(Some(0))).await.unwrap().drive().await.unwrap();
    let SessionCalled::Existing(live) = house.sessions.call(call(Some(0))).await.unwrap() else {
        panic!("it is the first one")
    };
    assert_eq!(said(&house.sessions.answer(live).await.unwrap()), "1\n");
    assert_eq!(house.get(id).turn, 1);
}

#[tokio::test]
async fn a_call_cancelled_while_it_waits_leaves_and_one_that_runs_loses_the_state() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    house.add(id, 5).await;
    house.settled(id).await;
    let running = house.accept(house.session_call(id, json!({ "wait": 1, "add": 100 }))).await.unwrap();
    let waiting = house.accept(house.session_call(id, json!({ "add": 1000 }))).await.unwrap();
    let (run, wait) = (running.live().clone(), waiting.live().clone());
    let (running, waiting) = (tokio::spawn(running.drive()), tokio::spawn(waiting.drive()));
    house.switches.waiting.acquire().await.unwrap().forget();
    wait.end(Ended::new(Exit::Cancelled, "no more"));
    assert_eq!(outcome(&waiting.await.unwrap().unwrap()).exit, Exit::Cancelled);
    assert_eq!((house.get(id).queued, house.get(id).turn), (0, 1));
    run.end(Ended::new(Exit::Cancelled, "no more"));
    let ended = outcome(&running.await.unwrap().unwrap());
    let interruption = ended.session_interruption.clone().expect("the state was lost");
    assert_eq!(interruption.reason, InterruptionReason::Cancelled);
    assert_eq!((interruption.last_turn, interruption.resumed_turn), (1, 1));
    assert_eq!(interruption.execution, Some(run.origin().id));
    let session = house.get(id);
    assert_eq!((session.state, session.turn), (SessionState::Suspended, 1));
    assert_eq!(session.interruption, Some(interruption));
    // The turn that was cut off left nothing.
    assert_eq!(house.add(id, 1).await, 6);
}

#[tokio::test]
async fn dropping_the_call_of_a_running_turn_is_a_cancel() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    house.add(id, 5).await;
    house.settled(id).await;
    let run = house.accept(house.session_call(id, json!({ "wait": 1, "add": 1 }))).await.unwrap();
    let live = run.live().clone();
    let running = tokio::spawn(run.drive());
    house.switches.waiting.acquire().await.unwrap().forget();
    running.abort();
    live.journal().ended().await;
    let ended = outcome(&live);
    assert_eq!(ended.exit, Exit::Cancelled);
    assert_eq!(ended.session_interruption.as_ref().unwrap().resumed_turn, 1);
    assert_eq!(house.add(id, 1).await, 6);
}

#[tokio::test]
async fn a_loss_without_a_checkpoint_closes_the_session_unless_nothing_was_lost() {
    let house = House::new().await;
    let id = house.create(Durability::None).await;
    // Nothing was there yet: it begins anew.
    let ended = outcome(&house.call(id, json!({ "end": "timeout" })).await.unwrap());
    assert_eq!(ended.session_interruption.as_ref().unwrap().reason, InterruptionReason::TimedOut);
    assert_eq!(house.add(id, 3).await, 3);
    let waiting = house.accept(house.session_call(id, json!({ "end": "trap", "wait": 1 }))).await.unwrap();
    let behind = house.accept(house.session_call(id, json!({ "add": 1 }))).await.unwrap();
    let (trapped, behind) = (tokio::spawn(waiting.drive()), tokio::spawn(behind.drive()));
    house.switches.gate.add_permits(1);
    let ended = outcome(&trapped.await.unwrap().unwrap());
    assert!(matches!(ended.exit, Exit::Trapped(_)) && ended.session_interruption.is_none());
    assert!(matches!(behind.await.unwrap(), Err(Error::SessionClosed { .. })));
    let session = house.get(id);
    assert_eq!(session.state, SessionState::Closed);
    assert_eq!(session.closure.unwrap().reason, ClosureReason::Interrupted);
    assert!(matches!(house.call(id, json!({})).await, Err(Error::SessionClosed { .. })));
    assert_eq!(house.sessions.load().1, 0, "its memory is given back");
}

#[tokio::test]
async fn closing_ends_running_and_waiting_calls() {
    let house = House::new().await;
    let id = house.create(Durability::Turn).await;
    let running = house.accept(house.session_call(id, json!({ "wait": 1 }))).await.unwrap();
    let waiting = house.accept(house.session_call(id, json!({}))).await.unwrap();
    let (running, waiting) = (tokio::spawn(running.drive()), tokio::spawn(waiting.drive()));
    house.switches.waiting.acquire().await.unwrap().forget();
    let closed = house.sessions.close(id, &me()).await.unwrap();
    assert_eq!(closed.closure.as_ref().unwrap().reason, ClosureReason::Closed);
    assert_eq!(outcome(&running.await.unwrap().unwrap()).exit, Exit::Cancelled);
    assert_eq!(outcome(&waiting.await.unwrap().unwrap()).exit, Exit::Cancelled);
    assert_eq!(house.sessions.close(id, &me()).await.unwrap().closure, closed.closure, "closing again changes nothing");
    assert_eq!(house.sessions.load().0, 0);
}

#[tokio::test]
async fn sessions_of_others_are_not_there() {
    let house = House::new().await;
    let id = house.create(Durability::None).await;
    let other = Caller { name: "other".into(), administers: false };
    let admin = Caller { name: "root".into(), administers: true };
    assert!(matches!(house.sessions.get(id, &other), Err(Error::SessionNotFound { .. })));
    assert!(matches!(house.sessions.close(id, &other).await, Err(Error::SessionNotFound { .. })));
    let mut call = house.session_call(id, json!({}));
    call.start.principal = "other".into();
    assert!(matches!(house.sessions.call(call).await, Err(Error::SessionNotFound { .. })));
    let all = SessionSelection::default();
    assert!(house.sessions.list(&all, &other, None, 10).unwrap().is_empty());
    assert_eq!(house.sessions.list(&all, &admin, None, 10).unwrap().len(), 1);
    let of_me = SessionSelection { principal: Some("me".into()), ..all };
    assert!(matches!(house.sessions.list(&of_me, &other, None, 10), Err(Error::PermissionDenied { .. })));
    let mut wrong = house.session_call(id, json!({}));
    wrong.tool = "other".into();
    assert!(matches!(house.sessions.call(wrong).await, Err(Error::TargetMismatch { .. })));
}
