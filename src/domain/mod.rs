//! Plain data that every room of the house shares: ids, limits, executions, events, tools.
//!
//! Nothing here knows gRPC, Docker or WebAssembly, and nothing here does I/O.

pub mod container;
pub mod event;
pub mod execution;
pub mod file;
pub mod health_check;
pub mod id;
pub mod image;
pub mod input;
pub mod interruption;
pub mod io;
pub mod limits;
pub mod loan;
pub mod manifest;
pub mod output;
pub mod pattern;
pub mod pool;
pub mod session;
pub mod snapshot;
pub mod time;
