//! Python and JavaScript in WASM isolates: code once, state as data.

pub mod memory;
pub mod module;
