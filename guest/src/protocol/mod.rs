//! Frames and messages, without any input or output of their own.
//!
//! ```text
//! server                                   guest
//!                                      <-  Hello, with what runs and what it kept
//! Hello, with what holds for the container ->
//! Start, Attach, Credit, Stdin, Signal ... ->
//!                                      <-  Started, Output, Truncated, Exited ...
//! Release                              ->  (now the guest forgets the process)
//! ```
//!
//! Output has one order over both streams of a process: each byte has a *position*, counted over all that the
//! process wrote, beside its offset in its stream. The server attaches at a position and grants *credit*; the guest
//! sends what it has from there on, up to the credit, so that one loud process does not hold up the others.

pub mod frame;
pub mod message;

pub use frame::{Decoder, FrameError, MAX_FRAME, encode};
pub use message::{
    Credit, Exit, FromGuest, Process, ProcessId, Settings, Signal, Spec, StartFailure, Stream, Terminal, ToGuest, User,
};

/// The version of the protocol that this build speaks. A guest and a server that differ do not talk: a container is
/// started with the guest of its server's build, and a newer server gives up those of older builds by name.
pub const VERSION: u16 = 1;
