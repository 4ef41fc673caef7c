//! A server with Docker behind it, and what tests say to it.

use crate::harness::{Bearer, Server, Setup, TOKEN};
use casemate::proto::v1;
use casemate::proto::v1::containers_client::ContainersClient;
use std::path::Path;
use std::process::Command;
use tonic::Status;
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;
use v1::execution_event::Event;

pub type Containers = ContainersClient<InterceptedService<Channel, Bearer>>;

pub const BUSYBOX: &str = "casemate-test/busybox:1";
pub const EMPTY: &str = "casemate-test/empty:1";
pub const PYTHON: &str = "casemate-test/python:1";

/// Whether there is a daemon with the images; says so if not.
pub fn docker() -> bool {
    let there = Command::new("docker").args(["image", "inspect", BUSYBOX]).output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        assert!(
            std::env::var_os("CASEMATE_TEST_DOCKER").is_none(),
            "no Docker daemon with the test images: scripts/docker.sh and scripts/test-images.sh make them"
        );
        eprintln!("!! SKIPPED: no Docker daemon with the test images");
    }
    there
}

/// What `docker` says.
pub fn ask(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An image as another, with nothing that it would run by itself.
pub fn without_command(image: &str) -> String {
    let name = image.replace(":1", "-idle:1");
    if Command::new("docker").args(["image", "inspect", &name]).output().unwrap().status.success() {
        return name;
    }
    let id = ask(&["create", image, "/none"]);
    let script = format!("docker export {} | docker import - {name}", id.trim());
    assert!(Command::new("sh").args(["-c", &script]).output().unwrap().status.success());
    ask(&["rm", id.trim()]);
    name
}

/// A server whose containers go with it.
pub struct House {
    pub server: Option<Server>,
}

impl House {
    pub async fn open() -> House {
        House::with("").await
    }

    /// With further keys of `[containers]`.
    pub async fn with(keys: &str) -> House {
        House::opened(&["docker.io/casemate-test/*"], keys).await
    }

    /// With these images alone.
    pub async fn admitting(images: &[&str]) -> House {
        House::opened(images, "").await
    }

    async fn opened(images: &[&str], keys: &str) -> House {
        let config = format!("[containers]\nimages = {images:?}\n{keys}");
        let house = House { server: Some(Setup::new().config(&config).start().await) };
        house.ready().await;
        house
    }

    /// Waits until the backend was met.
    pub async fn ready(&self) {
        self.until_health("up").await;
    }

    /// Waits until containers are in this state for whoever asks for the server's health. Answers what is said of it.
    pub async fn until_health(&self, state: &str) -> String {
        let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
        loop {
            let (_, text) = self.server().get("/health").await;
            let health: serde_json::Value = serde_json::from_str(&text).unwrap();
            let containers = &health["components"]["containers"];
            if containers["state"] == state {
                return containers["detail"].as_str().unwrap_or_default().to_owned();
            }
            assert!(std::time::Instant::now() < deadline, "containers never were {state}: {text}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn path(&self) -> &Path {
        self.server().path()
    }

    pub async fn containers(&self) -> Containers {
        let channel = self.server().channel().await;
        ContainersClient::with_interceptor(channel, Bearer(TOKEN)).max_decoding_message_size(64 << 20)
    }

    /// As a power cut of the server alone, and a new one.
    pub async fn kill_and_restart(&mut self) {
        let server = self.server.take().unwrap();
        self.server = Some(server.kill_and_restart().await);
        self.ready().await;
    }

    pub async fn spawn(&self, spec: v1::ContainerSpec) -> Result<v1::Container, Status> {
        let request = v1::SpawnContainerRequest { spec: Some(spec), ..Default::default() };
        Ok(self.containers().await.spawn_container(request).await?.into_inner().container.unwrap())
    }

    /// A container with busybox that does nothing by itself.
    pub async fn idle(&self) -> v1::Container {
        self.spawn(sh("sleep 100000")).await.unwrap()
    }

    pub async fn get(&self, id: &str) -> v1::Container {
        let request = v1::GetContainerRequest { container_id: id.into(), ..Default::default() };
        self.containers().await.get_container(request).await.unwrap().into_inner().container.unwrap()
    }

    /// Waits until a container is over: its log says so.
    pub async fn ended(&self, id: &str) -> v1::ContainerEnd {
        let request = v1::StreamLogsRequest { container_id: id.into(), follow: true, ..Default::default() };
        let mut log = self.containers().await.stream_logs(request).await.unwrap().into_inner();
        let mut end = None;
        while let Some(entry) = log.message().await.unwrap() {
            if let Some(v1::stream_logs_response::Entry::End(found)) = entry.entry {
                end = Some(found);
            }
        }
        end.expect("the last word is how it ended")
    }

    pub async fn kill(&self, id: &str) -> v1::KillContainerResponse {
        let request = v1::KillContainerRequest { container_id: id.into(), ..Default::default() };
        self.containers().await.kill_container(request).await.unwrap().into_inner()
    }

    /// Starts a process.
    pub async fn start(&self, id: &str, process: v1::ProcessSpec) -> Result<v1::Execution, Status> {
        let request = v1::StartProcessRequest { container_id: id.into(), process: Some(process), ..Default::default() };
        Ok(self.containers().await.start_process(request).await?.into_inner().execution.unwrap())
    }

    /// Runs a shell's command to its end.
    pub async fn run(&self, id: &str, script: &str) -> Ran {
        let execution = self.start(id, shell(script)).await.unwrap();
        self.follow(&execution.id, 0).await
    }

    /// Reads an execution to its end.
    pub async fn follow(&self, id: &str, from: u64) -> Ran {
        let request =
            v1::WatchExecutionRequest { execution_id: id.into(), from_sequence: from, keepalive_interval: None };
        let mut stream = self.server().executions().await.watch_execution(request).await.unwrap().into_inner();
        let mut ran = Ran::default();
        while let Some(message) = stream.message().await.unwrap() {
            ran.take(message.event.unwrap());
        }
        assert!(ran.result.is_some(), "the stream ended before its execution");
        ran
    }

    /// Starts a container, and waits until its main process has written this.
    pub async fn spawn_until(&self, spec: v1::ContainerSpec, text: &str) -> v1::Container {
        let container = self.spawn(spec).await.unwrap();
        self.until(&container.main_execution_id, text).await;
        container
    }

    /// Reads an execution until it has written this.
    pub async fn until(&self, id: &str, text: &str) {
        let request = v1::WatchExecutionRequest { execution_id: id.into(), ..Default::default() };
        let mut events = self.server().executions().await.watch_execution(request).await.unwrap().into_inner();
        let mut ran = Ran::default();
        while !ran.text().contains(text) {
            ran.take(events.message().await.unwrap().expect("more to come").event.unwrap());
        }
    }

    pub async fn execution(&self, id: &str) -> v1::Execution {
        let request = v1::GetExecutionRequest { execution_id: id.into() };
        let mut executions = self.server().executions().await;
        executions.get_execution(request).await.unwrap().into_inner().execution.unwrap()
    }

    /// What the server's process has in memory, in KiB: now, and at most so far.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server().process.id())).unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (line("VmRSS:"), line("VmHWM:"))
    }

    /// Sandboxes of this server that Docker has.
    pub fn sandboxes(&self) -> Vec<String> {
        sandboxes(self.path())
    }
}

/// Names of sandboxes that belong to a server's directory, running or not.
pub fn sandboxes(folder: &Path) -> Vec<String> {
    let all = ask(&["ps", "-a", "--filter", &label(folder), "--format", "{{.Names}}"]);
    all.lines().map(str::to_owned).collect()
}

/// What selects sandboxes of a server's directory.
fn label(folder: &Path) -> String {
    let store = rusqlite::Connection::open(folder.join("data/casemate.db")).unwrap();
    let installation: String = store.query_row("SELECT id FROM installation", [], |row| row.get(0)).unwrap();
    format!("label=casemate.installation={installation}")
}

/// Ids of images that belong to a server's directory: those of its snapshots, newest first.
pub fn images(folder: &Path) -> Vec<String> {
    let all = Command::new("docker").args(["images", "-q", "--no-trunc", "--filter", &label(folder)]).output();
    String::from_utf8_lossy(&all.map(|all| all.stdout).unwrap_or_default()).lines().map(str::to_owned).collect()
}

impl Drop for House {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else { return };
        let _ = server.process.kill();
        let _ = server.process.wait();
        // A test that fails may have left no daemon that answers.
        let all = Command::new("docker").args(["ps", "-aq", "--filter", &label(server.path())]).output();
        for id in String::from_utf8_lossy(&all.map(|all| all.stdout).unwrap_or_default()).lines() {
            let _ = Command::new("docker").args(["rm", "-f", "-v", id]).output();
        }
        for id in images(server.path()) {
            let _ = Command::new("docker").args(["rmi", "-f", &id]).output();
        }
    }
}

/// What came of an execution.
#[derive(Debug, Default)]
pub struct Ran {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub last: u64,
    pub gaps: usize,
    pub result: Option<v1::ExecutionResult>,
}

impl Ran {
    pub fn take(&mut self, event: v1::ExecutionEvent) {
        let first = match &event.event {
            Some(Event::Truncated(gap)) => gap.first_sequence,
            _ => event.sequence,
        };
        if matches!(event.event, Some(Event::Keepalive(_))) {
            return;
        }
        assert!(self.last == 0 || first == self.last + 1, "{first} follows {}", self.last);
        self.last = event.sequence;
        match event.event.unwrap() {
            Event::Stdout(chunk) => append(&mut self.stdout, chunk, self.gaps),
            Event::Stderr(chunk) => append(&mut self.stderr, chunk, self.gaps),
            Event::Truncated(_) => self.gaps += 1,
            Event::Finished(finished) => self.result = finished.result,
            _ => {}
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn reason(&self) -> v1::ExitReason {
        self.result.as_ref().unwrap().exit_reason()
    }

    pub fn code(&self) -> i32 {
        assert_eq!(self.reason(), v1::ExitReason::Exited);
        self.result.as_ref().unwrap().exit_code
    }
}

fn append(to: &mut Vec<u8>, chunk: v1::OutputChunk, gaps: usize) {
    if gaps == 0 {
        assert_eq!(chunk.offset, to.len() as u64, "no byte is missing or doubled");
    }
    to.extend_from_slice(&chunk.data);
}

/// A container of busybox whose main process is this script.
pub fn sh(script: &str) -> v1::ContainerSpec {
    image(BUSYBOX, &["/bin/sh", "-c", script])
}

pub fn image(image: &str, command: &[&str]) -> v1::ContainerSpec {
    v1::ContainerSpec {
        source: Some(v1::container_spec::Source::Image(image.into())),
        command: command.iter().map(|part| part.to_string()).collect(),
        ..Default::default()
    }
}

/// A process that is this script.
pub fn shell(script: &str) -> v1::ProcessSpec {
    v1::ProcessSpec { command: vec!["sh".into(), "-c".into(), script.into()], ..Default::default() }
}
