//! Drives the real `casemate` binary over real sockets.

mod auth;
mod durability;
mod executions;
mod guests;
mod harness;
mod lifecycle;
mod limits;
mod sessions;
mod tools;
