//! Casemate runs what AI agents ask for in the tightest sandbox that can do the job, keeps what it said, and
//! loses nothing when the server dies.
//!
//! # The house
//!
//! ```text
//! cli                          one file per verb
//! app                          the only composition root
//! rpc   http                   the gRPC edge | health and metrics over HTTP
//! auth  health  telemetry      who may | how it is | what it tells
//! config                       typed sections; the only reader of the environment
//! tool                         manifests, schemas, the catalog, the call
//! pool                         pools of containers: filling, the line, leases
//! container                    containers: backend, guest link, processes, lives, adoption after a crash
//! session                      live state between calls: line, turns, checkpoints, forks, snapshots
//! execution                    registry, journal, input, admission, records
//! interpreter                  Python and JavaScript: images, isolates, files in memory
//! engine                       WASM: variants, cache, compiler, limits, host interface
//! store                        the embedded database
//! domain  error  proto         plain data | the one error | the generated contract
//! ```
//!
//! Arrows point down; `tests/architecture.rs` insists.
//!
//! # The journey of one call
//!
//! `rpc::edge` recognises the caller and checks the permission; `rpc::convert` makes a [`tool::Call`] of the
//! message; [`tool::ToolService`] validates the parameters and resolves the limits; [`execution::Registry`]
//! gives it a slot and, for a `request_id`, commits the intent; [`engine::Program::run`] runs a fresh
//! instance on the caller's own task; output becomes numbered events of an [`execution::journal::Journal`],
//! which any number of readers follow; the outcome is recorded and the answer converted back.
//!
//! # As a library
//!
//! [`engine`] and [`execution`] work without gRPC: see the examples in their documentation and in
//! `examples/`. `docs/architecture.md` tells the reasons.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod container;
pub mod domain;
pub mod engine;
pub mod error;
pub mod execution;
pub mod health;
pub mod http;
pub mod interpreter;
pub mod jupyter;
pub mod pool;
pub mod proto;
pub mod rpc;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod tool;

pub use error::{Error, Result};
