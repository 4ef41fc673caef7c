//! The `casemate` command as people and scripts use it: real processes, real sockets.

mod kit;
mod operate;
mod run;
mod tools;
mod watch;
