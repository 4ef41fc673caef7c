//! Casemate runs what AI agents ask for in the tightest sandbox that can do the job.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engine;
pub mod error;
pub mod execution;
pub mod health;
pub mod http;
pub mod proto;
pub mod rpc;
pub mod store;
pub mod telemetry;
pub mod tool;

pub use error::{Error, Result};
