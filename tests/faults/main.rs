//! What the server must survive: kills at any moment, full disks, damaged files, hostile modules, crowds.
//! Drives the real `casemate` binary over real sockets.

mod crowds;
mod damage;
mod disk;
#[allow(dead_code)] // shared with the tests of the server, each uses its part
#[path = "../server/guests.rs"]
mod guests;
#[allow(dead_code)]
#[path = "../server/harness.rs"]
mod harness;
mod kill;
mod modules;
