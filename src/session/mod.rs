//! Sessions: state that lives between calls, and the snapshots from which it can start.
//!
//! This room knows nothing of what holds the state: a [`kernel::Kernel`] runs one call at a time, gives its state as
//! data and takes it back. What is done here is the same for all of them:
//! - calls run in the order they came, one at a time, and the line is bounded ([`line`]);
//! - state is written to disk behind the callers' backs, and a crash at any point leaves the last checkpoint whole
//!   ([`checkpoint`], [`saver`]);
//! - sessions are bounded in number, memory, disk, idle time and life, and their end has a reason ([`keep`]);
//! - after a kill of the server they go on as of their last checkpoint and say so ([`recovery`]).

mod build;
mod call;
pub mod checkpoint;
mod close;
mod config;
mod copy;
mod entry;
mod keep;
pub mod kernel;
pub mod line;
mod manager;
mod recovery;
mod room;
mod saver;
mod snapshot_draft;
mod snapshot_files;
mod snapshots;
#[cfg(test)]
mod tests;

pub use build::SnapshotBuild;
pub use call::{SessionCall, SessionCalled, SessionRun};
pub use config::SessionsConfig;
pub use copy::{Fork, SessionSnapshot};
pub use manager::{Caller, NewSession, NoObserver, SessionObserver, SessionSelection, Sessions};
pub use recovery::SessionsParts;
pub use snapshot_draft::{BuiltIns, Draft, NoBuiltIns, SnapshotSelection};
pub use snapshots::Snapshots;
