//! Python and JavaScript in WASM isolates: code once, state as data.
//!
//! ```text
//! install   package -> verify -> take apart -> compile -> preload -> image
//! service   what is installed -> verified and loaded -> a fresh isolate for each run
//! kept      isolates that live on: frozen, brought back, copied
//! runtime   compiled code, isolates, turns        memory   images, slots, resets: all unsafe code
//! wasi      files and streams as data             talk     what guest and host say to each other
//! ```
//!
//! `docs/interpreters.md` explains the house rules: what a guest can do, and what bounds it.

mod children;
mod files;
pub mod install;
pub mod javascript;
mod kept;
mod library;
pub mod memory;
pub mod module;
pub mod python;
mod runtime;
mod service;
mod talk;
pub mod typescript;
pub mod wasi;

pub use children::{Children, Refused, Returned};
pub use kept::{Frozen, Kept, KeptTurn, base_of, develop, on_image};
pub use memory::{Image, SlotFacts, Tenant};
pub use runtime::{Isolate, Language, Runtime, Turned, compile, fingerprint};
pub use service::{Ended, Interpreter, Interpreters, InterpretersConfig, Run};
pub use talk::{Said, Turn};
