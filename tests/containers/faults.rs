//! What containers must survive: bombs, floods, full disks, crowds, processes that do not go.

use crate::kit::{House, docker, sandboxes, sh, shell};
use casemate::proto::v1;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_fork_bomb_stays_in_its_container() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let resources = Some(v1::ContainerResources { pids: 64, ..Default::default() });
    let bombed = house.spawn(v1::ContainerSpec { resources, ..sh("sleep 1000") }).await.unwrap();
    let other = house.idle().await;
    let bomb = house.start(&bombed.id, shell("bomb() { bomb | bomb & }; bomb; sleep 1000")).await.unwrap();
    // It has gone off when one of its shells is refused a child.
    let request = v1::WatchExecutionRequest { execution_id: bomb.id.clone(), ..Default::default() };
    let mut events = house.server().executions().await.watch_execution(request).await.unwrap().into_inner();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("fork") {
        let event = events.message().await.unwrap().expect("the bomb went off").event.unwrap().event;
        if let Some(v1::execution_event::Event::Stderr(chunk)) = event {
            said.extend_from_slice(&chunk.data);
        }
    }
    let stats = v1::StreamStatsRequest { container_id: bombed.id.clone(), interval: None, samples: 1 };
    let mut stats = house.containers().await.stream_stats(stats).await.unwrap().into_inner();
    let sample = stats.message().await.unwrap().unwrap().stats.unwrap();
    assert!(sample.pids <= 64, "{sample:?}");
    assert_eq!(house.run(&other.id, "echo unharmed").await.text(), "unharmed\n");
    let cancel = v1::CancelExecutionRequest { execution_id: bomb.id, ..Default::default() };
    house.server().executions().await.cancel_execution(cancel).await.unwrap();
    // The tree is dead, so there is room again.
    let deadline = Instant::now() + crate::harness::PATIENCE;
    loop {
        match house.start(&bombed.id, shell("echo room")).await {
            Ok(execution) => {
                let ran = house.follow(&execution.id, 0).await;
                if ran.text() == "room\n" {
                    break;
                }
            }
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_memory_bomb_is_told_as_one() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let resources = Some(v1::ContainerResources { memory_bytes: 48 << 20, ..Default::default() });
    let container = house.spawn(v1::ContainerSpec { resources, ..sh("sleep 1000") }).await.unwrap();
    let bomb = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done";
    let execution = house.start(&container.id, shell(bomb)).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(ran.reason(), v1::ExitReason::OutOfMemory, "{:?}", ran.result);
    assert_eq!(house.run(&container.id, "echo alive").await.text(), "alive\n");
}

#[tokio::test]
async fn a_disk_filler_fills_what_is_its_own() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let workspace = Some(v1::Workspace { size_bytes: 8 << 20, ..Default::default() });
    let container = house.spawn(v1::ContainerSpec { workspace, ..sh("sleep 1000") }).await.unwrap();
    let ran = house.run(&container.id, "dd if=/dev/zero of=/workspace/f bs=1M count=100; ls -l /workspace/f").await;
    assert!(String::from_utf8_lossy(&ran.stderr).contains("No space left"), "{ran:?}");
    let ran = house
        .run(
            &container.id,
            "dd if=/dev/zero of=/tmp/f bs=1M count=1000; dd if=/dev/zero of=/dev/shm/f bs=1M count=1000",
        )
        .await;
    assert_eq!(String::from_utf8_lossy(&ran.stderr).matches("No space left").count(), 2, "{ran:?}");
    assert_eq!(house.run(&container.id, "rm /tmp/f /dev/shm/f; echo alive").await.text(), "alive\n");
}

#[tokio::test]
async fn a_gigabyte_passes_a_slow_reader_by() {
    if !docker() {
        return;
    }
    const ALL: u64 = 1 << 30;
    let house = House::open().await;
    let (before, _) = house.memory();
    let container = house.idle().await;
    let script = format!("head -c {ALL} /dev/zero; echo >&2 over");
    let execution = house.start(&container.id, shell(&script)).await.unwrap();
    let request = v1::WatchExecutionRequest { execution_id: execution.id.clone(), ..Default::default() };
    let mut executions = house.server().executions().await;
    // One that reads a little and then nothing, and one that reads all there is.
    let mut stalled = executions.watch_execution(request.clone()).await.unwrap().into_inner();
    stalled.message().await.unwrap().unwrap();
    let mut stream = executions.watch_execution(request).await.unwrap().into_inner();
    let (mut position, mut over) = (0, false);
    while let Some(message) = stream.message().await.unwrap() {
        match message.event.unwrap().event.unwrap() {
            v1::execution_event::Event::Stdout(chunk) => {
                assert_eq!(chunk.offset, position);
                position += chunk.data.len() as u64;
            }
            v1::execution_event::Event::Truncated(gap) => position = gap.stdout_offset,
            v1::execution_event::Event::Finished(finished) => {
                over = true;
                let usage = finished.result.unwrap().usage.unwrap();
                assert_eq!((usage.stdout_bytes, usage.stderr_bytes), (ALL, 5));
            }
            _ => {}
        }
    }
    assert!(over && position == ALL);
    let (after, most) = house.memory();
    assert!(most < before + (128 << 10), "the server grew from {before} KiB to {after}, {most} at most");
}

#[tokio::test]
async fn output_ends_with_its_process_whatever_still_holds_it() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    // A child that keeps the output open does not keep the execution open.
    let ran = house.run(&container.id, "sleep 5555 & echo over").await;
    assert_eq!((ran.text().as_str(), ran.code()), ("over\n", 0));
    // One that closes its output lives on, and is waited for.
    let ran = house.run(&container.id, "exec >&- 2>&-; sleep 0.3; exit 5").await;
    assert_eq!((ran.text().as_str(), ran.code()), ("", 5));
    // What was left behind goes when its execution is released.
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while house.run(&container.id, "ps | grep -c '[s]leep 5555'").await.text().trim() != "0" {
        assert!(Instant::now() < deadline, "a child stays for ever");
    }
}

#[tokio::test]
async fn daemons_that_cut_all_ties_end_with_what_started_them() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.idle().await;
    // Forked twice, in a session of its own, deaf, with nothing open: its first parent and its second are gone.
    let daemon = "export S=8888; ( (setsid sh -c 'trap \"\" TERM HUP INT; cd /; exec sleep $S' \
                  </dev/null >/dev/null 2>&1 &) & ); until ps | grep -q '[s]leep 8888'; do :; done; echo up";
    let left = "ps | grep -c '[s]leep 8888'";
    // The end is told with the first of them; the others are hunted.
    let gone = async |how: &str| {
        let deadline = Instant::now() + crate::harness::PATIENCE;
        while house.run(&container.id, left).await.text().trim() != "0" {
            assert!(Instant::now() < deadline, "the daemon lives on {how}");
        }
    };
    let start = async |then: &str, limits: Option<v1::ExecutionLimits>| {
        let request = v1::StartProcessRequest {
            container_id: container.id.clone(),
            process: Some(shell(&format!("{daemon}; {then}"))),
            limits,
            ..Default::default()
        };
        house.containers().await.start_process(request).await.unwrap().into_inner().execution.unwrap().id
    };
    let wall_time = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let timed = start("sleep 1000", Some(v1::ExecutionLimits { wall_time, ..Default::default() })).await;
    let ran = house.follow(&timed, 0).await;
    assert_eq!((&*ran.text(), ran.reason()), ("up\n", v1::ExitReason::TimedOut));
    gone("after a timeout").await;

    let id = start("sleep 1000", None).await;
    let request = v1::WatchExecutionRequest { execution_id: id.clone(), ..Default::default() };
    let mut events = house.server().executions().await.watch_execution(request).await.unwrap().into_inner();
    loop {
        let event = events.message().await.unwrap().unwrap().event.unwrap().event;
        if let Some(v1::execution_event::Event::Stdout(chunk)) = event {
            assert_eq!(&chunk.data[..], b"up\n");
            break;
        }
    }
    assert_eq!(house.run(&container.id, left).await.text().trim(), "1", "it is there before");
    let cancel = v1::CancelExecutionRequest { execution_id: id.clone(), ..Default::default() };
    house.server().executions().await.cancel_execution(cancel).await.unwrap();
    assert_eq!(house.follow(&id, 0).await.reason(), v1::ExitReason::Cancelled);
    gone("after a cancel").await;
}

#[tokio::test]
async fn fifty_at_a_time_are_made_and_go() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let mut spawns = tokio::task::JoinSet::new();
    for number in 0..50 {
        let mut containers = house.containers().await;
        spawns.spawn(async move {
            let request = v1::SpawnContainerRequest {
                name: format!("crowd-{number}"),
                spec: Some(sh(&format!("echo {number}; sleep 1000"))),
                ..Default::default()
            };
            containers.spawn_container(request).await.unwrap().into_inner().container.unwrap().id
        });
    }
    let ids = spawns.join_all().await;
    assert_eq!(house.sandboxes().len(), 50);
    let mut kills = tokio::task::JoinSet::new();
    for id in ids {
        let mut containers = house.containers().await;
        kills.spawn(async move {
            let request = v1::KillContainerRequest { container_id: id, ..Default::default() };
            containers.kill_container(request).await.unwrap().into_inner().stdout.unwrap().data
        });
    }
    let mut outputs: Vec<u32> = kills
        .join_all()
        .await
        .iter()
        .filter_map(|data| std::str::from_utf8(data).unwrap().trim().parse().ok())
        .collect();
    outputs.sort_unstable();
    assert_eq!(outputs, (0..50).collect::<Vec<u32>>());
    assert!(sandboxes(house.path()).is_empty());
}

#[tokio::test]
async fn a_caller_that_vanishes_while_a_container_is_made_finds_it_by_its_name() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    for wait in [0, 1, 5, 20, 60] {
        let request = v1::SpawnContainerRequest {
            name: format!("gone-{wait}"),
            spec: Some(sh("sleep 1000")),
            request_id: uuid::Uuid::now_v7().to_string(),
        };
        let mut containers = house.containers().await;
        let call = containers.spawn_container(request.clone());
        let cut = tokio::time::timeout(Duration::from_millis(wait), call).await;
        // Whether it was cut off or not: there is one such container, and the same call gives it.
        let again = house.containers().await.spawn_container(request).await.unwrap().into_inner().container.unwrap();
        if let Ok(first) = cut {
            assert_eq!(first.unwrap().into_inner().container.unwrap().id, again.id);
        }
        assert_eq!(house.get(&format!("gone-{wait}")).await.id, again.id);
        house.kill(&again.id).await;
    }
    assert!(house.sandboxes().is_empty());
}

#[tokio::test]
async fn a_guest_that_is_killed_ends_its_container_and_nothing_else() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let (doomed, other) = (house.idle().await, house.idle().await);
    let execution = house.start(&doomed.id, shell("echo begun; sleep 1000")).await.unwrap();
    let pid = crate::kit::ask(&["inspect", "-f", "{{.State.Pid}}", &doomed.backend_id]);
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(ran.reason(), v1::ExitReason::ContainerStopped);
    assert_eq!(house.run(&other.id, "echo unharmed").await.text(), "unharmed\n");
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while house.get(&doomed.id).await.state() != v1::ContainerState::Ended {
        assert!(Instant::now() < deadline);
    }
}
