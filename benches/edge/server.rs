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
use tonic::metadata::MetadataValue;

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

/// The server as a process of its own.
pub struct Process {
    child: Child,
    address: String,
    /// From the start of the process to its ready file.
    pub ready_after: Duration,
    _folder: Folder,
}

impl Process {
    pub async fn start(folder: Folder) -> Process {
        let ready = folder.path().join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_casemate"))
            .current_dir(folder.path())
            .args(["serve", "--address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--tools", "tools"])
            .args(["--data", "data", "--ready-file", "ready.json", "--log-level", "warn"])
            .env("CASEMATE_AUTH__TOKEN", TOKEN)
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
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
        kib << 10
    }

    pub async fn caller(&self) -> impl Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", self.address))
            .expect("an address")
            .connect()
            .await
            .expect("a connection");
        let parameters = format!("{{\"text\":\"{}\"}}", "x".repeat(PAYLOAD - r#"{"text":""}"#.len()));
        let token = MetadataValue::try_from(format!("Bearer {TOKEN}")).expect("ASCII");
        move || {
            let mut client = ToolsClient::new(channel.clone());
            let call = v1::ToolCall {
                tool: "echo".into(),
                input: Some(v1::tool_call::Input::ParametersJson(parameters.clone())),
                ..Default::default()
            };
            let mut request = tonic::Request::new(v1::ExecuteToolRequest { call: Some(call) });
            request.metadata_mut().insert("authorization", token.clone());
            Box::pin(async move {
                let answer = client.execute_tool(request).await.expect("an answer").into_inner();
                assert_eq!(answer.execution.expect("an execution").state, v1::ExecutionState::Succeeded as i32);
            })
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
