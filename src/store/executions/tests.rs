use super::recovery::UNKNOWN_EVENTS;
use super::*;
use crate::domain::event::{EventKind, OutputStream, Truncated};
use crate::domain::execution::{ExecutionState, Exit, Origin, Outcome, Usage};
use crate::domain::limits::LimitsPolicy;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn finished(created: Timestamp) -> Execution {
    let outcome = Outcome::new(Exit::Exited { code: 0 }, "", Usage::default());
    Execution {
        origin: Arc::new(Origin {
            id: ExecutionId::new(),
            subject: Subject::Tool { name: "t".into(), version: "1".into(), digest: "d".into() },
            principal: "p".into(),
            request_id: None,
            labels: [("quote\"d".to_owned(), "v".to_owned())].into(),
            limits: LimitsPolicy::default().defaults,
            created,
            session: None,
            parent: None,
            target: "".into(),
        }),
        state: ExecutionState::Succeeded,
        started: Some(created),
        ended: Some(created),
        last_sequence: 1,
        stdin_offset: 0,
        session_turn: 0,
        outcome: Some(outcome.into()),
    }
}

fn unfinished(created: Timestamp) -> Execution {
    Execution { state: ExecutionState::Running, ended: None, outcome: None, ..finished(created) }
}

fn output(sequence: u64, offset: u64, data: &'static str) -> Event {
    let kind = EventKind::Output { stream: OutputStream::Stdout, offset, data: data.into() };
    Event { sequence, time: Timestamp(sequence), kind }
}

async fn with<T: Send + 'static>(job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> T {
    Store::in_memory().unwrap().write(job).await.unwrap()
}

#[tokio::test]
async fn records_come_back_as_they_were() {
    with(|db| {
        let execution = finished(Timestamp(5));
        put(db, &execution, None, Some(&[output(1, 0, "hi")]))?;
        let found = get(db, execution.origin.id)?.expect("it was put");
        assert_eq!(format!("{found:?}"), format!("{execution:?}"));
        assert_eq!(events(db, execution.origin.id)?, [output(1, 0, "hi")]);
        let filter = Filter { labels: execution.origin.labels.clone(), ..Filter::default() };
        assert_eq!(list(db, &filter, None, 10)?.len(), 1);
        assert_eq!(list(db, &Filter { tool: Some("other".into()), ..filter }, None, 10)?.len(), 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_belongs_to_a_session_or_a_parent_is_kept_and_listed_by_it() {
    with(|db| {
        let (session, parent) = (SessionId::new(), ExecutionId::new());
        let mut inside = finished(Timestamp(1));
        inside.session_turn = 7;
        inside.origin = Arc::new(Origin {
            session: Some(session),
            parent: Some(parent),
            target: format!("session {session}").into(),
            ..Origin::clone(&inside.origin)
        });
        put(db, &inside, None, Some(&[]))?;
        put(db, &finished(Timestamp(2)), None, Some(&[]))?;
        let found = get(db, inside.origin.id)?.expect("it was put");
        assert_eq!(format!("{found:?}"), format!("{inside:?}"));
        let ids = |filter: Filter| -> rusqlite::Result<Vec<ExecutionId>> {
            Ok(list(db, &filter, None, 10)?.iter().map(|execution| execution.origin.id).collect())
        };
        assert_eq!(ids(Filter { session: Some(session), ..Filter::default() })?, [inside.origin.id]);
        assert_eq!(ids(Filter { parent: Some(parent), ..Filter::default() })?, [inside.origin.id]);
        assert_eq!(ids(Filter { session: Some(SessionId::new()), ..Filter::default() })?, []);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn retention_counts_age_number_and_bytes_and_spares_what_runs() {
    with(|db| {
        let now = Timestamp::now();
        let wide = Retention { max_count: u64::MAX, max_age: DAY * 365, max_bytes: u64::MAX };
        let running = unfinished(now.before(DAY * 9));
        put(db, &running, None, None)?;
        for age in [8, 6, 4, 2, 0] {
            put(db, &finished(now.before(DAY * age)), None, Some(&[]))?;
        }
        let left = |db: &Connection| list(db, &Filter::default(), None, 100).map(|rest| rest.len());
        assert_eq!(enforce_retention(db, &wide, now, 100)?, 0);
        assert_eq!(enforce_retention(db, &Retention { max_age: DAY * 5, ..wide }, now, 100)?, 2);
        assert_eq!(left(db)?, 4);
        assert_eq!(enforce_retention(db, &Retention { max_count: 3, ..wide }, now, 100)?, 1);
        assert_eq!(enforce_retention(db, &Retention { max_bytes: 0, ..wide }, now, 100)?, 2);
        assert_eq!(left(db)?, 1);
        assert!(get(db, running.origin.id)?.is_some(), "what runs stays");
        // The totals went along: a bound of one is met.
        assert_eq!(enforce_retention(db, &Retention { max_count: 1, ..wide }, now, 100)?, 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_was_flushed_of_a_lost_run_is_kept_with_its_gaps_declared() {
    with(|db| {
        let lost = unfinished(Timestamp(1));
        let id = lost.origin.id;
        put(db, &lost, None, None)?;
        add_chunk(db, id, &[output(1, 0, "ab"), output(2, 2, "cd")])?;
        add_chunk(db, id, &[output(3, 4, "ef")])?;
        add_chunk(db, id, &[output(9, 100, "yz")])?;
        trim_chunks(db, id, 9)?;
        assert_eq!(recover(db, Timestamp(50), &Default::default())?, 1);
        assert_eq!(recover(db, Timestamp(60), &Default::default())?, 0, "once");

        let found = get(db, id)?.expect("it is kept");
        assert_eq!(found.state, ExecutionState::Lost);
        let events = events(db, id)?;
        let shape: Vec<(u64, Option<Truncated>)> = events
            .iter()
            .map(|event| match event.kind {
                EventKind::Truncated(gap) => (event.sequence, Some(gap)),
                _ => (event.sequence, None),
            })
            .collect();
        let gap = |first_sequence, stdout_offset| Some(Truncated { first_sequence, stdout_offset, stderr_offset: 0 });
        let last = 9 + UNKNOWN_EVENTS;
        assert_eq!(shape, [(1, None), (2, None), (8, gap(3, 100)), (9, None), (last, gap(10, 102)), (last + 1, None)]);
        assert_eq!(found.last_sequence, last + 1);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn one_job_that_fails_takes_back_only_itself() {
    let store = Store::in_memory().unwrap();
    let (good, bad) = (finished(Timestamp(1)), finished(Timestamp(2)));
    let (good_id, bad_id) = (good.origin.id, bad.origin.id);
    let first = store.write(move |db| put(db, &good, None, None));
    let second = store.write(move |db| {
        put(db, &bad, None, None)?;
        db.execute("INSERT INTO no_such_table VALUES (1)", [])
    });
    let (first, second) = (first.await, second.await);
    assert!(first.is_ok() && second.is_err());
    let (kept, gone) =
        store.write(move |db| Ok((get(db, good_id)?.is_some(), get(db, bad_id)?.is_some()))).await.unwrap();
    assert!(kept && !gone);
}
