//! Containers in which no supervisor runs: the backend's own means, and what is lost by that.

use crate::harness::reason;
use crate::kit::{BUSYBOX, EMPTY, House, ask, docker, image, sh, shell, without_command};
use casemate::proto::v1;
use tonic::Code;
use v1::ContainerControlKind::{BackendExec, Guest};

const EXEC: &str = "control = \"exec\"\n";

#[tokio::test]
async fn a_supervisor_that_cannot_run_is_done_without_and_said_so() {
    if !docker() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("no-sockets.json");
    let refused = r#"{"defaultAction":"SCMP_ACT_ALLOW",
        "syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&profile, refused).unwrap();
    let keys = format!("start_timeout = \"1s\"\n[containers.seccomp_profiles]\nno-sockets = {profile:?}\n");
    let house = House::with(&keys).await;
    let hardening = v1::ContainerHardening { seccomp_profile: "no-sockets".into(), ..Default::default() };
    let spec = v1::ContainerSpec { hardening: Some(hardening), ..sh("echo main; exec sleep 100000") };
    let container = house.spawn(spec).await.unwrap();
    let control = container.control.clone().unwrap();
    assert_eq!(control.kind(), BackendExec);
    assert!(control.reason.contains("supervisor") && control.reason.contains("what is lost"), "{control:?}");
    assert_eq!(house.sandboxes().len(), 1, "what was tried first is gone");
    assert_eq!(house.run(&container.id, "cat").await.code(), 0);
    // Where it can run, it does.
    assert_eq!(house.idle().await.control.unwrap().kind(), Guest);
    // Whoever wants it or nothing gets nothing, and the reason.
    let strict = House::with(&format!("control = \"guest\"\n{keys}")).await;
    let hardening = v1::ContainerHardening { seccomp_profile: "no-sockets".into(), ..Default::default() };
    let spec = v1::ContainerSpec { hardening: Some(hardening), ..sh("sleep 100000") };
    let error = strict.spawn(spec).await.unwrap_err();
    assert_eq!(&*reason(&error), "CONTAINER_FAILED", "{error:?}");
    assert!(error.message().contains("supervisor"), "{error:?}");
    assert!(strict.sandboxes().is_empty());
}

#[tokio::test]
async fn processes_run_and_are_spoken_with() {
    if !docker() {
        return;
    }
    let house = House::with(EXEC).await;
    let container = house.spawn(image(&without_command(BUSYBOX), &[])).await.unwrap();
    assert_eq!(container.state(), v1::ContainerState::Running);
    let process = v1::ProcessSpec {
        environment: [("GREETING".into(), "hello".into())].into(),
        working_directory: "/tmp".into(),
        stdin: "from stdin\n".into(),
        ..shell("echo $GREETING; pwd; id -u; cat; echo err >&2; exit 3")
    };
    let execution = house.start(&container.id, process).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(ran.text(), "hello\n/tmp\n1000\nfrom stdin\n");
    assert_eq!((&*ran.stderr, ran.code()), (&b"err\n"[..], 3));
    // A terminal, whose bytes are data. Older daemons size it only once it runs.
    let terminal = Some(v1::TerminalSize { columns: 100, rows: 40 });
    let process = v1::ProcessSpec {
        terminal,
        ..shell(r"until stty size 2>/dev/null | grep .; do :; done; printf '\001\000\000\000\377\377\377\377'")
    };
    let execution = house.start(&container.id, process).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(ran.stdout, b"40 100\r\n\x01\0\0\0\xff\xff\xff\xff");
    // Much output, and all of it.
    let ran = house.run(&container.id, "head -c 3000000 /dev/zero").await;
    assert_eq!((ran.stdout.len(), ran.code()), (3_000_000, 0));
    // One that leaves something behind with its output ends all the same.
    let ran = house.run(&container.id, "sleep 1000 & echo done").await;
    assert_eq!((&*ran.text(), ran.code()), ("done\n", 0));
    let bare = v1::ProcessSpec { clear_environment: true, ..shell("true") };
    assert_eq!(house.start(&container.id, bare).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn whole_trees_end_by_the_clock_and_by_wish() {
    if !docker() {
        return;
    }
    let house = House::with(EXEC).await;
    let container = house.spawn(image(&without_command(BUSYBOX), &[])).await.unwrap();
    let tree = "trap '' TERM; setsid sleep 4321 & sleep 4322 & echo up; sleep 4323";
    let limits =
        v1::ExecutionLimits { wall_time: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..Default::default() };
    let request = v1::StartProcessRequest {
        container_id: container.id.clone(),
        process: Some(shell(tree)),
        limits: Some(limits),
        ..Default::default()
    };
    let execution = house.containers().await.start_process(request).await.unwrap().into_inner().execution.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!((&*ran.text(), ran.reason()), ("up\n", v1::ExitReason::TimedOut));
    let left = house.run(&container.id, "ps | grep -c '[s]leep 432'").await;
    assert_eq!(left.text(), "0\n");
    // Cancelled at once: the backend may still be about to start what is to be killed.
    for _ in 0..8 {
        let execution = house.start(&container.id, shell(tree)).await.unwrap();
        let request = v1::CancelExecutionRequest { execution_id: execution.id.clone(), ..Default::default() };
        house.server().executions().await.cancel_execution(request).await.unwrap();
        assert_eq!(house.follow(&execution.id, 0).await.reason(), v1::ExitReason::Cancelled);
        assert_eq!(house.run(&container.id, "ps | grep -c '[s]leep 432'").await.text(), "0\n");
    }
    // A signal reaches what runs.
    let execution =
        house.start(&container.id, shell("trap 'echo heard; exit 5' INT; echo up; while :; do sleep 0.1; done")).await;
    let id = execution.unwrap().id;
    let request = v1::WatchExecutionRequest { execution_id: id.clone(), ..Default::default() };
    let mut events = house.server().executions().await.watch_execution(request).await.unwrap().into_inner();
    loop {
        let event = events.message().await.unwrap().unwrap().event.unwrap();
        if matches!(event.event, Some(v1::execution_event::Event::Stdout(_))) {
            break;
        }
    }
    let request =
        v1::SignalExecutionRequest { execution_id: id.clone(), signal: "SIGINT".into(), ..Default::default() };
    house.server().executions().await.signal_execution(request).await.unwrap();
    let ran = house.follow(&id, 0).await;
    assert_eq!((&*ran.text(), ran.code()), ("up\nheard\n", 5));
}

#[tokio::test]
async fn the_main_process_has_a_log_and_an_end() {
    if !docker() {
        return;
    }
    let house = House::with(EXEC).await;
    let container = house.spawn(sh("echo one; echo two >&2; exit 7")).await.unwrap();
    let end = house.ended(&container.id).await;
    assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Exited, 7));
    let ran = house.follow(&house.get(&container.id).await.main_execution_id, 0).await;
    assert_eq!((&*ran.text(), &*ran.stderr, ran.code()), ("one\n", &b"two\n"[..], 7));
    // However quick they are, they run and end, and that is no failure to start.
    for _ in 0..12 {
        let quick = house.spawn(sh("exit 3")).await.unwrap();
        let end = house.ended(&quick.id).await;
        assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Exited, 3));
    }
    // Asked to stop, it does.
    let polite = sh("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done");
    let container = house.spawn_until(polite, "up").await;
    let request = v1::StopContainerRequest { container_id: container.id.clone(), ..Default::default() };
    let stopped = house.containers().await.stop_container(request).await.unwrap().into_inner().container.unwrap();
    let end = stopped.end.unwrap();
    assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Stopped, 0));
    // An image without anything to idle with says what is missing.
    let error = house.spawn(image(&without_command(EMPTY), &[])).await.unwrap_err();
    assert!(error.message().contains("/bin/sh"), "{error:?}");
    assert!(house.sandboxes().is_empty());
}

#[tokio::test]
async fn a_killed_server_leaves_the_container_and_takes_its_processes() {
    if !docker() {
        return;
    }
    let mut house = House::with(EXEC).await;
    let container = house.spawn(sh("echo main; exec sleep 100000")).await.unwrap();
    let request_id = uuid::Uuid::now_v7().to_string();
    let request = v1::StartProcessRequest {
        container_id: container.id.clone(),
        process: Some(shell("setsid sleep 4321 & echo up; sleep 4322")),
        request_id,
        ..Default::default()
    };
    let execution = house.containers().await.start_process(request).await.unwrap().into_inner().execution.unwrap();
    house.kill_and_restart().await;
    assert_eq!(house.follow(&execution.id, 0).await.reason(), v1::ExitReason::ServerLost);
    // Waits until the container is found again.
    assert_eq!(house.run(&container.id, "ps | grep -c '[s]leep 432'").await.text(), "0\n");
    assert_eq!(house.get(&container.id).await.control.unwrap().kind(), BackendExec);
    // Its end is seen.
    ask(&["kill", &format!("casemate-{}", container.id)]);
    assert_eq!(house.ended(&container.id).await.reason(), v1::ContainerEndReason::Exited);
}
