//! WASI preview 1 over plain data: files in memory, a table of descriptors, and ports for the streams.
//!
//! No file of the host can be reached through it, because it has none. Opening an isolate costs nothing, its
//! quota is exact, and all of its state can be copied, written down and brought back.

mod calls;
mod descriptors;
mod errno;
mod files;
mod frozen;
mod memory;
mod node;
mod open;
mod path;
mod poll;
#[cfg(test)]
mod tests;
mod tree;

pub use files::{Change, SCRATCH};
pub use node::{Base, Part};

use crate::domain::io::{InputSource, OutputSink};
use bytes::Bytes;
use descriptors::{Descriptor, Table};
use frozen::Changes;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tree::Tree;

/// Bytes of one message to the channel at most.
const MAX_FRAME: usize = 16 << 20;

/// Bytes of an answer at most; it may hold a whole message and what is said about it.
const MAX_ANSWER: usize = 2 * MAX_FRAME;

/// The other end of `/dev/host`: a message is a length in four bytes, the lowest first, and that many bytes.
pub trait Channel: Send + Sync + 'static {
    /// Answers one message.
    fn call(&self, request: Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send + '_>>;
}

/// Who has a [`Wasi`] in its store.
pub trait View: Send + 'static {
    /// It.
    fn wasi(&mut self) -> &mut Wasi;
}

/// What an isolate begins with.
pub struct Config {
    /// Program name and arguments.
    pub arguments: Vec<String>,
    /// Environment variables, as `NAME=value`.
    pub environment: Vec<String>,
    /// Files that all isolates share.
    pub base: Arc<Base>,
    /// Names under which directories of the tree are open from the start, and their paths in the tree.
    pub preopens: Arc<[(String, String)]>,
    /// Standard input; without it there is none.
    pub input: Option<Arc<dyn InputSource>>,
    /// Takes standard output and standard error; without it they are dropped.
    pub output: Option<Arc<dyn OutputSink>>,
    /// Bytes of files it may have.
    pub scratch_bytes: u64,
}

/// The world of one isolate.
pub struct Wasi {
    arguments: Vec<String>,
    environment: Vec<String>,
    input: Option<Arc<dyn InputSource>>,
    output: Option<Arc<dyn OutputSink>>,
    channel: Option<Arc<dyn Channel>>,
    tree: Tree,
    table: Table,
    /// Nanoseconds of its life before it was last brought back.
    lived: u64,
    started: tokio::time::Instant,
}

/// All of it that outlives a turn, as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    files: Changes,
    table: Table,
    lived: u64,
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl Wasi {
    /// A fresh world.
    pub fn new(config: Config) -> Wasi {
        let table = Table::new(&config.base, &config.preopens);
        let tree = Tree::new(config.base, config.scratch_bytes);
        Wasi {
            arguments: config.arguments,
            environment: config.environment,
            input: config.input,
            output: config.output,
            channel: None,
            tree,
            table,
            lived: 0,
            started: tokio::time::Instant::now(),
        }
    }

    /// A world as it was, with these ports. `Err` says why the state is of no use.
    pub fn thaw(state: State, config: Config) -> Result<Wasi, &'static str> {
        let held = |ino| state.table.holds(ino);
        let tree = Tree::with(config.base.clone(), config.scratch_bytes, state.files, held)?;
        if !state.table.fits(&tree) {
            return Err("an open file is not there");
        }
        if state.lived > u64::MAX / 2 {
            return Err("it lived longer than can be");
        }
        Ok(Wasi { tree, table: state.table, lived: state.lived, ..Wasi::new(config) })
    }

    /// Its files and descriptors as data; contents are shared, not copied.
    pub fn freeze(&self) -> State {
        State { files: self.tree.changes(), table: self.table.clone(), lived: self.elapsed() }
    }

    /// Sets who talks to it during a turn.
    pub fn connect(
        &mut self,
        input: Option<Arc<dyn InputSource>>,
        output: Option<Arc<dyn OutputSink>>,
        channel: Option<Arc<dyn Channel>>,
    ) {
        (self.input, self.output, self.channel) = (input, output, channel);
    }

    /// Sets who answers at `/dev/host`.
    pub fn set_channel(&mut self, channel: Option<Arc<dyn Channel>>) {
        self.channel = channel;
    }

    /// Sets how many bytes of files it may have.
    pub fn set_scratch(&mut self, bytes: u64) {
        self.tree.set_limit(bytes);
        self.tree.reset_peak();
    }

    /// The most bytes of files there were.
    pub fn scratch_peak(&self) -> u64 {
        self.tree.peak()
    }

    /// Nanoseconds that it has been running, before it was frozen and since: its steady clock, which must not
    /// go back when it comes back.
    fn elapsed(&self) -> u64 {
        let since = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.lived.saturating_add(since)
    }

    fn descriptor(&mut self, fd: u32) -> errno::Result<&mut Descriptor> {
        self.table.get(fd)
    }
}

/// Adds preview 1 to a linker.
pub fn add_to_linker<T: View>(linker: &mut wasmtime::Linker<T>) -> wasmtime::Result<()> {
    calls::add(linker)?;
    poll::add(linker)
}
