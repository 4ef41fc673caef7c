//! Python and JavaScript in WASM isolates: code once, state as data.
//!
//! ```text
//! install   package -> verify -> take apart -> compile -> preload -> image
//! service   what is installed -> verified and loaded -> a fresh isolate for each run
//! kept      isolates that live on: frozen, brought back, copied     origin   what they start from
//! build     snapshots with further packages and preloaded modules
//! runtime   compiled code, isolates, turns        memory   images, slots, resets: all unsafe code
//! wasi      files and streams as data             talk     what guest and host say to each other
//! ```
//!
//! `docs/interpreters.md` explains the house rules: what a guest can do, and what bounds it.

mod build;
mod children;
mod files;
pub mod install;
pub mod javascript;
mod kept;
mod library;
pub mod memory;
pub mod module;
mod origin;
pub mod packages;
pub mod python;
mod runtime;
mod service;
mod stored;
mod talk;
pub mod typescript;
pub mod wasi;

pub use build::{Build, Built};
pub use children::{Children, Refused, Returned};
pub use kept::{Kept, KeptTurn};
pub use memory::{Image, SlotFacts, Spent, Tenant};
pub use origin::{Frozen, Origin, base_of};
pub use runtime::{Isolate, Language, Runtime, Turned, compile, fingerprint};
pub use service::{Ended, Interpreter, Interpreters, InterpretersConfig, Run};
pub use talk::{Said, Turn};
