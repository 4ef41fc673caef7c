//! Python isolates and sessions on the real server: what programs print, what hostile code does, what a kill takes.
//!
//! The interpreters come from the directory that `CASEMATE_TEST_INTERPRETERS` names (`casemate interpreters install
//! --directory DIR` fills one). Without it these tests are skipped, loudly; with `CI=true` they fail.

mod builds;
mod children;
mod damage;
mod disk;
mod faults;
mod fresh;
#[allow(dead_code)] // shared with the tests of the server, each uses its part
#[path = "../server/guests.rs"]
mod guests;
#[allow(dead_code)]
#[path = "../server/harness.rs"]
mod harness;
mod javascript;
mod kill;
#[allow(dead_code)] // each module uses its part
mod kit;
#[path = "../faults/mounted.rs"]
mod mounted;
mod programs;
mod sabotage;
mod sandbox;
mod secrets;
mod sessions;
