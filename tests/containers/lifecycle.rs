//! How containers come and go.

use crate::harness::{PATIENCE, reason};
use crate::kit::{BUSYBOX, EMPTY, House, ask, docker, image, sh};
use casemate::proto::v1;
use tonic::Code;
use v1::watch_containers_response::Event;

#[tokio::test]
async fn a_container_runs_its_main_process_and_ends_with_it() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(sh("echo out; echo err >&2; read line; exit 7")).await.unwrap();
    // Its input is closed, so it ends at once.
    let mut containers = house.containers().await;
    let request = v1::StreamLogsRequest { container_id: container.id.clone(), follow: true, ..Default::default() };
    let mut log = containers.stream_logs(request.clone()).await.unwrap().into_inner();
    let (mut text, mut end) = ([String::new(), String::new()], None);
    while let Some(entry) = log.message().await.unwrap() {
        match entry.entry.unwrap() {
            v1::stream_logs_response::Entry::Chunk(chunk) => {
                assert!(chunk.time.is_some());
                text[chunk.stream as usize - 1].push_str(std::str::from_utf8(&chunk.data).unwrap());
            }
            v1::stream_logs_response::Entry::End(found) => end = Some(found),
            _ => {}
        }
    }
    assert_eq!(text, ["out\n", "err\n"]);
    let end = end.unwrap();
    assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Exited, 7));
    let found = house.get(&container.id).await;
    assert_eq!(found.state(), v1::ContainerState::Ended);
    assert!(found.start_time.is_some() && found.end_time.is_some());
    let main = house.execution(&found.main_execution_id).await;
    assert_eq!(main.result.unwrap().exit_code, 7);
    assert!(house.sandboxes().is_empty());
    // The log stays.
    let request = v1::StreamLogsRequest { follow: false, ..request };
    let mut log = containers.stream_logs(request).await.unwrap().into_inner();
    assert!(log.message().await.unwrap().is_some());
}

#[tokio::test]
async fn images_without_anything_and_with_nothing_to_do_run() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    // The image's own command: one static program in an empty file system.
    let container = house.spawn(image(EMPTY, &[])).await.unwrap();
    let end = house.ended(&container.id).await;
    // Its name is free, and it can still be read by it.
    assert_eq!(house.get(&container.name).await.id, container.id);
    assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Exited, 7));
    // However quick they are, how they ended is known.
    for _ in 0..8 {
        let quick = house.spawn(sh("exit 3")).await.unwrap();
        let end = house.ended(&quick.id).await;
        assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Exited, 3));
    }
}

#[tokio::test]
async fn stop_asks_and_then_kills() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let mut containers = house.containers().await;
    let stop = |id: &str, grace: u64| v1::StopContainerRequest {
        container_id: id.into(),
        grace: Some(prost_types::Duration { seconds: grace as i64, nanos: 0 }),
        reason: "enough".into(),
        ..Default::default()
    };
    let polite = sh("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done");
    let polite = house.spawn_until(polite, "up").await;
    let stopped = containers.stop_container(stop(&polite.id, 30)).await.unwrap().into_inner().container.unwrap();
    let end = stopped.end.clone().unwrap();
    assert_eq!(
        (stopped.state(), end.reason(), end.exit_code),
        (v1::ContainerState::Ended, v1::ContainerEndReason::Stopped, 3)
    );
    assert!(end.message.contains("enough"), "{end:?}");
    // Again: nothing changes.
    let again = containers.stop_container(stop(&polite.id, 30)).await.unwrap().into_inner().container.unwrap();
    assert_eq!(again.end, stopped.end);

    let deaf = house.spawn_until(sh("trap '' TERM; echo up; while :; do sleep 0.1; done"), "up").await;
    let stopped = containers.stop_container(stop(&deaf.id, 0)).await.unwrap().into_inner().container.unwrap();
    assert_eq!(stopped.end.unwrap().signal, "SIGKILL");

    // A kill hurries a stop that waits.
    let slow = house.spawn_until(sh("trap '' TERM; echo out; while :; do sleep 0.1; done"), "out").await;
    let mut other = house.containers().await;
    let waiting = stop(&slow.id, 600);
    let waiting = tokio::spawn(async move { other.stop_container(waiting).await });
    let deadline = std::time::Instant::now() + PATIENCE;
    while house.get(&slow.id).await.state() != v1::ContainerState::Stopping {
        assert!(std::time::Instant::now() < deadline);
    }
    let killed = house.kill(&slow.id).await;
    assert_eq!(killed.container.unwrap().end.unwrap().reason(), v1::ContainerEndReason::Stopped);
    assert_eq!(&killed.stdout.unwrap().data[..], b"out\n");
    waiting.await.unwrap().unwrap();
    assert!(house.sandboxes().is_empty());
}

#[tokio::test]
async fn a_frozen_container_is_thawed_and_can_be_killed() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let mut containers = house.containers().await;
    let container = house.spawn(sh("while :; do echo x; sleep 0.01; done")).await.unwrap();
    let pause = v1::PauseContainerRequest { container_id: container.id.clone(), ..Default::default() };
    for _ in 0..2 {
        let paused = containers.pause_container(pause.clone()).await.unwrap().into_inner().container.unwrap();
        assert_eq!(paused.state(), v1::ContainerState::Paused);
    }
    let refused = house.start(&container.id, crate::kit::shell("true")).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "CONTAINER_NOT_READY"));
    let resume = v1::ResumeContainerRequest { container_id: container.id.clone(), ..Default::default() };
    for _ in 0..2 {
        let resumed = containers.resume_container(resume.clone()).await.unwrap().into_inner().container.unwrap();
        assert_eq!(resumed.state(), v1::ContainerState::Running);
    }
    assert_eq!(house.run(&container.id, "echo alive").await.text(), "alive\n");
    containers.pause_container(pause).await.unwrap();
    let killed = house.kill(&container.id).await.container.unwrap();
    assert_eq!(killed.end.unwrap().reason(), v1::ContainerEndReason::Killed);
}

#[tokio::test]
async fn clocks_end_containers() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let span = |millis: i32| Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 });
    let none = Some(prost_types::Duration::default());
    let short = v1::ContainerSpec { time_to_live: span(300), stop_grace: none, ..sh("sleep 1000") };
    let idle = v1::ContainerSpec { idle_timeout: span(400), stop_grace: none, ..sh("sleep 1000") };
    let (short, idle) = (house.spawn(short).await.unwrap(), house.spawn(idle).await.unwrap());
    // As long as something runs in it, it is not idle.
    let busy = house.start(&idle.id, crate::kit::shell("sleep 1")).await.unwrap();
    for (id, expected) in [(&short.id, v1::ContainerEndReason::Expired), (&idle.id, v1::ContainerEndReason::Idle)] {
        assert_eq!(house.ended(id).await.reason(), expected);
    }
    assert_eq!(house.execution(&busy.id).await.state(), v1::ExecutionState::Succeeded);
}

#[tokio::test]
async fn containers_are_found_by_name_by_filter_and_in_pages() {
    if !docker() {
        return;
    }
    let house = House::with("max_containers = 3").await;
    let mut containers = house.containers().await;
    let spawn = |name: &str, color: &str| v1::SpawnContainerRequest {
        name: name.into(),
        spec: Some(v1::ContainerSpec { labels: [("color".into(), color.into())].into(), ..sh("sleep 1000") }),
        ..Default::default()
    };
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        containers.spawn_container(spawn(name, color)).await.unwrap();
    }
    let full = containers.spawn_container(spawn("d", "red")).await.unwrap_err();
    assert_eq!((full.code(), &*reason(&full)), (Code::ResourceExhausted, "QUOTA_REACHED"));
    assert_eq!(house.get("b").await.name, "b");
    let list = |filter, page_size, page_token: &str| v1::ListContainersRequest {
        filter: Some(filter),
        page_size,
        page_token: page_token.into(),
    };
    let red = v1::ContainerFilter { labels: [("color".into(), "red".into())].into(), ..Default::default() };
    let first = containers.list_containers(list(red.clone(), 1, "")).await.unwrap().into_inner();
    assert_eq!((first.containers.len(), &*first.containers[0].name), (1, "c"));
    let second = containers.list_containers(list(red.clone(), 1, &first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((&*second.containers[0].name, &*second.next_page_token), ("a", ""));
    let other = v1::ContainerFilter::default();
    let wrong = containers.list_containers(list(other, 1, &first.next_page_token)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    // A name and a place are free again when their container is over.
    house.kill("a").await;
    let taken = containers.spawn_container(spawn("b", "red")).await.unwrap_err();
    assert_eq!((taken.code(), &*reason(&taken)), (Code::AlreadyExists, "CONTAINER_EXISTS"));
    containers.spawn_container(spawn("a", "green")).await.unwrap();
    let busybox = v1::ContainerFilter { image: BUSYBOX.into(), ..Default::default() };
    assert_eq!(containers.list_containers(list(busybox, 0, "")).await.unwrap().into_inner().containers.len(), 3);
    let ended = v1::ContainerFilter { states: vec![v1::ContainerState::Ended.into()], ..Default::default() };
    assert_eq!(containers.list_containers(list(ended, 0, "")).await.unwrap().into_inner().containers.len(), 1);
}

#[tokio::test]
async fn a_request_id_makes_one_container() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let request = v1::SpawnContainerRequest {
        spec: Some(sh("sleep 1000")),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (mut containers, request) = (house.containers().await, request.clone());
        calls.spawn(
            async move { containers.spawn_container(request).await.unwrap().into_inner().container.unwrap().id },
        );
    }
    let ids = calls.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    house.kill_and_restart().await;
    let mut containers = house.containers().await;
    let again = containers.spawn_container(request.clone()).await.unwrap().into_inner().container.unwrap();
    assert_eq!(again.id, ids[0]);
    let other = v1::SpawnContainerRequest { name: "other".into(), ..request };
    let refused = containers.spawn_container(other).await.unwrap_err();
    assert_eq!(&*reason(&refused), "REQUEST_ID_REUSED");
    assert_eq!(house.sandboxes().len(), 1);
}

#[tokio::test]
async fn whoever_watches_sees_everything_that_changes() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let before = house.idle().await;
    let mut containers = house.containers().await;
    let mut watch = containers.watch_containers(v1::WatchContainersRequest::default()).await.unwrap().into_inner();
    let mut next = async || watch.message().await.unwrap().unwrap();
    assert!(matches!(next().await.event, Some(Event::Container(found)) if found.id == before.id));
    let synced = next().await;
    assert!(matches!(synced.event, Some(Event::Synced(_))));
    let new = house.idle().await;
    let (mut states, mut revision) = (Vec::new(), synced.revision);
    while !states.contains(&v1::ContainerState::Running) {
        let message = next().await;
        assert!(message.revision >= revision);
        revision = message.revision;
        if let Some(Event::Container(found)) = message.event
            && found.id == new.id
        {
            states.push(found.state());
        }
    }
    // Somebody who was away since then is told of what changed, and of what is over as gone.
    house.kill(&before.id).await;
    let resume = v1::WatchContainersRequest { from_revision: revision, ..Default::default() };
    let mut again = containers.watch_containers(resume).await.unwrap().into_inner();
    loop {
        match again.message().await.unwrap().unwrap().event.unwrap() {
            Event::RemovedContainerId(id) if id == before.id => break,
            Event::Reset(_) => panic!("that was not long ago"),
            _ => {}
        }
    }
    let old = v1::WatchContainersRequest { from_revision: 1, ..Default::default() };
    let mut reset = containers.watch_containers(old).await.unwrap().into_inner();
    assert!(matches!(reset.message().await.unwrap().unwrap().event, Some(Event::Reset(_))));
}

#[tokio::test]
async fn what_a_container_consumes_is_told() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(sh("while :; do :; done")).await.unwrap();
    let request = v1::StreamStatsRequest {
        container_id: container.id.clone(),
        interval: Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 }),
        samples: 3,
    };
    let mut stats = house.containers().await.stream_stats(request).await.unwrap().into_inner();
    let mut samples = Vec::new();
    while let Some(sample) = stats.message().await.unwrap() {
        samples.push(sample.stats.unwrap());
    }
    assert_eq!(samples.len(), 3);
    let last = samples.last().unwrap();
    assert!(last.cpu_usage > 0.05 && last.cpu_usage < 2.0, "{last:?}");
    assert!(last.memory_bytes > 100_000 && last.memory_bytes < 64 << 20, "{last:?}");
    assert_eq!((last.memory_limit_bytes, last.pids_limit), (512 << 20, 256));
    assert!(last.pids >= 3, "the supervisor, a keeper and the shell: {last:?}");
}

#[tokio::test]
async fn what_is_wrong_is_told_before_anything_is_made() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let with = |change: &dyn Fn(&mut v1::ContainerSpec)| {
        let mut spec = sh("true");
        change(&mut spec);
        spec
    };
    let mount =
        |host: &str| v1::ContainerMount { host_path: host.into(), container_path: "/data".into(), writable: true };
    let resources = |change: &dyn Fn(&mut v1::ContainerResources)| {
        let mut resources = v1::ContainerResources::default();
        change(&mut resources);
        Some(resources)
    };
    let source = |image: &str| Some(v1::container_spec::Source::Image(image.into()));
    let hardening = |change: &dyn Fn(&mut v1::ContainerHardening)| {
        let mut hardening = v1::ContainerHardening::default();
        change(&mut hardening);
        Some(hardening)
    };
    let cases: Vec<(&str, v1::ContainerSpec)> = vec![
        ("INVALID_ARGUMENT", with(&|spec| spec.source = None)),
        ("INVALID_ARGUMENT", with(&|spec| spec.source = source("Not/An/Image::"))),
        ("POLICY_DENIED", with(&|spec| spec.source = source("docker.io/library/alpine:3"))),
        ("POLICY_DENIED", with(&|spec| spec.source = source("evil.example/casemate-test/busybox:1"))),
        (
            "BACKEND_UNAVAILABLE|IMAGE_NOT_FOUND|POLICY_DENIED",
            with(&|spec| spec.source = source("casemate-test/none:1")),
        ),
        ("INVALID_ARGUMENT", with(&|spec| spec.environment = [("LD_PRELOAD".into(), "x".into())].into())),
        ("INVALID_ARGUMENT", with(&|spec| spec.environment = [("https_proxy".into(), "x".into())].into())),
        ("TEMPLATE_NOT_FOUND", with(&|spec| spec.template = "none".into())),
        ("INVALID_ARGUMENT", with(&|spec| spec.working_directory = "relative".into())),
        ("INVALID_ARGUMENT", with(&|spec| spec.resources = resources(&|r| r.memory_bytes = 1 << 50))),
        ("INVALID_ARGUMENT", with(&|spec| spec.resources = resources(&|r| r.pids = 1))),
        ("INVALID_ARGUMENT", with(&|spec| spec.stop_signal = "SIGNOTHING".into())),
        ("INVALID_ARGUMENT", with(&|spec| spec.policy = 99)),
        ("POLICY_DENIED", with(&|spec| spec.policy = v1::SandboxPolicy::ContainerDirect.into())),
        ("POLICY_DENIED", with(&|spec| spec.user = "root".into())),
        ("POLICY_DENIED", with(&|spec| spec.user = "1000:0".into())),
        ("POLICY_DENIED", with(&|spec| spec.mounts = vec![mount("/etc")])),
        ("POLICY_DENIED", with(&|spec| spec.runtime = "runsc".into())),
        ("POLICY_DENIED", with(&|spec| spec.hardening = hardening(&|h| h.writable_root = true))),
        (
            "POLICY_DENIED",
            with(&|spec| spec.hardening = hardening(&|h| h.add_capabilities = vec!["CAP_SYS_ADMIN".into()])),
        ),
        ("POLICY_DENIED", with(&|spec| spec.hardening = hardening(&|h| h.seccomp_profile = "none".into()))),
        ("UNIMPLEMENTED", with(&|spec| spec.credentials = vec!["c".into()])),
    ];
    for (expected, spec) in cases {
        let shown = format!("{spec:?}");
        let error = house.spawn(spec).await.expect_err(&shown);
        assert!(expected.split('|').any(|one| one == reason(&error)), "{expected}: {error:?} for {shown}");
    }
    assert!(house.sandboxes().is_empty());
    let all = house.containers().await.list_containers(v1::ListContainersRequest::default()).await.unwrap();
    assert!(all.into_inner().containers.is_empty());
}

#[tokio::test]
async fn an_image_whose_user_is_root_by_another_name_is_found_out() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    // Made here, from what is here: its user "agent" is number 0.
    let name = format!("casemate-test/rooted:{}", std::process::id());
    let made = ask(&["create", "-u", "0", BUSYBOX, "sh", "-c", "echo agent:x:0:0::/:/bin/sh >> /etc/passwd"]);
    ask(&["start", "-a", made.trim()]);
    ask(&["commit", made.trim(), &name]);
    ask(&["rm", made.trim()]);
    let spec = v1::ContainerSpec { user: "agent".into(), ..image(&name, &["/bin/sleep", "1000"]) };
    let refused = house.spawn(spec).await;
    ask(&["rmi", &name]);
    let refused = refused.unwrap_err();
    assert_eq!(&*reason(&refused), "CONTAINER_FAILED");
    assert!(refused.message().contains("root"), "{refused:?}");
    assert!(house.sandboxes().is_empty());
}

#[tokio::test]
async fn templates_and_mounts_are_the_operators() {
    if !docker() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("data")).unwrap();
    std::fs::write(root.join("data/file"), "from the host").unwrap();
    std::os::unix::fs::symlink("/etc", root.join("escape")).unwrap();
    let keys = format!(
        "mount_roots = [{root:?}]\ntemplate = \"small\"\n[containers.templates.small]\nimage = \"{BUSYBOX}\"\n\
         command = [\"/bin/sleep\", \"1000\"]\nmemory = \"64MiB\"\nenvironment = {{ GREETING = \"hello\" }}"
    );
    let house = House::with(&keys).await;
    let mount = |host: String| v1::ContainerMount { host_path: host, container_path: "/data".into(), writable: false };
    let mounts = vec![mount(root.join("data").display().to_string())];
    let container = house.spawn(v1::ContainerSpec { mounts, ..Default::default() }).await.unwrap();
    let spec = container.spec.clone().unwrap();
    assert_eq!((&*spec.template, spec.resources.unwrap().memory_bytes), ("small", 64 << 20));
    assert_eq!(spec.environment.get("GREETING").map(String::as_str), Some(""), "names alone are shown");
    let ran = house.run(&container.id, "cat /data/file; echo $GREETING; echo x > /data/new").await;
    assert_eq!(ran.text(), "from the hosthello\n");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("Read-only"));
    let escape = vec![mount(root.join("escape").display().to_string())];
    let refused = house.spawn(v1::ContainerSpec { mounts: escape, ..Default::default() }).await.unwrap_err();
    assert_eq!(&*reason(&refused), "POLICY_DENIED");
}

#[tokio::test]
async fn without_a_daemon_the_server_serves_everything_else() {
    use crate::harness::Setup;
    let config = "[containers]\nhost = \"unix:///nowhere/docker.sock\"\nimages = [\"docker.io/casemate-test/*\"]";
    let server = Setup::new().config(config).start().await;
    let house = House { server: Some(server) };
    let refused = house.spawn(sh("true")).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "BACKEND_UNAVAILABLE"));
    assert!(refused.message().contains("/nowhere/docker.sock"), "{refused:?}");
    let (status, health) = house.server().get("/health").await;
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["components"]["containers"]["state"]), (200, &"disabled".into()), "{health}");
}
