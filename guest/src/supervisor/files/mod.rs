//! Files, as the guest's own user.
//!
//! The guest has one thread, and file systems make it wait: so all work is done in small slices, with everything else
//! in between.

pub mod change;
pub mod failure;
pub mod list;
pub mod pack;
pub mod path;
pub mod pax;
pub mod read;
pub mod resolve;
pub mod reveal;
pub mod stage;
pub mod state;
pub mod tar;
pub mod unpack;
pub mod untar;
pub mod unzip;
pub mod walk;
pub mod watch;
pub mod watched;
pub mod write;
pub mod zip;

/// Bytes of a file that are read or written at once.
pub const SLICE: usize = 64 << 10;
/// Entries that are looked at, or removed, at once.
pub const ENTRIES: usize = 256;
/// Bytes of a folder that are read at once: about as many entries.
pub const FOLDER_BUFFER: usize = 16 << 10;
