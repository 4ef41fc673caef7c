//! Executions that outlive the server: found again when it starts.

use super::ledger::{Ledger, Ledgers};
use super::live::Live;
use crate::domain::event::{Event, EventKind};
use crate::domain::execution::Origin;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::executions;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Begins the ledger of an execution that is to outlive the server.
pub(super) fn begin(ledgers: &Arc<Ledgers>, origin: &Origin, fingerprint: Option<&[u8; 32]>) -> Result<Arc<Ledger>> {
    ledgers.begin(origin, fingerprint).map(Arc::new).map_err(|error| unavailable(ledgers.directory(), &error))
}

/// The ledgers below a directory.
pub(super) fn open(directory: PathBuf) -> Result<Arc<Ledgers>> {
    Ledgers::open(directory.clone()).map_err(|error| unavailable(&directory, &error))
}

fn unavailable(directory: &Path, error: &std::io::Error) -> Error {
    Error::StoreUnavailable {
        problem: format!("cannot write in {}: {error}; free some room, or mend its permissions", directory.display()),
    }
}

/// The executions that a killed server left and that went on without it. All others that it left are lost.
pub(super) async fn find(store: &Arc<Store>, ledgers: Option<&Arc<Ledgers>>) -> Result<Vec<Arc<Live>>> {
    let mut entries = Vec::new();
    if let Some(ledgers) = ledgers {
        entries = ledgers.read_all().map_err(|error| unavailable(ledgers.directory(), &error))?;
    }
    let alive: HashSet<_> = entries.iter().map(|entry| entry.origin.id).collect();
    let ids = alive.clone();
    let lost = store.write(move |db| executions::recover(db, Timestamp::now(), &ids)).await?;
    if lost > 0 {
        tracing::warn!(executions = lost, "executions were cut off when the server died; they read as LOST");
    }
    let known = store
        .read(move |db| {
            let one = |id| Ok((id, executions::get(db, id)?, executions::said(db, id)?));
            alive.into_iter().map(one).collect::<rusqlite::Result<Vec<_>>>()
        })
        .await?;
    let mut found = Vec::new();
    let Some(ledgers) = ledgers else { return Ok(found) };
    for (id, execution, events) in known {
        let Some(at) = entries.iter().position(|entry| entry.origin.id == id) else { continue };
        let entry = entries.swap_remove(at);
        // The server died after the end was on disk, and before its ledger was gone.
        if execution.is_some_and(|execution| execution.state.is_final()) {
            entry.discard();
            continue;
        }
        let ledger = ledgers.resume(&entry).map_err(|error| unavailable(ledgers.directory(), &error))?;
        let (origin, ledger) = (Arc::new(entry.origin), Arc::new(ledger));
        found.push(Live::resumed(origin, entry.fingerprint, ledger, from_the_first(events), entry.marks));
    }
    Ok(found)
}

/// The events up to where one is missing: what follows is asked for again.
fn from_the_first(mut events: Vec<Event>) -> Vec<Event> {
    let mut next = 1;
    let whole = events.iter().take_while(|event| {
        let first = match &event.kind {
            EventKind::Truncated(gap) => gap.first_sequence,
            _ => event.sequence,
        };
        let follows = first == next;
        next = event.sequence + 1;
        follows
    });
    let whole = whole.count();
    events.truncate(whole);
    events
}
