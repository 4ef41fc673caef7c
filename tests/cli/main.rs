//! The `casemate` command as people and scripts use it: real processes, real sockets.

mod containers;
mod exec;
mod files;
mod house;
mod kit;
mod notebook;
mod operate;
mod pool;
mod run;
mod tools;
mod watch;
