//! The manager with a small interpreter of its own: an adder whose memory is real pages, some of them written.

mod adder;
mod calls;
mod crashes;
mod house;
mod scarcity;
