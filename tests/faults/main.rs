//! What the server must survive: kills at any moment, full disks, damaged files, hostile modules, crowds, calls that
//! block, clients that vanish or hang, pools that are full.
//! Drives the real `casemate` binary over real sockets.

mod blocked;
mod crowds;
mod damage;
mod disk;
#[allow(dead_code)] // shared with the tests of the server, each uses its part
#[path = "../server/guests.rs"]
mod guests;
mod half_open;
#[allow(dead_code)]
#[path = "../server/harness.rs"]
mod harness;
mod kill;
mod modules;
mod mounted;
mod pools;
mod vanish;
