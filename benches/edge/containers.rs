//! Containers beside the raw API of their backend, in one run: a command, a spawn, a kill, a flood.
//!
//! Needs a Docker daemon with the image casemate-test/busybox:1 (scripts/docker.sh, scripts/test-images.sh); without,
//! the section says so.

use super::Plan;
use super::load::{self, Figures};
use super::report::Report;
use super::server::{self, Process, authorized};
use casemate::container::backend::{Backend, Blueprint, ExecRequest, ImageFacts};
use casemate::container::docker::{Docker, DockerConfig};
use casemate::domain::container::Resources;
use casemate::domain::id::ContainerId;
use casemate::domain::image::ImageReference;
use casemate::proto::v1;
use casemate::proto::v1::containers_client::ContainersClient;
use casemate::proto::v1::executions_client::ExecutionsClient;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use v1::exec_request::Message as Ask;
use v1::exec_response::Message as Told;
use v1::execution_event::Event;

pub const IMAGE: &str = "docker.io/casemate-test/busybox:1";
const MIB: u64 = 1 << 20;
/// What a flood writes.
const FLOOD: u64 = 512 << 20;
/// Bytes of one write of a flood.
const BLOCK: u64 = 64 << 10;
/// Processes after which the supervisor's memory is looked at.
const MANY: usize = 10_000;
/// Spawns and kills that are timed, each beside one of the raw API's.
const TIMES: usize = 15;

/// The raw API and the image, or word of what is missing.
pub async fn backend() -> Option<(Docker, ImageFacts)> {
    let docker = Docker::connect(DockerConfig::default()).ok();
    let reference = ImageReference::parse(IMAGE).expect("a reference");
    let image = match &docker {
        Some(docker) => docker.image(&reference).await.ok().flatten(),
        None => None,
    };
    if image.is_none() {
        println!("  !! skipped: no Docker daemon with {IMAGE}");
    }
    docker.zip(image)
}

pub async fn measure(plan: Plan, report: &mut Report) {
    report.title("Containers, beside the raw Docker API");
    let Some((docker, image)) = backend().await else { return };
    let docker = Arc::new(docker);
    let settings = [("CASEMATE_CONTAINERS__IMAGES", IMAGE), ("CASEMATE_CONTAINERS__ON_SHUTDOWN", "stop")];
    let server = Process::start_with(server::echo_only(), &settings).await;
    let channel = server.connect().await;
    let home = spawn(&channel, "sleep 1000000").await;

    let ours = commands(&channel, &home.id, plan, report).await;
    let theirs = raw_exec(&docker, &home.backend_id, plan, report).await;
    alone(&channel, &home.id, plan, report).await;
    report.value("container_command_times_faster", "  a command: times faster than exec", theirs.p50 / ours.p50, "x");

    flood(&channel, &home.id, plan, report).await;
    memory(&channel, &home, report).await;
    lives(&channel, &docker, &image.id, report).await;
    let _ = kill(&channel, &home.id).await;
}

async fn spawn(channel: &Channel, script: &str) -> v1::Container {
    let resources = v1::ContainerResources { executions: 1024, pids: 2048, cpu_millis: 2000, ..Default::default() };
    spawn_with(channel, script, v1::ContainerSpec { resources: Some(resources), ..Default::default() }).await
}

pub async fn spawn_with(channel: &Channel, script: &str, spec: v1::ContainerSpec) -> v1::Container {
    let spec = v1::ContainerSpec {
        source: Some(v1::container_spec::Source::Image(IMAGE.into())),
        command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        ..spec
    };
    let request = v1::SpawnContainerRequest { spec: Some(spec), ..Default::default() };
    let mut client = ContainersClient::new(channel.clone());
    let spawned = client.spawn_container(authorized(request)).await.expect("a container").into_inner();
    spawned.container.expect("a container")
}

pub async fn kill(channel: &Channel, id: &str) -> v1::KillContainerResponse {
    let request = v1::KillContainerRequest { container_id: id.into(), ..Default::default() };
    let mut client = ContainersClient::new(channel.clone());
    client.kill_container(authorized(request)).await.expect("a kill").into_inner()
}

fn start(id: &str, command: &[&str]) -> v1::StartProcessRequest {
    let command = command.iter().map(|part| part.to_string()).collect();
    v1::StartProcessRequest {
        container_id: id.into(),
        process: Some(v1::ProcessSpec { command, ..Default::default() }),
        ..Default::default()
    }
}

/// One command to its end, on one stream: its output and its code.
async fn command(channel: Channel, id: Arc<str>) {
    let first = v1::ExecStart { process: Some(start(&id, &["/bin/echo", "hello"])), ..Default::default() };
    let first = v1::ExecRequest { message: Some(Ask::Start(first)) };
    let request = authorized(tokio_stream::once(first));
    let mut told = ContainersClient::new(channel).exec(request).await.expect("a stream").into_inner();
    let (mut output, mut over) = (Vec::new(), false);
    while let Some(message) = told.message().await.expect("a message") {
        match message.message {
            Some(Told::Event(v1::ExecutionEvent { event: Some(Event::Stdout(chunk)), .. })) => {
                output.extend_from_slice(&chunk.data);
            }
            Some(Told::Event(v1::ExecutionEvent { event: Some(Event::Finished(_)), .. })) => over = true,
            _ => {}
        }
    }
    assert!(over && output == b"hello\n");
}

async fn commands(channel: &Channel, id: &str, plan: Plan, report: &mut Report) -> Figures {
    let mut alone = Vec::new();
    for (concurrency, name, label) in
        [(1, "container_command", "a command, Exec over gRPC"), (16, "container_command_16", "  16 at a time")]
    {
        let mut runs = Vec::new();
        for _ in 0..plan.rounds {
            let (channel, id): (Channel, Arc<str>) = (channel.clone(), id.into());
            runs.push(load::run(concurrency, plan.time, move || command(channel.clone(), id.clone())).await);
        }
        let figures = Figures::median(runs);
        report.figures(name, label, &figures);
        alone.push(figures);
    }
    alone.swap_remove(0)
}

/// The same program started by this bench, in no container: what the machine takes for it whoever starts it.
async fn alone(channel: &Channel, id: &str, plan: Plan, report: &mut Report) {
    let request = v1::ReadFileRequest { container_id: id.into(), path: "/bin/busybox".into(), ..Default::default() };
    let mut client = ContainersClient::new(channel.clone());
    let mut stream = client.read_file(authorized(request)).await.expect("a read").into_inner();
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("echo");
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o755).open(&program).expect("a file");
    while let Some(message) = stream.message().await.expect("a part") {
        if let Some(v1::read_file_response::Part::Chunk(data)) = message.part {
            file.write_all(&data).expect("room");
        }
    }
    drop(file);
    let once = move || {
        let program = program.clone();
        async move {
            let run = move || std::process::Command::new(program).arg("hello").output();
            let output = tokio::task::spawn_blocking(run).await.expect("a thread").expect("a program");
            assert!(output.stdout == b"hello\n");
        }
    };
    let figures = load::run(1, plan.time, once).await;
    report.figures("program_alone", "  the same program, in no container", &figures);
}

async fn raw_exec(docker: &Arc<Docker>, sandbox: &str, plan: Plan, report: &mut Report) -> Figures {
    let mut runs = Vec::new();
    for _ in 0..plan.rounds {
        let (docker, sandbox): (Arc<Docker>, Arc<str>) = (docker.clone(), sandbox.into());
        let once = move || {
            let (docker, sandbox) = (docker.clone(), sandbox.clone());
            async move {
                let command = ["/bin/echo", "hello"].map(str::to_owned).into();
                let request = ExecRequest { command, ..Default::default() };
                let mut stream = docker.exec(&sandbox, &request).await.expect("an exec");
                let mut output = Vec::new();
                while let Some(piece) = stream.output.next().await {
                    output.extend_from_slice(&piece.expect("output").1);
                }
                assert!(output == b"hello\n");
                docker.exec_exit(&stream.id).await.expect("its code");
            }
        };
        runs.push(load::run(1, plan.time, once).await);
    }
    let figures = Figures::median(runs);
    report.figures("docker_exec", "a command, Docker's exec", &figures);
    figures
}

/// How fast output reaches one client that takes all of it.
async fn flood(channel: &Channel, id: &str, plan: Plan, report: &mut Report) {
    let mut rates = Vec::new();
    for _ in 0..plan.rounds {
        // busybox's `head` writes byte by byte, and would be what is measured.
        let count = format!("count={}", FLOOD / BLOCK);
        let request = start(id, &["/bin/dd", "if=/dev/zero", "bs=64k", &count]);
        let began = Instant::now();
        let mut containers = ContainersClient::new(channel.clone());
        let started = containers.start_process(authorized(request)).await.expect("a start").into_inner();
        let id = started.execution.expect("an execution").id;
        let request = v1::WatchExecutionRequest { execution_id: id, ..Default::default() };
        let mut executions = ExecutionsClient::new(channel.clone());
        let mut events = executions.watch_execution(authorized(request)).await.expect("a watch").into_inner();
        let mut bytes = 0;
        while let Some(message) = events.message().await.expect("an event") {
            if let Some(Event::Stdout(chunk)) = message.event.expect("an event").event {
                bytes += chunk.data.len() as u64;
            }
        }
        rates.push(bytes as f64 / began.elapsed().as_secs_f64() / 1e6);
    }
    rates.sort_by(f64::total_cmp);
    report.value("container_output_rate", "output of a process, one client", rates[rates.len() / 2], "MB/s");
}

/// The supervisor's memory after many processes.
async fn memory(channel: &Channel, home: &v1::Container, report: &mut Report) {
    let (channel, id): (Channel, Arc<str>) = (channel.clone(), home.id.as_str().into());
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(MANY));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (channel, id, left) = (channel.clone(), id.clone(), left.clone());
        tasks.spawn(async move {
            while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                command(channel.clone(), id.clone()).await;
            }
        });
    }
    tasks.join_all().await;
    // What has ended is released a moment later.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = std::process::Command::new("docker")
        .args(["inspect", "-f", "{{.State.Pid}}", &home.backend_id])
        .output()
        .expect("docker");
    let pid = String::from_utf8(pid.stdout).expect("a number");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    report.value("guest_memory", "memory of the supervisor after 10,000 processes", kib / 1024.0, "MiB");
}

/// Spawns and kills, in turns with the raw API's.
async fn lives(channel: &Channel, docker: &Arc<Docker>, image: &str, report: &mut Report) {
    let (mut spawns, mut raw, mut kills) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let began = Instant::now();
        let id = raw_spawn(docker, image, false).await;
        raw.push(millis(began));
        docker.remove(&id).await.expect("a removal");
        let began = Instant::now();
        let deaf = spawn(channel, "trap '' TERM; while :; do sleep 0.1; done").await;
        spawns.push(millis(began));
        let began = Instant::now();
        kill(channel, &deaf.id).await;
        kills.push(millis(began));
    }
    let [spawn, raw, kill] = [spawns, raw, kills].map(middle);
    report.value("container_spawn", "cold spawn, until its main process runs", spawn, "ms");
    report.value("docker_create_start", "Docker's create and start", raw, "ms");
    report.value("container_spawn_ratio", "  beside it", spawn / raw, "x");
    report.value("container_kill", "kill of a process that ignores TERM, container gone", kill, "ms");
}

pub async fn raw_spawn(docker: &Docker, image: &str, writable_root: bool) -> String {
    let resources = Resources {
        memory_bytes: 512 * MIB,
        swap_bytes: 0,
        cpu_millis: 1000,
        cpu_weight: 100,
        pids: 2048,
        open_files: 1024,
        disk_bytes: 0,
        shared_memory_bytes: 64 * MIB,
        log_bytes: MIB,
        executions: 1,
    };
    let blueprint = Blueprint {
        container: ContainerId::new(),
        installation: "bench".into(),
        image_id: image.into(),
        init: ["/bin/sleep", "1000"].map(str::to_owned).into(),
        environment: Vec::new(),
        user: "1000:1000".into(),
        groups: Vec::new(),
        working_directory: "/".into(),
        hostname: "bench".into(),
        resources,
        binds: Vec::new(),
        tmpfs: Vec::new(),
        network: false,
        writable_root,
        capabilities: Vec::new(),
        seccomp: None,
        apparmor: String::new(),
        runtime: String::new(),
    };
    let id = docker.create(&blueprint).await.expect("a sandbox");
    docker.start(&id).await.expect("a start");
    id
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
