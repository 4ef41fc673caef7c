//! Memories of interpreters: code is compiled once, and state is data.
//!
//! A linear memory is a private mapping of an [`Image`] in a reserved range. A run's writes land in pages of
//! its own; afterwards the kernel says which those are, and they are copied back from the image. So starting
//! and resetting cost what a run writes, not what an interpreter weighs, and a new image needs no compiler.
//!
//! All unsafe code of the interpreters is in this module. Each file begins with what must hold; property
//! tests write, grow and reset memories at random and compare them with the image.

mod discard;
mod heap;
mod image;
mod mapped;
mod pagemap;
mod pool;
mod slot;
mod stack;

pub use discard::prepare;
pub use image::Image;
pub use mapped::Mapped;
pub use pool::{SlotFacts, Slots, Spent, Tenant};

/// A page of the machine.
const PAGE: usize = 4096;

/// A page of a WASM memory.
pub(super) const WASM_PAGE: usize = 64 << 10;

/// The most a 32-bit memory has.
const MAX_MEMORY: usize = 4 << 30;

/// Behind every memory, never accessible: compiled code adds constant offsets without a check.
const GUARD: usize = 32 << 20;
