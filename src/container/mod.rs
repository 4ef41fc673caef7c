//! Containers: hardened sandboxes with a supervisor as their first process, and executions inside them.

pub mod backend;
pub mod docker;
mod link;
mod process;
mod signal;
