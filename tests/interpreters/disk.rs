//! A disk that is full while the state of a session goes to it.

use crate::harness::{PATIENCE, Server, Setup};
use crate::kit::{self, Python};
use crate::mounted::Disk;
use casemate::proto::v1;
use std::time::Instant;

const CHANGE: &str = "import os\nx += 1\nb = os.urandom(2 << 20)";

async fn health_until(python: &Python, what: &str, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, body) = python.server.get("/health").await;
        if wanted(&body) {
            return;
        }
        assert!(Instant::now() < deadline, "waited for {what}: {body}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_full_disk_during_a_checkpoint_loses_no_turn_and_an_older_state_stays_whole() {
    let mut disk = None;
    let setup = |setup: Setup| {
        disk = Disk::mount(&setup.path().join("data"), "48m");
        setup
    };
    let Some(python) = kit::start_with(setup).await else { return };
    let Some(disk) = disk else { return };
    let durable = v1::CreateSessionRequest {
        durability: v1::SessionDurability::Turn as i32,
        ..v1::CreateSessionRequest::default()
    };
    let session = python.session_with(durable).await.id;
    python.turn(&session, "x = 1").await.fine();
    assert_eq!(python.durable(&session).await, 1);

    // The turn is done and answered; only its checkpoint does not get onto the disk, and health says so.
    disk.fill();
    python.turn(&session, CHANGE).await.fine();
    health_until(&python, "health to tell", |body| body.contains("free space") || body.contains("checkpoint")).await;
    let found = python.look(&session).await;
    assert_eq!((found.turn, found.checkpoint_turn), (2, 1));
    assert_eq!(python.turn(&session, "print(x)").await.fine(), "2\n");

    // With room again it is made durable by itself, without another turn.
    disk.free();
    assert_eq!(python.durable(&session).await, 3);
    let python = Python::on(python.server.kill_and_restart().await).await;
    assert_eq!(python.turn(&session, "print(x, len(b))").await.fine(), "2 2097152\n");
    assert_eq!(python.durable(&session).await, 4);

    // A kill while it is full: the session goes on as of the last checkpoint, which is whole.
    disk.fill();
    python.turn(&session, CHANGE).await.fine();
    health_until(&python, "health to tell again", |body| body.contains("free space") || body.contains("checkpoint"))
        .await;
    let folder = python.server.kill();
    disk.free();
    let python = Python::on(Server::start(folder).await).await;
    assert_eq!(python.turn(&session, "print(x, len(b))").await.fine(), "2 2097152\n");
    // That there was a fifth turn may be what the disk had no room for.
    let told = python.look(&session).await.interruption;
    assert!(told.as_ref().is_none_or(|told| told.resumed_turn == 4), "{told:?}");
}
