//! The ports between whatever runs a guest and whatever keeps its output: the engine and, later,
//! container links write to an [`OutputSink`] and read from an [`InputSource`] without knowing journals.

use super::event::{LogLevel, OutputStream, Progress};
use super::output::{ChildEvent, FileChunk, RichOutput, Stage};
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Takes what a guest says. Never blocks and never fails: keeping bounds is the sink's affair. It may ask
/// for a moment's patience, and gets no more than that.
pub trait OutputSink: Send + Sync + 'static {
    /// The guest wrote these bytes.
    fn write(&self, stream: OutputStream, data: Bytes);
    /// The guest sent a log line.
    fn log(&self, level: LogLevel, message: String);
    /// The guest told its progress.
    fn progress(&self, progress: Progress);
    /// The guest produced something to look at.
    fn rich(&self, _output: RichOutput) {}
    /// The guest's code called another tool, or such a call ended.
    fn child(&self, _event: ChildEvent) {}
    /// A stage of the run begins.
    fn stage(&self, _stage: Stage) {}
    /// A piece of a file that the run left; after everything else it said.
    fn file(&self, _chunk: FileChunk) {}
    /// Ready when more output makes nobody who keeps up lose any; otherwise wakes the task when that
    /// changes. Who writes waits a moment at most, then calls [`OutputSink::go_on`] and writes all the same.
    fn poll_room(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
    /// The writer's patience is over.
    fn go_on(&self) {}
}

/// Gives a guest its standard input.
pub trait InputSource: Send + Sync + 'static {
    /// Up to `max` bytes if there are any now.
    fn read(&self, max: usize) -> InputRead;
    /// Ready when `read` would not answer [`InputRead::Pending`]; otherwise wakes the task when that changes.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// An answer of [`InputSource::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputRead {
    /// At least one byte.
    Data(Bytes),
    /// No more will come.
    Eof,
    /// Nothing yet.
    Pending,
}

/// What a run has consumed so far. The runner counts up, so that even a run that is cut off in the
/// middle, its future dropped, leaves its figures behind.
#[derive(Debug, Default)]
pub struct Meter {
    peak_memory: AtomicU64,
    fuel: AtomicU64,
    host_calls: AtomicU64,
    child_executions: AtomicU64,
    scratch: AtomicU64,
}

/// The figures of a [`Meter`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// Highest memory in bytes.
    pub peak_memory_bytes: u64,
    /// Fuel; 0 when not metered.
    pub fuel: u64,
    /// Host calls, refused ones included.
    pub host_calls: u64,
    /// Calls of other tools, refused ones included.
    pub child_executions: u64,
    /// Highest size of the scratch directory in bytes.
    pub scratch_bytes: u64,
}

impl Meter {
    /// Notes a memory size; the highest one counts.
    pub fn memory(&self, bytes: u64) {
        self.peak_memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Sets the fuel consumed.
    pub fn fuel(&self, fuel: u64) {
        self.fuel.store(fuel, Ordering::Relaxed);
    }

    /// Counts one host call and says how many there were before it.
    pub fn host_call(&self) -> u64 {
        self.host_calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts one call of another tool and says how many there were before it.
    pub fn child_execution(&self) -> u64 {
        self.child_executions.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts the calls that a called tool made itself.
    pub fn nested_executions(&self, count: u64) {
        self.child_executions.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes a size of the scratch directory; the highest one counts.
    pub fn scratch(&self, bytes: u64) {
        self.scratch.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The figures so far.
    pub fn read(&self) -> Consumed {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Consumed {
            peak_memory_bytes: get(&self.peak_memory),
            fuel: get(&self.fuel),
            host_calls: get(&self.host_calls),
            child_executions: get(&self.child_executions),
            scratch_bytes: get(&self.scratch),
        }
    }
}
