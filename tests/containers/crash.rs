//! Servers that are killed: what runs goes on, and nobody notices more than a pause.

use crate::harness::{Bearer, Server, TOKEN, serve_command};
use crate::kit::{BUSYBOX, House, Ran, ask, docker, sandboxes, sh, shell};
use casemate::proto::v1;
use casemate::proto::v1::containers_client::ContainersClient;
use casemate::proto::v1::executions_client::ExecutionsClient;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

#[tokio::test]
async fn twenty_processes_survive_a_kill_of_the_server() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    // One that is not ours, and must stay as it is.
    let foreign = ask(&["run", "-d", "--network", "none", BUSYBOX, "sleep", "100000"]);
    let container = house.idle().await;
    let mut started = Vec::new();
    for number in 0..20 {
        let script = format!(
            "i=0; while [ $i -lt 40 ]; do echo {number} out $i; echo {number} err $i >&2; i=$((i+1)); sleep 0.05; done; \
             echo done; exit {number}"
        );
        started.push(house.start(&container.id, shell(&script)).await.unwrap().id);
    }
    // Some are watched when it happens, so that their numbers are known.
    let mut seen = Vec::new();
    for id in &started[..10] {
        let request = v1::WatchExecutionRequest { execution_id: id.clone(), ..Default::default() };
        let mut stream = house.server().executions().await.watch_execution(request).await.unwrap().into_inner();
        let mut ran = Ran::default();
        while ran.stdout.len() < 60 {
            ran.take(stream.message().await.unwrap().unwrap().event.unwrap());
        }
        seen.push(ran);
    }
    house.kill_and_restart().await;
    let expected =
        |number: usize, what: &str| -> String { (0..40).map(|line| format!("{number} {what} {line}\n")).collect() };
    for (number, id) in started.iter().enumerate() {
        let ran = house.follow(id, 0).await;
        assert_eq!(ran.text(), format!("{}done\n", expected(number, "out")));
        assert_eq!(String::from_utf8_lossy(&ran.stderr), expected(number, "err"));
        assert_eq!((ran.code(), ran.gaps), (number as i32, 0));
        // Whoever goes on where it was gets what follows, under the numbers that follow.
        if let Some(mut before) = seen.get_mut(number).map(std::mem::take) {
            let from = before.last + 1;
            let request =
                v1::WatchExecutionRequest { execution_id: id.clone(), from_sequence: from, ..Default::default() };
            let mut stream = house.server().executions().await.watch_execution(request).await.unwrap().into_inner();
            while let Some(message) = stream.message().await.unwrap() {
                before.take(message.event.unwrap());
            }
            assert_eq!((before.stdout, before.stderr, before.last), (ran.stdout, ran.stderr, ran.last));
        }
    }
    assert_eq!(house.get(&container.id).await.state(), v1::ContainerState::Running);
    assert_eq!(house.sandboxes().len(), 1);
    house.kill(&container.id).await;
    let state = ask(&["inspect", "-f", "{{.State.Running}}", foreign.trim()]);
    ask(&["rm", "-f", foreign.trim()]);
    assert_eq!(state.trim(), "true");
}

#[tokio::test]
async fn a_shutdown_in_order_leaves_containers_running_or_not_as_told() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let container = house.idle().await;
    let execution = house.start(&container.id, shell("while :; do echo x; sleep 0.05; done")).await.unwrap();
    let mut server = house.server.take().unwrap();
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().await.success());
    house.server = Some(Server::start(server.kill()).await);
    assert_eq!(house.get(&container.id).await.id, container.id);
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while house.get(&container.id).await.state() != v1::ContainerState::Running {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(house.execution(&execution.id).await.state(), v1::ExecutionState::Running);

    let mut stopping = House::with("on_shutdown = \"stop\"\nstop_grace = \"0s\"").await;
    stopping.idle().await;
    let mut server = stopping.server.take().unwrap();
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().await.success());
    assert!(sandboxes(server.path()).is_empty());
    stopping.server = Some(Server::start(server.kill()).await);
}

#[tokio::test]
async fn what_ended_while_there_was_no_server_is_known_to_the_next() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let container = house.idle().await;
    let quick = house.start(&container.id, shell("sleep 0.3; echo late; exit 9")).await.unwrap();
    let main = house.spawn(sh("sleep 0.5; exit 4")).await.unwrap();
    let folder = house.server.take().unwrap().kill();
    let deadline = Instant::now() + crate::harness::PATIENCE;
    // The main process waits to be told of; its container is not over before.
    while ask(&["top", &container.backend_id]).contains("late") {
        assert!(Instant::now() < deadline);
    }
    house.server = Some(Server::start(folder).await);
    let ran = house.follow(&quick.id, 0).await;
    assert_eq!((ran.text().as_str(), ran.code()), ("late\n", 9));
    while house.get(&main.id).await.state() != v1::ContainerState::Ended {
        assert!(Instant::now() < deadline);
    }
    let end = house.get(&main.id).await.end.unwrap();
    assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Exited, 4));
    // One that was taken away meanwhile.
    let taken = house.idle().await;
    let lost = house.start(&taken.id, shell("echo kept; sleep 1000")).await.unwrap();
    house.until(&lost.id, "kept").await;
    let folder = house.server.take().unwrap().kill();
    ask(&["rm", "-f", &taken.backend_id]);
    house.server = Some(Server::start(folder).await);
    let ran = house.follow(&lost.id, 0).await;
    assert_eq!(ran.reason(), v1::ExitReason::ContainerStopped);
    while house.get(&taken.id).await.state() != v1::ContainerState::Ended {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(house.get(&taken.id).await.end.unwrap().reason(), v1::ContainerEndReason::Vanished);
}

#[tokio::test]
async fn orphans_are_reaped_and_strangers_are_not() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let known = house.idle().await;
    let labels = ask(&["inspect", "-f", "{{index .Config.Labels \"casemate.installation\"}}", &known.backend_id]);
    let id = uuid::Uuid::now_v7().to_string();
    let label = |installation: &str| {
        let (one, two) = (format!("casemate.installation={installation}"), format!("casemate.container={id}"));
        ask(&["run", "-d", "--network", "none", "--label", &one, "--label", &two, BUSYBOX, "sleep", "100000"])
    };
    // What says that it is ours, and nobody knows of; and what says that it is somebody else's.
    let (orphan, stranger) = (label(labels.trim()), label("another-installation"));
    let there = |name: &str| {
        let all = ask(&["ps", "-aq", "--no-trunc"]);
        all.lines().any(|line| line == name.trim())
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while there(&orphan) {
        assert!(Instant::now() < deadline, "the orphan is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stays = there(&stranger);
    ask(&["rm", "-f", stranger.trim()]);
    assert!(stays && there(&known.backend_id));
}

/// What clients were told.
#[derive(Default)]
struct Told {
    /// Executions that were acknowledged, and the text that each writes.
    started: BTreeMap<String, String>,
    /// Containers by request id; empty for one whose answer never came.
    spawned: BTreeMap<String, String>,
}

fn script(number: u64) -> (String, String) {
    let lines = 20 + number % 50;
    let text = (0..lines).map(|line| format!("{number}-{line}\n")).collect();
    let script = format!(
        "i=0; while [ $i -lt {lines} ]; do echo {number}-$i; i=$((i+1)); done; sleep 0.{}; exit {}",
        number % 5,
        number % 100
    );
    (script, text)
}

/// Uses a server until it is gone.
async fn load(server: &Server, home: &str, told: &Arc<Mutex<Told>>, first: u64) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..4 {
        let channel = server.channel().await;
        let mut containers = ContainersClient::with_interceptor(channel.clone(), Bearer(TOKEN));
        let mut executions = ExecutionsClient::with_interceptor(channel, Bearer(TOKEN));
        let (home, told) = (home.to_owned(), told.clone());
        tasks.spawn(async move {
            for number in (first + caller..).step_by(4) {
                if number % 16 == 3 {
                    let id = uuid::Uuid::now_v7().to_string();
                    told.lock().await.spawned.insert(id.clone(), String::new());
                    let spec =
                        v1::ContainerSpec { labels: [("crash".into(), "yes".into())].into(), ..sh("sleep 100000") };
                    let request =
                        v1::SpawnContainerRequest { spec: Some(spec), request_id: id.clone(), ..Default::default() };
                    let Ok(answer) = containers.spawn_container(request).await else { return };
                    let spawned = answer.into_inner().container.unwrap().id;
                    told.lock().await.spawned.insert(id, spawned.clone());
                    let kill = v1::KillContainerRequest { container_id: spawned, ..Default::default() };
                    if containers.kill_container(kill).await.is_err() {
                        return;
                    }
                    continue;
                }
                let (script, text) = script(number);
                let request = v1::StartProcessRequest {
                    container_id: home.clone(),
                    process: Some(shell(&script)),
                    ..Default::default()
                };
                let Ok(answer) = containers.start_process(request).await else { return };
                let id = answer.into_inner().execution.unwrap().id;
                told.lock().await.started.insert(id.clone(), text);
                if number % 3 == 0 {
                    let request = v1::WatchExecutionRequest { execution_id: id, ..Default::default() };
                    let Ok(stream) = executions.watch_execution(request).await else { return };
                    let mut stream = stream.into_inner();
                    while let Ok(Some(_)) = stream.message().await {}
                }
            }
        });
    }
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_kills_under_load_lose_no_byte_and_leave_no_orphan() {
    if !docker() {
        return;
    }
    let seed = uuid::Uuid::now_v7().as_u64_pair().1 | 1;
    eprintln!("seed {seed}");
    let mut random = seed;
    let mut below = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    let foreign = ask(&["run", "-d", "--network", "none", BUSYBOX, "sleep", "100000"]);
    let mut house = House::with("max_containers = 100").await;
    let resources = Some(v1::ContainerResources { executions: 1000, pids: 2000, ..Default::default() });
    let home = house.spawn(v1::ContainerSpec { resources, ..sh("sleep 100000") }).await.unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..30 {
        let tasks = load(house.server(), &home.id, &told, round * 1_000_000).await;
        let deadline = Instant::now() + crate::harness::PATIENCE;
        while told.lock().await.started.len() < (round as usize + 1) * 5 {
            assert!(Instant::now() < deadline, "no load comes about");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The moment is what is random: there is no condition to wait for.
        tokio::time::sleep(Duration::from_micros(below(300_000))).await;
        let mut server = house.server.take().unwrap();
        if round % 5 == 4 {
            // An end in order now and then, which a second signal may cut short.
            server.signal(rustix::process::Signal::TERM);
            tokio::time::sleep(Duration::from_micros(below(50_000))).await;
            if below(2) == 0 {
                server.ended().await;
            }
        }
        let folder = server.kill();
        tasks.join_all().await;
        if round % 4 == 0 {
            // A start that is cut off as well.
            let mut starting = serve_command(folder.path()).spawn().unwrap();
            tokio::time::sleep(Duration::from_micros(below(80_000))).await;
            starting.kill().unwrap();
            starting.wait().unwrap();
        }
        house.server = Some(Server::start(folder).await);
    }
    let told = Arc::into_inner(told).unwrap().into_inner();
    eprintln!("{} processes, {} containers", told.started.len(), told.spawned.len());
    assert!(told.started.len() >= 150 && told.spawned.len() > 5, "the load was none");
    for (id, text) in &told.started {
        let ran = house.follow(id, 0).await;
        assert_eq!((ran.text(), ran.gaps), (text.clone(), 0), "{id} {:?}", ran.result);
        let number: u64 = text.split('-').next().unwrap().parse().unwrap();
        assert_eq!(ran.code() as u64, number % 100, "{id}");
    }
    // What was being made when the server died is made, or is not there.
    let mut alive = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    for (request_id, known) in &told.spawned {
        let spec = v1::ContainerSpec { labels: [("crash".into(), "yes".into())].into(), ..sh("sleep 100000") };
        let request =
            v1::SpawnContainerRequest { spec: Some(spec), request_id: request_id.clone(), ..Default::default() };
        let again = house.containers().await.spawn_container(request).await.unwrap().into_inner().container.unwrap();
        assert!(known.is_empty() || *known == again.id, "{known} became {}", again.id);
        alive.push(again.id);
    }
    for id in &alive {
        house.kill(id).await;
    }
    while house.sandboxes() != [format!("casemate-{}", home.id)] {
        assert!(Instant::now() < deadline, "orphans: {:?}", house.sandboxes());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(house.run(&home.id, "echo still here").await.text(), "still here\n");
    let state = ask(&["inspect", "-f", "{{.State.Running}}", foreign.trim()]);
    ask(&["rm", "-f", foreign.trim()]);
    assert_eq!(state.trim(), "true", "a foreign container was touched");
}
