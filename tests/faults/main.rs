//! What the server must survive: calls that block, clients that vanish, connections that hang, pools that are full.
//! Drives the real `casemate` binary over real sockets.

mod blocked;
#[allow(dead_code)] // shared with the tests of the server, each uses its part
#[path = "../server/guests.rs"]
mod guests;
mod half_open;
#[allow(dead_code)]
#[path = "../server/harness.rs"]
mod harness;
mod pools;
mod vanish;
