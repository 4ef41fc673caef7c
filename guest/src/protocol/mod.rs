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
//!
//! Beside processes there are *channels*: files, connections to ports, and connections from the gate.
//!
//! ```text
//! Open, with a request ->
//!                                      <-  Began
//! Data, More, DataEnd ->               <-  Data, Entries, Events, More, DataEnd
//!                                      <-  Done, once and last
//! ```
//!
//! Each side of a channel may send [`WINDOW`] bytes at once, and as many more as the other grants. One that sends more
//! loses the channel. No channel outlives its connection: what is half-done then is undone.

pub mod frame;
pub mod message;
pub mod request;

pub use frame::{Decoder, FrameError, MAX_FRAME, encode, entries, events};
pub use message::{
    Channel, Credit, Exit, FromGuest, Process, ProcessId, Settings, Signal, Spec, StartFailure, Stream, Terminal,
    ToGuest, User,
};
pub use request::{
    Answer, CHANNELS, Change, Conflict, Entry, Event, Failure, Format, GATE_CONNECTIONS, How, Kind, Limits, OMITTED,
    OMITTED_BYTES, PATH_LIMIT, Path, Request, Stat, WINDOW,
};

/// The version of the protocol that this build speaks. A guest and a server that differ do not talk: a container is
/// started with the guest of its server's build, and a newer server gives up those of older builds by name.
pub const VERSION: u16 = 3;
