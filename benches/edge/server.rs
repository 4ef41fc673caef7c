//! Casemate as it ships: the release binary, a token, a schema.

use super::PAYLOAD;
use casemate::proto::v1;
use casemate::proto::v1::tools_client::ToolsClient;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

const TOKEN: &str = "bench-token-0123456789abcdef0123456789";

/// A folder with tools, kept over restarts so that the cache is warm.
pub type Folder = Arc<TempDir>;

fn folder(tools: &[(&str, &str)]) -> Folder {
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("tools")).expect("a folder");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tools");
    for (name, example) in tools {
        for extension in ["wasm", "toml"] {
            let to = folder.path().join(format!("tools/{name}.{extension}"));
            std::fs::copy(examples.join(format!("{example}.{extension}")), to).expect("the example tools are there");
        }
    }
    Arc::new(folder)
}

pub fn echo_only() -> Folder {
    folder(&[("echo", "echo")])
}

pub fn ten_tools() -> Folder {
    folder(&[
        ("echo", "echo"),
        ("echo2", "echo"),
        ("stats", "text_stats"),
        ("stats2", "text_stats"),
        ("query", "json_query"),
        ("query2", "json_query"),
        ("hash", "hash"),
        ("hash2", "hash"),
        ("fetch", "fetch"),
        ("fetch2", "fetch"),
    ])
}

/// The guests of the tests, without manifests.
pub fn guests(names: &[&str]) -> Folder {
    let folder = folder(&[]);
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    for name in names {
        let text = guests.join(format!("{name}.wat"));
        let module = if text.exists() {
            wat::parse_file(text).expect("the guest is WASM")
        } else {
            std::fs::read(guests.join(format!("{name}.wasm"))).expect("the guest is there")
        };
        std::fs::write(folder.path().join(format!("tools/{name}.wasm")), module).expect("room");
    }
    folder
}

/// The server as a process of its own.
pub struct Process {
    child: Child,
    address: String,
    /// From the start of the process to its ready file.
    pub ready_after: Duration,
    _folder: Folder,
}

/// How much of the way a call goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Health's Check: counted and routed, no token, no handler to speak of.
    Check,
    /// A tool that does not exist, with the whole payload: token, permission, decoding, and a refusal.
    Refused,
    /// The whole call.
    Execute,
    /// The whole call, recorded on disk before and after.
    Durable,
}

impl Step {
    pub const ALL: [Step; 4] = [Step::Check, Step::Refused, Step::Execute, Step::Durable];

    pub fn name(self) -> &'static str {
        match self {
            Step::Check => "health_check",
            Step::Refused => "refused_call",
            Step::Execute => "execute_tool",
            Step::Durable => "execute_tool_request_id",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Step::Check => "Health/Check (no token)",
            Step::Refused => "ExecuteTool, refused: no such tool",
            Step::Execute => "ExecuteTool echo",
            Step::Durable => "ExecuteTool echo with request_id",
        }
    }
}

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Process {
    pub async fn start(folder: Folder) -> Process {
        Self::start_with(folder, &[]).await
    }

    /// With more settings: `("CASEMATE_...", "value")`.
    pub async fn start_with(folder: Folder, settings: &[(&str, &str)]) -> Process {
        let ready = folder.path().join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_casemate"))
            .current_dir(folder.path())
            .args(["serve", "--address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--tools", "tools"])
            .args(["--data", "data", "--ready-file", "ready.json", "--log-level", "warn"])
            .env("CASEMATE_AUTH__TOKEN", TOKEN)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .expect("casemate starts");
        while !ready.exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "casemate never became ready");
            std::thread::sleep(Duration::from_micros(200));
        }
        let ready_after = began.elapsed();
        let text = std::fs::read_to_string(ready).expect("the ready file");
        let ready: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let address = ready["grpc"].as_str().expect("an address").to_owned();
        Process { child, address, ready_after, _folder: folder }
    }

    /// Resident bytes once the server has been left alone for a second.
    pub async fn idle_memory(&self) -> u64 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.memory()
    }

    /// Resident bytes now.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:") << 10
    }

    /// Bytes of its own: memory that no file backs, and the page tables. What is resident counts the pages of an
    /// image once for each isolate that shows it, although they exist once.
    pub fn own_memory(&self) -> u64 {
        (self.status("RssAnon:") + self.status("VmPTE:")) << 10
    }

    /// Threads now.
    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Channel {
        tonic::transport::Endpoint::from_shared(format!("http://{}", self.address))
            .expect("an address")
            .connect()
            .await
            .expect("a connection")
    }

    /// Calls again and again, over a connection of its own.
    pub async fn caller(&self, step: Step) -> impl Fn() -> Call + Send + Sync + 'static {
        let channel = self.connect().await;
        let parameters = format!("{{\"text\":\"{}\"}}", "x".repeat(PAYLOAD - r#"{"text":""}"#.len()));
        move || -> Call {
            if step == Step::Check {
                let mut client = tonic_health::pb::health_client::HealthClient::new(channel.clone());
                return Box::pin(async move {
                    client.check(tonic_health::pb::HealthCheckRequest::default()).await.expect("an answer");
                });
            }
            let mut client = ToolsClient::new(channel.clone());
            let call = v1::ToolCall {
                tool: if step == Step::Refused { "none".into() } else { "echo".into() },
                input: Some(v1::tool_call::Input::ParametersJson(parameters.clone())),
                request_id: if step == Step::Durable { uuid::Uuid::now_v7().to_string() } else { String::new() },
                ..Default::default()
            };
            let request = authorized(v1::ExecuteToolRequest { call: Some(call) });
            Box::pin(async move {
                match (client.execute_tool(request).await, step) {
                    (Err(status), Step::Refused) => assert_eq!(status.code(), tonic::Code::NotFound),
                    (answer, _) => {
                        let execution = answer.expect("an answer").into_inner().execution.expect("an execution");
                        assert_eq!(execution.state, v1::ExecutionState::Succeeded as i32);
                    }
                }
            })
        }
    }
}

/// A request with the token.
pub fn authorized<T>(message: T) -> tonic::Request<T> {
    static HEADER: std::sync::LazyLock<MetadataValue<Ascii>> =
        std::sync::LazyLock::new(|| MetadataValue::try_from(format!("Bearer {TOKEN}")).expect("ASCII"));
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", HEADER.clone());
    request
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
