//! A daemon that goes and comes back: with its containers, or without them.

use crate::daemon::Daemon;
use crate::harness::{PATIENCE, reason};
use crate::kit::{House, sh, shell};
use casemate::proto::v1;
use rustix::process::Signal;
use std::time::Instant;
use tonic::{Code, Status};

/// Starts a process, and waits until it has written this much.
async fn begun(house: &House, id: &str, script: &str, text: &str) -> String {
    let execution = house.start(id, shell(script)).await.unwrap();
    house.until(&execution.id, text).await;
    execution.id
}

/// What calls answer while there is no daemon: that there is none, and what to do.
async fn says_what_to_do(house: &House) {
    let detail = house.until_health("degraded").await;
    assert!(detail.contains("Docker daemon"), "{detail}");
    let error = house.spawn(sh("sleep 1000")).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::Unavailable, "BACKEND_UNAVAILABLE"), "{error:?}");
    assert!(error.message().contains("start the Docker daemon"), "{error:?}");
    let error = house.containers().await.list_images(v1::ListImagesRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::Unavailable, "BACKEND_UNAVAILABLE"), "{error:?}");
    // All else is served.
    assert_eq!(house.server().get("/health").await.0, 200);
}

/// What a container consumes, asked for once.
async fn stats(house: &House, id: &str) -> Result<v1::ContainerStats, Status> {
    let request = v1::StreamStatsRequest { container_id: id.into(), interval: None, samples: 1 };
    let mut stats = house.containers().await.stream_stats(request).await?.into_inner();
    Ok(stats.message().await?.unwrap().stats.unwrap())
}

async fn a_daemon_takes_its_containers_along(signal: Signal) {
    let Some(mut daemon) = Daemon::take().await else { return };
    let house = House::with("max_containers = 2").await;
    let (one, two) = (house.idle().await, house.idle().await);
    let execution = begun(&house, &one.id, "echo begun; exec sleep 1000", "begun\n").await;
    daemon.stop(signal);
    says_what_to_do(&house).await;
    daemon.start(&[]);
    house.ready().await;
    for id in [&one.id, &two.id] {
        let end = house.ended(id).await;
        assert_eq!(end.reason(), v1::ContainerEndReason::Vanished, "{end:?}");
        let container = house.get(id).await;
        assert_eq!((container.state(), container.running_executions), (v1::ContainerState::Ended, 0));
    }
    let ran = house.follow(&execution, 0).await;
    assert_eq!((&*ran.text(), ran.reason()), ("begun\n", v1::ExitReason::ContainerStopped), "{:?}", ran.result);
    // Their places are free, and nothing of them is left.
    let new = [house.idle().await, house.idle().await];
    assert_eq!(house.run(&new[0].id, "echo new").await.text(), "new\n");
    let mut there = house.sandboxes();
    let deadline = Instant::now() + PATIENCE;
    while there.len() != 2 {
        assert!(Instant::now() < deadline, "{there:?}");
        there = house.sandboxes();
    }
    assert!(new.iter().all(|new| there.contains(&format!("casemate-{}", new.id))), "{there:?}");
}

#[tokio::test]
async fn a_daemon_that_is_stopped_takes_its_containers_along() {
    a_daemon_takes_its_containers_along(Signal::TERM).await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_takes_its_containers_along() {
    a_daemon_takes_its_containers_along(Signal::KILL).await;
}

#[tokio::test]
async fn containers_outlive_a_daemon_that_lets_them() {
    let Some(mut daemon) = Daemon::take().await else { return };
    daemon.restart(&["--live-restore"]);
    let house = House::open().await;
    let names = ["counts", "stopped", "killed", "ends"];
    let mut ids = Vec::new();
    for name in names {
        let script =
            if name == "ends" { "until [ -e /workspace/over ]; do sleep 0.05; done; exit 6" } else { "sleep 100000" };
        let request = v1::SpawnContainerRequest { name: name.into(), spec: Some(sh(script)), ..Default::default() };
        let made = house.containers().await.spawn_container(request).await.unwrap().into_inner();
        ids.push(made.container.unwrap().id);
    }
    let count = "i=0; while [ ! -e /workspace/enough ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 3";
    let counting = begun(&house, "counts", count, "5\n").await;
    for signal in [Signal::TERM, Signal::KILL] {
        daemon.stop(signal);
        says_what_to_do(&house).await;
        // What needs no daemon goes on.
        for id in &ids {
            assert_eq!(house.get(id).await.state(), v1::ContainerState::Running);
            assert_eq!(house.run(id, "cat; echo still here").await.text(), "still here\n");
        }
        assert_eq!(house.execution(&counting).await.state(), v1::ExecutionState::Running);
        let error = stats(&house, &ids[0]).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::Unavailable, "BACKEND_UNAVAILABLE"), "{error:?}");
        daemon.start(&["--live-restore"]);
        house.ready().await;
        for id in &ids {
            assert_eq!(house.run(id, "echo after").await.text(), "after\n");
        }
    }
    // One ends, and one is asked to, while nobody can be told.
    daemon.stop(Signal::TERM);
    house.until_health("degraded").await;
    house.run("ends", "touch /workspace/over").await;
    let kill = v1::KillContainerRequest { container_id: ids[2].clone(), ..Default::default() };
    let mut containers = house.containers().await;
    let killing = tokio::spawn(async move { containers.kill_container(kill).await });
    let deadline = Instant::now() + PATIENCE;
    for id in [&ids[2], &ids[3]] {
        while house.get(id).await.state() != v1::ContainerState::Stopping {
            assert!(Instant::now() < deadline, "{:?}", house.get(id).await);
        }
    }
    daemon.start(&["--live-restore"]);
    house.ready().await;
    let killed = killing.await.unwrap().unwrap().into_inner().container.unwrap();
    assert_eq!(killed.end.unwrap().reason(), v1::ContainerEndReason::Killed);
    let end = house.ended(&ids[3]).await;
    assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Exited, 6), "{end:?}");

    // Everything that needs the daemon works on what it was not there for.
    assert!(stats(&house, &ids[0]).await.unwrap().pids >= 3);
    house.run("counts", "touch /workspace/enough").await;
    let ran = house.follow(&counting, 0).await;
    let lines: Vec<u32> = ran.text().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!((ran.code(), ran.gaps), (3, 0));
    assert!(lines.iter().copied().eq(1..=lines.len() as u32), "not one is missing or doubled");
    let stop = v1::StopContainerRequest { container_id: ids[1].clone(), ..Default::default() };
    let stopped = house.containers().await.stop_container(stop).await.unwrap().into_inner().container.unwrap();
    assert_eq!(stopped.end.unwrap().reason(), v1::ContainerEndReason::Stopped);
    house.kill(&ids[0]).await;
    assert!(house.sandboxes().is_empty());
    let new = house.idle().await;
    assert_eq!(house.run(&new.id, "echo new").await.text(), "new\n");
}

#[tokio::test]
async fn containers_that_are_being_made_when_the_daemon_dies_are_made_or_told_and_put_away() {
    let Some(mut daemon) = Daemon::take().await else { return };
    let house = House::open().await;
    let (mut made, mut refused) = (Vec::new(), 0);
    // The first of so many is there, the last is not begun.
    for ahead in [1, 3] {
        let mut spawns = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let mut containers = house.containers().await;
            spawns.spawn(async move {
                let request = v1::SpawnContainerRequest { spec: Some(sh("sleep 100000")), ..Default::default() };
                containers.spawn_container(request).await.map(|answer| answer.into_inner().container.unwrap().id)
            });
        }
        let mut answers = Vec::new();
        while answers.len() < ahead {
            answers.push(spawns.join_next().await.unwrap().unwrap());
        }
        daemon.stop(Signal::KILL);
        answers.extend(spawns.join_all().await);
        for answer in answers {
            match answer {
                Ok(id) => made.push(id),
                Err(error) => {
                    assert_eq!(
                        (error.code(), &*reason(&error)),
                        (Code::Unavailable, "BACKEND_UNAVAILABLE"),
                        "{error:?}"
                    );
                    refused += 1;
                }
            }
        }
        daemon.start(&[]);
        house.ready().await;
    }
    assert!(made.len() >= 4 && refused > 0, "{} made, {refused} refused", made.len());
    for id in made {
        house.ended(&id).await;
    }
    // The reaper looks twice before it takes anything away.
    let deadline = Instant::now() + 3 * PATIENCE;
    while !house.sandboxes().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", house.sandboxes());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn without_a_supervisor_processes_are_lost_with_the_daemon() {
    let Some(mut daemon) = Daemon::take().await else { return };
    daemon.restart(&["--live-restore"]);
    let house = House::with("control = \"exec\"").await;
    let main = sh("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let container = house.spawn(main).await.unwrap();
    let execution = begun(&house, &container.id, "setsid sleep 4321 & echo up; sleep 4322", "up\n").await;
    daemon.restart(&["--live-restore"]);
    let ran = house.follow(&execution, 0).await;
    let result = ran.result.as_ref().unwrap();
    assert_eq!((&*ran.text(), ran.reason()), ("up\n", v1::ExitReason::ServerLost), "{result:?}");
    assert!(result.message.contains("started anew"), "{result:?}");
    assert_eq!(house.execution(&execution).await.state(), v1::ExecutionState::Lost);
    // The container is still there, and nothing of what was lost goes on in it.
    assert_eq!(house.get(&container.id).await.state(), v1::ContainerState::Running);
    assert_eq!(house.run(&container.id, "ps | grep -c '[s]leep 432'").await.text(), "0\n");
    let stop = v1::StopContainerRequest { container_id: container.id.clone(), ..Default::default() };
    let stopped = house.containers().await.stop_container(stop).await.unwrap().into_inner().container.unwrap();
    assert_eq!(stopped.end.unwrap().reason(), v1::ContainerEndReason::Stopped);
}
