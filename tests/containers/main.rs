//! Containers against a real Docker daemon, through the real binary.
//!
//! Without a daemon these tests say that they were skipped; with `CASEMATE_TEST_DOCKER` set, that is a failure.

mod archive_kit;
#[path = "../server/harness.rs"]
#[allow(dead_code)]
mod harness;
mod kit;

mod archives;
mod crash;
mod faults;
mod files;
mod gate;
mod hardening;
mod health;
mod hostile_archives;
mod inside;
mod lifecycle;
mod means;
mod notebooks;
mod pools;
mod ports;
mod processes;
mod pulls;
mod seccomp;
mod snapshot_faults;
mod snapshots;
mod terminal_floods;
mod unsupervised;
mod watching;
