//! One execution in memory: what it came from, its journal, its input, and the way to end it.

use super::journal::{Journal, Standing, Totals};
use super::stdin::Stdin;
use crate::domain::event::{LogLevel, OutputStream, Progress};
use crate::domain::execution::{Execution, Exit, Origin, Outcome, Usage};
use crate::domain::io::{InputRead, InputSource, Meter, OutputSink};
use crate::domain::time::Timestamp;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

/// An execution in memory. The runner writes to it, readers read from it, and it outlives both.
pub struct Live {
    origin: Arc<Origin>,
    fingerprint: Option<[u8; 32]>,
    journal: Journal,
    stdin: Stdin,
    meter: Arc<Meter>,
    end: OnceLock<Ended>,
    end_wished: Notify,
    /// Whether the store knows of it.
    recorded: AtomicBool,
    /// Sequence up to which the store has its events.
    flushed: AtomicU64,
    /// Whether the store has it as it ended.
    kept: AtomicBool,
}

/// How a guest came to its end: the reason, and a sentence for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Why.
    pub exit: Exit,
    /// What happened and what to do; empty for a plain success.
    pub message: String,
}

impl Live {
    pub(super) fn new(origin: Origin, fingerprint: Option<[u8; 32]>, stdin: Stdin) -> Arc<Live> {
        Arc::new(Live {
            journal: Journal::new(origin.limits.output_bytes),
            origin: Arc::new(origin),
            fingerprint,
            stdin,
            meter: Arc::default(),
            end: OnceLock::new(),
            end_wished: Notify::new(),
            recorded: AtomicBool::new(false),
            flushed: AtomicU64::new(0),
            kept: AtomicBool::new(false),
        })
    }

    /// An execution that the store remembers, with its events.
    pub(super) fn from_store(execution: Execution, events: Vec<crate::domain::event::Event>) -> Arc<Live> {
        let standing = Standing {
            state: execution.state,
            started: execution.started,
            ended: execution.ended.zip(execution.outcome),
            last_sequence: execution.last_sequence,
        };
        let stdin = Stdin::new(Bytes::new(), false);
        Arc::new(Live {
            journal: Journal::frozen(events, standing),
            origin: execution.origin,
            fingerprint: None,
            stdin,
            meter: Arc::default(),
            end: OnceLock::new(),
            end_wished: Notify::new(),
            recorded: AtomicBool::new(true),
            flushed: AtomicU64::new(0),
            kept: AtomicBool::new(true),
        })
    }

    /// What was known from the start.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Its events.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Its standard input.
    pub fn stdin(&self) -> &Stdin {
        &self.stdin
    }

    /// What it has consumed.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// How it stands now.
    pub fn execution(&self) -> Execution {
        self.execution_with(self.journal.standing())
    }

    pub(super) fn execution_with(&self, standing: Standing) -> Execution {
        let (ended, outcome) = standing.ended.unzip();
        Execution {
            origin: self.origin.clone(),
            state: standing.state,
            started: standing.started,
            ended,
            last_sequence: standing.last_sequence,
            stdin_offset: self.stdin.offset(),
            outcome,
        }
    }

    /// Asks it to end for this reason; the first reason counts.
    pub fn end(&self, reason: Ended) {
        if self.end.set(reason).is_ok() {
            self.end_wished.notify_waiters();
        }
    }

    /// The reason for which somebody asked it to end.
    pub(super) fn end_reason(&self) -> Option<Ended> {
        self.end.get().cloned()
    }

    /// Waits until somebody asks it to end. Only for a guest that is conducted; one that is driven is dropped.
    pub async fn end_wished(&self) -> Ended {
        let mut wished = std::pin::pin!(self.end_wished.notified());
        loop {
            wished.as_mut().enable();
            if let Some(reason) = self.end.get() {
                return reason.clone();
            }
            wished.as_mut().await;
            wished.set(self.end_wished.notified());
        }
    }

    /// Fixes how it ended; readers see it after `journal().publish()`.
    pub(super) fn close(&self, ended: Ended) -> bool {
        self.stdin.close();
        self.journal.close(|totals, started, now| self.outcome(ended, totals, started, now))
    }

    fn outcome(&self, ended: Ended, totals: Totals, started: Option<Timestamp>, now: Timestamp) -> Outcome {
        let (peak_memory_bytes, fuel, host_calls) = self.meter.read();
        let created = self.origin.created;
        Outcome {
            exit: ended.exit,
            message: ended.message,
            usage: Usage {
                queue_time: started.unwrap_or(now).since(created),
                run_time: started.map_or(Duration::ZERO, |started| now.since(started)),
                peak_memory_bytes,
                fuel,
                host_calls,
                stdout_bytes: totals.stdout_bytes,
                stderr_bytes: totals.stderr_bytes,
                dropped_bytes: totals.dropped_bytes,
                truncated: totals.truncated,
            },
        }
    }

    pub(super) fn fingerprint(&self) -> Option<&[u8; 32]> {
        self.fingerprint.as_ref()
    }

    /// Whether its outcome must be in the store before anybody hears of it.
    pub(super) fn is_durable(&self) -> bool {
        self.origin.request_id.is_some()
    }

    pub(super) fn recorded(&self) -> &AtomicBool {
        &self.recorded
    }

    pub(super) fn flushed(&self) -> &AtomicU64 {
        &self.flushed
    }

    /// Whether the store has it as it ended.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    pub(super) fn set_kept(&self) {
        self.kept.store(true, Ordering::Release);
    }
}

impl OutputSink for Live {
    fn write(&self, stream: OutputStream, data: Bytes) {
        self.journal.write(stream, data);
    }

    fn log(&self, level: LogLevel, message: String) {
        self.journal.log(level, message);
    }

    fn progress(&self, progress: Progress) {
        self.journal.progress(progress);
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.journal.poll_room(cx)
    }

    fn go_on(&self) {
        self.journal.go_on();
    }
}

impl InputSource for Live {
    fn read(&self, max: usize) -> InputRead {
        self.stdin.read(max)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stdin.poll_ready(cx)
    }
}
