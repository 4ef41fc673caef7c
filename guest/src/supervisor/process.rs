//! A process as the guest knows it, until the server releases it.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;

use casemate_guest::protocol::{Exit, Process as Known, ProcessId, StartFailure};
use tokio::sync::Notify;

use super::journal::{Journal, Place};
use super::stdin::Input;

/// A process that has a name.
#[derive(Debug)]
pub struct Process {
    /// Its name.
    pub id: ProcessId,
    /// What changes. Never borrowed across a wait.
    pub state: RefCell<State>,
    /// Tells the task of this process that something was asked, or that output was sent.
    pub wake: Notify,
    /// It has a place in the line of those that have something to tell.
    pub queued: Cell<bool>,
}

/// What changes about a process.
#[derive(Debug, Default)]
pub struct State {
    /// Its number, once it runs.
    pub pid: Option<i32>,
    /// The number of its keeper, as long as that lives.
    pub keeper: Option<i32>,
    /// Why it was not started.
    pub failure: Option<StartFailure>,
    /// How it ended. All of its output is in the journal then.
    pub exit: Option<Exit>,
    /// What it wrote.
    pub journal: Journal,
    /// What it is to read.
    pub input: Input,
    /// The end of the input was passed on.
    pub input_ended: bool,
    /// Its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// All below the keeper is to be killed.
    pub doomed: bool,
    /// The server or the guest killed it, so the kernel did not.
    pub killed: bool,
    /// The wall time is over.
    pub timed_out: bool,
    /// What the server knows, and what it asked for.
    pub link: Link,
}

/// What the connected server knows about a process. All of it goes with the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Where it reads, if it does.
    pub attached: Option<Place>,
    /// Bytes that may be sent.
    pub credit: u64,
    /// It is to be told that the process runs, or does not.
    pub start_due: bool,
    /// It is to be told about the input.
    pub input_due: bool,
    /// It is to be told about the end, after all output.
    pub exit_due: bool,
}

impl Process {
    /// One that is not started yet.
    pub fn new(id: ProcessId, journal_bytes: usize) -> Self {
        let state = State { journal: Journal::new(journal_bytes), ..State::default() };
        Self { id, state: RefCell::new(state), wake: Notify::new(), queued: Cell::new(false) }
    }

    /// What a new server is told about it.
    pub fn known(&self) -> Known {
        let state = self.state.borrow();
        Known {
            id: self.id,
            pid: state.pid.filter(|_| state.exit.is_none()).and_then(|pid| u32::try_from(pid).ok()),
            exit: state.exit,
            failure: state.failure.clone(),
            position: state.journal.end().position,
            stdin: state.input.held(),
            stdin_taken: state.input.taken(),
            stdin_closed: state.input.is_closed(),
        }
    }
}

impl State {
    /// Whether a server reads, but is so far behind that output would soon be dropped.
    pub fn lags(&self) -> bool {
        let behind = self.link.attached.map(|place| self.journal.end().position.saturating_sub(place.position));
        behind.is_some_and(|behind| behind > self.journal.limit() as u64 / 2)
    }
}
