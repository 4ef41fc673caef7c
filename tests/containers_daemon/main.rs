//! What becomes of containers when the Docker daemon itself goes and comes back. These tests stop and start it, so they
//! are a target of their own, run one after another, and only touch a daemon that scripts/docker.sh started:
//! `CASEMATE_DOCKERD_PID` names the file with its number. Without that they say that they were skipped; with
//! `CASEMATE_TEST_DOCKER_OWN` set, that is a failure.

#[path = "../server/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../containers/kit.rs"]
#[allow(dead_code)]
mod kit;
#[path = "../faults/mounted.rs"]
mod mounted;

mod away;
mod daemon;
mod full;
