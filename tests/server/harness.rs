//! A server of its own for each test: the real binary, its own directories, free ports, a fresh token.

use casemate::proto::v1;
use casemate::proto::v1::executions_client::ExecutionsClient;
use casemate::proto::v1::tools_client::ToolsClient;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::codegen::InterceptedService;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

pub const TOKEN: &str = "test-token-0123456789abcdef0123456789abcdef";
/// Longest a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub type Tools = ToolsClient<InterceptedService<Channel, Bearer>>;
pub type Executions = ExecutionsClient<InterceptedService<Channel, Bearer>>;

/// Adds the token.
#[derive(Clone)]
pub struct Bearer(pub &'static str);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = MetadataValue::try_from(format!("Bearer {}", self.0)).unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// A running server.
pub struct Server {
    pub process: Child,
    /// Gone once `kill` has handed it on.
    folder: Option<TempDir>,
    pub grpc: String,
    pub http: String,
}

/// How to start one.
pub struct Setup {
    folder: TempDir,
    config: String,
}

impl Setup {
    /// Empty directories and the default configuration.
    pub fn new() -> Setup {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("tools")).unwrap();
        Setup { folder, config: String::new() }
    }

    /// Adds lines to the configuration file.
    pub fn config(mut self, lines: &str) -> Setup {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Puts a tool into the tools directory.
    pub fn tool(self, name: &str, module: &[u8], manifest: &str) -> Setup {
        write_tool(&self.folder.path().join("tools"), name, module, manifest);
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub async fn start(self) -> Server {
        let Setup { folder, config } = self;
        std::fs::write(folder.path().join("casemate.toml"), config).unwrap();
        Server::start(folder).await
    }
}

/// Writes a tool's files.
pub fn write_tool(tools: &Path, name: &str, module: &[u8], manifest: &str) {
    std::fs::write(tools.join(format!("{name}.wasm")), module).unwrap();
    if !manifest.is_empty() {
        std::fs::write(tools.join(format!("{name}.toml")), manifest).unwrap();
    }
}

/// The command that serves from a folder.
pub fn serve_command(folder: &Path) -> Command {
    serve_command_at(folder, "127.0.0.1:0")
}

pub fn serve_command_at(folder: &Path, address: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
    command
        .current_dir(folder)
        .args(["serve", "--config", "casemate.toml", "--address", address, "--http-address", "127.0.0.1:0"])
        .args(["--tools", "tools", "--data", "data", "--ready-file", "ready.json"])
        .env("CASEMATE_AUTH__TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap());
    command
}

impl Server {
    pub async fn start(folder: TempDir) -> Server {
        let _ = std::fs::remove_file(folder.path().join("ready.json"));
        let mut process = serve_command(folder.path()).spawn().unwrap();
        let ready = wait_for("the ready file", || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", log(folder.path()));
            }
            let text = std::fs::read_to_string(folder.path().join("ready.json")).ok()?;
            serde_json::from_str::<serde_json::Value>(&text).ok()
        })
        .await;
        let address = |key: &str| ready[key].as_str().unwrap().to_owned();
        Server { grpc: address("grpc"), http: address("http"), process, folder: Some(folder) }
    }

    pub fn path(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    pub fn tools_directory(&self) -> PathBuf {
        self.path().join("tools")
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.unwrap()
    }

    pub async fn tools(&self) -> Tools {
        ToolsClient::with_interceptor(self.channel().await, Bearer(TOKEN)).max_decoding_message_size(64 << 20)
    }

    pub async fn executions(&self) -> Executions {
        ExecutionsClient::with_interceptor(self.channel().await, Bearer(TOKEN)).max_decoding_message_size(64 << 20)
    }

    /// Runs a tool to its end.
    pub async fn run(&self, call: v1::ToolCall) -> Result<v1::ExecuteToolResponse, Status> {
        let response = self.tools().await.execute_tool(v1::ExecuteToolRequest { call: Some(call) }).await?;
        Ok(response.into_inner())
    }

    /// Starts a tool and answers its execution's id once it runs.
    pub async fn start_run(&self, call: v1::ToolCall) -> String {
        let request = v1::ExecuteToolStreamRequest { call: Some(call), keepalive_seconds: 0 };
        let mut stream = self.tools().await.execute_tool_stream(request).await.unwrap().into_inner();
        let event = stream.message().await.unwrap().unwrap().event.unwrap();
        match event.event {
            Some(v1::execution_event::Event::Started(started)) => started.execution_id,
            other => panic!("expected the start, got {other:?}"),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills the server as a power cut would, and starts another on the same directories.
    pub async fn kill_and_restart(self) -> Server {
        let folder = self.kill();
        Server::start(folder).await
    }

    /// Kills the server and keeps its directories.
    pub fn kill(mut self) -> TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.folder.take().unwrap()
    }

    /// Waits for the server to end by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        wait_for("the server's end", || self.process.try_wait().unwrap()).await
    }

    /// An HTTP GET of the sidecar: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(&self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.http);
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(folder) = &self.folder else { return };
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", log(folder.path()));
        }
    }
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// Waits until `probe` has an answer, and fails loudly if it never has.
pub async fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A call with JSON parameters.
pub fn call(tool: &str, parameters: &str) -> v1::ToolCall {
    v1::ToolCall {
        tool: tool.into(),
        input: Some(v1::tool_call::Input::ParametersJson(parameters.into())),
        ..Default::default()
    }
}

/// The reason of an error.
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// What a run printed, as text.
pub fn text(response: &v1::ExecuteToolResponse) -> String {
    use v1::tool_output::Content;
    match response.output.as_ref().unwrap().content.as_ref().unwrap() {
        Content::Text(text) | Content::JsonText(text) => text.clone(),
        Content::Data(data) => String::from_utf8_lossy(data).into_owned(),
        Content::Json(value) => format!("{value:?}"),
    }
}

/// The result of a run.
pub fn result(response: &v1::ExecuteToolResponse) -> &v1::ExecutionResult {
    response.execution.as_ref().unwrap().result.as_ref().unwrap()
}
