//! What version 1 of the blobs held: read, never written. Its types are those of the domain as they were then.

use crate::domain::event::{Event, EventKind, LogLevel, OutputStream, Progress, Truncated};
use crate::domain::execution::{ExecutionState, Exit, Outcome, Subject, Usage};
use crate::domain::limits::Limits;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// What of a record is not in columns.
#[derive(Deserialize)]
pub(super) struct Detail {
    pub(super) subject: Subject,
    pub(super) limits: OldLimits,
    pub(super) outcome: Option<OldOutcome>,
}

#[derive(Deserialize)]
pub(super) struct OldLimits {
    wall_time: Duration,
    memory_bytes: u64,
    table_elements: u64,
    stack_bytes: u64,
    output_bytes: u64,
    host_calls: u64,
    fuel: Option<u64>,
}

impl From<OldLimits> for Limits {
    fn from(old: OldLimits) -> Self {
        let OldLimits { wall_time, memory_bytes, table_elements, stack_bytes, output_bytes, host_calls, fuel } = old;
        Limits {
            wall_time,
            memory_bytes,
            table_elements,
            stack_bytes,
            output_bytes,
            host_calls,
            fuel,
            // Then a run had no scratch directory, and its code could call no tools.
            scratch_bytes: 0,
            child_executions: 0,
            child_depth: 0,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct OldOutcome {
    exit: Exit,
    message: String,
    usage: OldUsage,
}

impl From<OldOutcome> for Outcome {
    fn from(old: OldOutcome) -> Self {
        Outcome::new(old.exit, old.message, old.usage.into())
    }
}

#[derive(Deserialize)]
struct OldUsage {
    queue_time: Duration,
    run_time: Duration,
    peak_memory_bytes: u64,
    fuel: u64,
    host_calls: u64,
    stdout_bytes: u64,
    stderr_bytes: u64,
    dropped_bytes: u64,
    truncated: bool,
}

impl From<OldUsage> for Usage {
    fn from(old: OldUsage) -> Self {
        Usage {
            queue_time: old.queue_time,
            run_time: old.run_time,
            peak_memory_bytes: old.peak_memory_bytes,
            fuel: old.fuel,
            host_calls: old.host_calls,
            stdout_bytes: old.stdout_bytes,
            stderr_bytes: old.stderr_bytes,
            dropped_bytes: old.dropped_bytes,
            truncated: old.truncated,
            ..Usage::default()
        }
    }
}

/// An event of a journal.
#[derive(Deserialize)]
pub(super) struct OldEvent {
    sequence: u64,
    time: Timestamp,
    kind: OldKind,
}

#[derive(Deserialize)]
enum OldKind {
    Started { pid: i32 },
    Output { stream: OutputStream, offset: u64, data: bytes::Bytes },
    Log { level: LogLevel, message: Arc<str> },
    Progress(Arc<Progress>),
    Truncated(Truncated),
    Finished { state: ExecutionState, outcome: OldOutcome },
}

impl From<OldEvent> for Event {
    fn from(OldEvent { sequence, time, kind }: OldEvent) -> Self {
        let kind = match kind {
            OldKind::Started { pid } => EventKind::Started { pid },
            OldKind::Output { stream, offset, data } => EventKind::Output { stream, offset, data },
            OldKind::Log { level, message } => EventKind::Log { level, message },
            OldKind::Progress(progress) => EventKind::Progress(progress),
            OldKind::Truncated(gap) => EventKind::Truncated(gap),
            OldKind::Finished { state, outcome } => EventKind::Finished { state, outcome: Arc::new(outcome.into()) },
        };
        Event { sequence, time, kind }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::event::{Event, EventKind};
    use crate::domain::execution::{Exit, Subject};
    use crate::domain::id::{ExecutionId, RequestId};
    use crate::store::executions::{self, Filter};
    use crate::store::schema::MIGRATIONS;
    use crate::store::{NoObserver, SCHEMA_VERSION, Store};
    use std::sync::Arc;

    #[tokio::test]
    async fn a_database_of_the_build_before_opens_and_reads_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let old = rusqlite::Connection::open(folder.path().join("casemate.db")).unwrap();
        old.execute_batch(&format!(
            "{} {} {} PRAGMA application_id = 1131629940; PRAGMA user_version = 2;",
            MIGRATIONS[0],
            MIGRATIONS[1],
            include_str!("version1.sql")
        ))
        .unwrap();
        drop(old);

        let store = Store::open(folder.path(), Arc::new(NoObserver)).unwrap();
        let (mut found, journals) = store
            .write(|db| {
                let found = executions::list(db, &Filter::default(), None, 10)?;
                let journals = found.iter().map(|one| executions::events(db, one.origin.id));
                let journals: Vec<Vec<Event>> = journals.collect::<rusqlite::Result<_>>()?;
                Ok((found, journals))
            })
            .await
            .unwrap();
        let echo = found.pop().unwrap();
        let Subject::Tool { name, version, .. } = &echo.origin.subject else { panic!("a tool ran") };
        assert_eq!((&**name, &**version, echo.origin.labels["a"].as_str()), ("echo", "1.0.0", "b"));
        assert_eq!((echo.origin.limits.memory_bytes, echo.origin.limits.scratch_bytes), (64 << 20, 0));
        let outcome = echo.outcome.clone().unwrap();
        assert_eq!((&outcome.exit, outcome.usage.stdout_bytes), (&Exit::Exited { code: 0 }, 16));
        let journal = &journals[1];
        assert!(matches!(&journal[1].kind, EventKind::Output { data, .. } if data == "{\"text\":\"kept\"}\n"));
        assert!(matches!(&journal[2].kind, EventKind::Finished { outcome: end, .. } if *end == outcome));

        // What is written anew is read as well, and a retry still finds its execution.
        let request_id: RequestId = "0199f3c2-7d1e-4c1b-9a52-1d1f6a3b8c77".parse().unwrap();
        let (id, journal) = (echo.origin.id, journal.clone());
        let written = echo.clone();
        let (again, events, intent) = store
            .write(move |db| {
                executions::put(db, &written, None, Some(&journal))?;
                let intent = executions::intent(db, "local", request_id)?;
                Ok((executions::get(db, id)?, executions::events(db, id)?, intent))
            })
            .await
            .unwrap();
        assert_eq!(format!("{:?}", again.unwrap()), format!("{echo:?}"));
        assert_eq!(events, journals[1]);
        assert_eq!(intent.map(|intent| intent.execution), Some(id));
        let no_session = Filter { parent: Some(ExecutionId::new()), ..Filter::default() };
        let none = store.write(move |db| executions::list(db, &no_session, None, 10)).await.unwrap();
        assert!(none.is_empty() && SCHEMA_VERSION > 2);
    }
}
