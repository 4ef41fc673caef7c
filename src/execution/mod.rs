//! Executions as a resource: begun, watched, replayed, bounded, ended, and remembered.
//!
//! This room knows nothing of what runs. A [`Registry`] admits an execution and hands out a
//! [`Run`]; whoever holds it drives any future as the guest, which writes its output to the
//! [`Live`] execution. Readers follow the [`journal::Journal`] from any sequence; the keeper writes
//! to the store.
//!
//! ```
//! use casemate::domain::execution::{Exit, Subject};
//! use casemate::domain::event::OutputStream;
//! use casemate::domain::io::OutputSink;
//! use casemate::domain::limits::LimitsPolicy;
//! use casemate::execution::{Begun, Ended, Lane, NoObserver, Registry, RegistryConfig, Start};
//! use casemate::store::Store;
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> casemate::Result<()> {
//! let store = Arc::new(Store::in_memory()?);
//! let registry = Registry::open(store, RegistryConfig::default(), Arc::new(NoObserver)).await?;
//! let start = Start {
//!     id: None,
//!     subject: Subject::Tool { name: "greet".into(), version: "1".into(), digest: "".into() },
//!     principal: "me".into(),
//!     request: None,
//!     labels: Default::default(),
//!     limits: LimitsPolicy::default().defaults,
//!     stdin: Default::default(),
//!     stdin_given: Default::default(),
//!     stdin_open: false,
//!     session: None,
//!     parent: None,
//!     target: "".into(),
//!     lane: Lane::new("tool \"greet\"", 8),
//! };
//! let Begun::New(run) = registry.begin(start).await? else { unreachable!("no request id, so it is new") };
//! let live = run
//!     .drive(|live| async move {
//!         live.write(OutputStream::Stdout, "hello".into());
//!         Ended::new(Exit::Exited { code: 0 }, "")
//!     })
//!     .await?;
//! assert_eq!(live.journal().collect(OutputStream::Stdout).0, "hello");
//! # Ok(())
//! # }
//! ```

mod admission;
mod ended;
pub mod journal;
mod keeper;
mod ledger;
mod live;
mod recent;
mod registry;
mod run;
pub mod stdin;
mod survival;

pub use admission::{Lane, Slot};
pub use ended::Ended;
pub use live::Live;
pub use registry::{Begun, NoObserver, Registry, RegistryConfig, RegistryObserver, Start};
pub use run::{Run, Turnstile};
