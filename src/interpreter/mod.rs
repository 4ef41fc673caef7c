//! Python and JavaScript in WASM isolates: code once, state as data.

mod children;
mod files;
pub mod install;
mod library;
pub mod memory;
pub mod module;
pub mod python;
mod runtime;
mod service;
mod talk;
pub mod wasi;

pub use children::{Children, Refused, Returned};
pub use memory::{Image, SlotFacts, Tenant};
pub use runtime::{Isolate, Language, Runtime, Turned, compile, fingerprint};
pub use service::{Ended, Interpreter, Interpreters, InterpretersConfig, Run};
pub use talk::{Said, Turn};
