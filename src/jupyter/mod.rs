//! Kernels that speak Jupyter's messaging protocol (version 5), as a client.
//!
//! A kernel runs where its code may run, so what it says is data: its messages are bounded in size before any of it is
//! kept, signed with the key that it was started with, and worth nothing beyond the call that they answer. That is why
//! the frames of ZeroMQ are read here and not by a library: those at hand make room for as many bytes as a peer
//! announces. Nothing in this room knows where a kernel is; it is handed streams.

mod client;
mod message;
mod zmtp;

pub use client::{Client, Heard, Streams};
pub use message::{Message, Signer};
