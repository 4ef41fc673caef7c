//! Kernels that die, containers that end, servers that are killed.

use super::*;
use crate::harness::{reason, result, text};
use crate::kit::{ask, docker};
use v1::SessionClosureReason as Closed;

#[tokio::test]
async fn a_kernel_that_dies_takes_its_session_with_it_and_says_how() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let resources = v1::ContainerResources { memory_bytes: 192 << 20, ..Default::default() };
    let container = house.spawn(v1::ContainerSpec { resources: Some(resources), ..jupyter() }).await.unwrap();
    let notebook = async || house.open_session(in_container(&container.id)).await.unwrap().id;
    // In the middle of a cell.
    for (code, exit, signal) in [
        ("print('last', flush=True); import os; os._exit(3)", 3, ""),
        ("import os; os.kill(os.getpid(), 9)", 0, "SIGKILL"),
    ] {
        let session = notebook().await;
        let ran = house.cell(&session, code).await;
        assert_eq!((result(&ran).exit_code, result(&ran).signal.as_str()), (exit, signal), "{ran:?}");
        let closure = house.closed(&session).await;
        assert_eq!(closure.reason(), Closed::Interrupted);
        assert!(closure.message.contains("its kernel ended"), "{}", closure.message);
        let status = house.server().run(cell(&session, "1")).await.unwrap_err();
        assert_eq!(reason(&status), "SESSION_CLOSED");
    }
    // For want of memory.
    let session = notebook().await;
    let ran = house.cell(&session, "x = bytearray(1 << 30)").await;
    assert_eq!(result(&ran).exit_reason(), v1::ExitReason::OutOfMemory, "{ran:?}");
    assert!(house.closed(&session).await.message.contains("memory"));
    // Between two cells, by somebody else.
    let session = notebook().await;
    house.run(&container.id, "kill -9 $(ps -o pid,args | awk '/[i]pykernel/ {print $1}')").await;
    assert_eq!(house.closed(&session).await.reason(), Closed::Interrupted);
    // One that does not heed the interrupt.
    let session = notebook().await;
    let deaf =
        "import time\nwhile True:\n    try:\n        time.sleep(100)\n    except KeyboardInterrupt:\n        pass";
    let ran = house.server().run(timed(&session, deaf, Duration::from_millis(300))).await.unwrap();
    assert_eq!(result(&ran).exit_reason(), v1::ExitReason::TimedOut);
    assert!(house.closed(&session).await.message.contains("did not heed"));
    // None of them is left, and neither is anything of theirs.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left =
            house.run(&container.id, "ps -o args | grep -c '[i]pykernel'; ls -A /workspace/.casemate").await.text();
        if left == "0\n" {
            break;
        }
        assert!(Instant::now() < deadline, "{left}");
    }
}

#[tokio::test]
async fn the_end_of_a_container_is_the_end_of_its_sessions() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let (idle, container) = house.notebook().await;
    let busy = house.open_session(in_container(&container.id)).await.unwrap().id;
    let id = house.server().start_run(cell(&busy, "print('on', flush=True)\nimport time; time.sleep(1000)")).await;
    house.until(&id, "on").await;
    house.kill(&container.id).await;
    assert_eq!(house.follow(&id, 0).await.reason(), v1::ExitReason::ContainerStopped);
    for session in [&idle, &busy] {
        assert_eq!(house.closed(session).await.reason(), Closed::ContainerEnded);
    }
    // And the end of a session is that of its kernel alone.
    let (session, container) = house.notebook().await;
    let other = house.open_session(in_container(&container.id)).await.unwrap().id;
    let close = v1::CloseSessionRequest { session_id: session.clone(), ..Default::default() };
    house.sessions().await.close_session(close).await.unwrap();
    assert_eq!(house.closed(&session).await.reason(), Closed::Closed);
    assert_eq!(text(&house.cell(&other, "print(1)").await), "1\n");
    let kernels = house.run(&container.id, "ps -o args | grep -c '[i]pykernel_launcher'").await.text();
    assert_eq!(kernels, "1\n");
}

#[tokio::test]
async fn kernels_live_through_a_kill_of_the_server() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let (session, container) = house.notebook().await;
    house.cell(&session, "x = 41").await;
    let gone = house.open_session(in_container(&container.id)).await.unwrap().id;
    let request_id = "0199f3c2-7d1e-4c1b-9a52-1d1f6a3b8c79".to_owned();
    let code = "x += 1\nprint('on', flush=True)\nimport time; time.sleep(1000)";
    let cut = house.server().start_run(v1::ToolCall { request_id, ..cell(&session, code) }).await;
    house.until(&cut, "on").await;
    // What is acknowledged is on disk, and all that was written before it.
    house.run(&container.id, "true").await;
    let folder = house.server.take().unwrap().kill();
    // While there is no server, somebody ends the other one.
    let kill = "for at in /proc/[0-9]*; do grep -q session-$GONE $at/cmdline && kill -9 ${at#/proc/}; done; true";
    ask(&["exec", "-e", &format!("GONE={gone}"), &container.backend_id, "sh", "-c", kill]);
    house.server = Some(crate::harness::Server::start(folder).await);
    assert_eq!(house.follow(&cut, 0).await.reason(), v1::ExitReason::ServerLost);
    let after = house.cell(&session, "print(x)").await;
    assert_eq!(text(&after), "42\n", "what the cell did before it was cut off is done");
    let view = house.session(&session).await;
    let interruption = view.interruption.unwrap();
    assert_eq!((interruption.reason(), view.turn), (v1::SessionInterruptionReason::ServerLost, 2));
    assert_eq!(house.closed(&gone).await.reason(), Closed::Interrupted);
    // In order as well, and the same session.
    house.kill_and_restart().await;
    assert_eq!(text(&house.cell(&session, "print(x + 1)").await), "43\n");
}

#[tokio::test]
async fn a_session_in_a_pool_has_a_container_of_its_own() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    house.filled_with("books", jupyter(), 1).await;
    let create = || within(v1::session_target::Target::Pool("books".into()));
    let session = house.open_session(create()).await.unwrap();
    assert_eq!(session.target.unwrap().target, Some(v1::session_target::Target::Pool("books".into())));
    house.cell(&session.id, "x = 'kept'; open('f', 'w').write('x')").await;
    let before = house.sandboxes();
    house.kill_and_restart().await;
    assert_eq!(text(&house.cell(&session.id, "print(x, open('f').read())").await), "kept x\n");
    let other = house.open_session(create()).await.unwrap();
    let clean = house.cell(&other.id, "import os; print(os.path.exists('f'), 'x' in globals())").await;
    assert_eq!(text(&clean), "False False\n");
    let close = v1::CloseSessionRequest { session_id: session.id.clone(), ..Default::default() };
    house.sessions().await.close_session(close).await.unwrap();
    // Its container goes with it.
    let deadline = Instant::now() + PATIENCE;
    while before.iter().all(|name| house.sandboxes().contains(name)) {
        assert!(Instant::now() < deadline);
    }
}
