//! A server with Python, and calls of it.

use crate::harness::{Bearer, Executions, PATIENCE, Server, Setup, TOKEN, Tools, call, wait_for};
use casemate::proto::v1;
use casemate::proto::v1::executions_client::ExecutionsClient;
use casemate::proto::v1::sessions_client::SessionsClient;
use casemate::proto::v1::snapshots_client::SnapshotsClient;
use casemate::proto::v1::tools_client::ToolsClient;
use std::path::PathBuf;
use std::time::Duration;
use tonic::Status;
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;

pub type Sessions = SessionsClient<InterceptedService<Channel, Bearer>>;
pub type Snapshots = SnapshotsClient<InterceptedService<Channel, Bearer>>;

const MESSAGES: usize = 64 << 20;

/// Where interpreters are installed; `None` when these tests are to be skipped.
pub fn installed() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os("CASEMATE_TEST_INTERPRETERS") {
        return Some(directory.into());
    }
    let ask = "set CASEMATE_TEST_INTERPRETERS to a directory that `casemate interpreters install --directory` filled";
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no interpreters to test: {ask}");
    eprintln!("\n*** SKIPPED, no interpreters to test: {ask} ***\n");
    None
}

/// A server that has Python, in a folder of its own.
pub struct Python {
    pub server: Server,
    channel: Channel,
}

/// One that is set up further by `setup`; `None` when there is no Python to test.
pub async fn start_with(setup: impl FnOnce(Setup) -> Setup) -> Option<Python> {
    let directory = installed()?;
    let setup = setup(Setup::new().config(&format!("[interpreters]\ndirectory = {:?}", directory)));
    Some(Python::on(setup.start().await).await)
}

/// With the default configuration.
pub async fn start() -> Option<Python> {
    start_with(|setup| setup).await
}

impl Python {
    pub async fn on(server: Server) -> Python {
        let channel = server.channel().await;
        Python { server, channel }
    }

    pub fn tools(&self) -> Tools {
        let client = ToolsClient::with_interceptor(self.channel.clone(), Bearer(TOKEN));
        client.max_decoding_message_size(MESSAGES).max_encoding_message_size(MESSAGES)
    }

    pub fn executions(&self) -> Executions {
        ExecutionsClient::with_interceptor(self.channel.clone(), Bearer(TOKEN)).max_decoding_message_size(MESSAGES)
    }

    pub fn sessions(&self) -> Sessions {
        SessionsClient::with_interceptor(self.channel.clone(), Bearer(TOKEN))
    }

    pub fn snapshots(&self) -> Snapshots {
        SnapshotsClient::with_interceptor(self.channel.clone(), Bearer(TOKEN))
    }

    /// Makes a call and gives what came back.
    pub async fn call(&self, call: v1::ToolCall) -> Result<Run, Status> {
        let response = self.tools().execute_tool(v1::ExecuteToolRequest { call: Some(call) }).await?;
        Ok(Run(response.into_inner()))
    }

    /// Runs code in a fresh isolate.
    pub async fn run(&self, text: &str) -> Run {
        self.call(code(text)).await.unwrap()
    }

    /// Makes a session.
    pub async fn session(&self) -> String {
        self.session_with(v1::CreateSessionRequest::default()).await.id
    }

    /// Makes a session as the request says.
    pub async fn session_with(&self, request: v1::CreateSessionRequest) -> v1::Session {
        let request = v1::CreateSessionRequest { tool: "python".into(), ..request };
        self.sessions().create_session(request).await.unwrap().into_inner().session.unwrap()
    }

    /// Runs code in a session.
    pub async fn turn(&self, session: &str, text: &str) -> Run {
        self.call(within(session, code(text))).await.unwrap()
    }

    /// What the server says of a session.
    pub async fn look(&self, session: &str) -> v1::Session {
        let request = v1::GetSessionRequest { session_id: session.into() };
        self.sessions().get_session(request).await.unwrap().into_inner().session.unwrap()
    }

    /// What the server says of an execution.
    pub async fn execution(&self, id: &str) -> v1::Execution {
        let request = v1::GetExecutionRequest { execution_id: id.into() };
        self.executions().get_execution(request).await.unwrap().into_inner().execution.unwrap()
    }

    /// Waits until a session is as wanted.
    pub async fn session_until(&self, session: &str, what: &str, wanted: impl Fn(&v1::Session) -> bool) -> v1::Session {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let found = self.look(session).await;
            if wanted(&found) {
                return found;
            }
            assert!(std::time::Instant::now() < deadline, "waited {PATIENCE:?} for {what}: {found:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the last turn of a session is on disk.
    pub async fn durable(&self, session: &str) -> u64 {
        let wanted = |session: &v1::Session| session.checkpoint_turn == session.turn && session.turn > 0;
        self.session_until(session, "the checkpoint", wanted).await.turn
    }

    /// Starts a call and waits until its standard output contains `mark`. Gives the id of its execution and the
    /// stream, which keeps the caller attached.
    pub async fn begin(
        &self,
        call: v1::ToolCall,
        mark: &str,
    ) -> (String, tonic::Streaming<v1::ExecuteToolStreamResponse>) {
        use v1::execution_event::Event;
        let request = v1::ExecuteToolStreamRequest { call: Some(call), keepalive_seconds: 0 };
        let mut stream = self.tools().execute_tool_stream(request).await.unwrap().into_inner();
        let (mut id, mut said) = (String::new(), String::new());
        loop {
            let event = tokio::time::timeout(PATIENCE, stream.message()).await.expect("an event in time");
            match event.unwrap().unwrap().event.unwrap().event.unwrap() {
                Event::Started(started) => id = started.execution_id,
                Event::Stdout(chunk) => said.push_str(&String::from_utf8_lossy(&chunk.data)),
                Event::Finished(finished) => panic!("it ended before it said {mark:?}: {finished:?}"),
                _ => {}
            }
            if said.contains(mark) {
                return (id, stream);
            }
        }
    }

    /// Kills the server and starts another one on the same folder.
    pub async fn kill_and_restart(self) -> Python {
        Python::on(self.server.kill_and_restart().await).await
    }

    /// Asks the server to end, and starts another one on the same folder.
    pub async fn stop_and_restart(mut self) -> Python {
        self.server.signal(rustix::process::Signal::TERM);
        assert!(wait_for("the end of the server", || self.server.process.try_wait().unwrap()).await.success());
        self.kill_and_restart().await
    }
}

/// A call of Python with this code.
pub fn code(text: &str) -> v1::ToolCall {
    call("python", &serde_json::json!({ "code": text }).to_string())
}

/// The same in a session.
pub fn within(session: &str, call: v1::ToolCall) -> v1::ToolCall {
    let target = v1::tool_target::Target::SessionId(session.into());
    v1::ToolCall { target: Some(v1::ToolTarget { target: Some(target), expected_turn: None }), ..call }
}

/// The same from a snapshot.
pub fn out_of(snapshot: &str, call: v1::ToolCall) -> v1::ToolCall {
    let target = v1::tool_target::Target::SnapshotId(snapshot.into());
    v1::ToolCall { target: Some(v1::ToolTarget { target: Some(target), expected_turn: None }), ..call }
}

/// The same with limits of its own.
pub fn limited(limits: v1::ExecutionLimits, call: v1::ToolCall) -> v1::ToolCall {
    v1::ToolCall { limits: Some(limits), ..call }
}

/// A limit on the time.
pub fn seconds(seconds: i64) -> v1::ExecutionLimits {
    let wall_time = Some(prost_types::Duration { seconds, nanos: 0 });
    v1::ExecutionLimits { wall_time, ..Default::default() }
}

/// What came back of a run.
#[derive(Debug)]
pub struct Run(pub v1::ExecuteToolResponse);

impl Run {
    pub fn result(&self) -> &v1::ExecutionResult {
        self.execution().result.as_ref().unwrap()
    }

    pub fn execution(&self) -> &v1::Execution {
        self.0.execution.as_ref().unwrap()
    }

    pub fn reason(&self) -> v1::ExitReason {
        self.result().exit_reason()
    }

    /// What it printed.
    pub fn out(&self) -> String {
        crate::harness::text(&self.0)
    }

    /// What it printed, of a run that must have gone well.
    pub fn fine(&self) -> String {
        assert_eq!(
            (self.reason(), self.result().exit_code),
            (v1::ExitReason::Exited, 0),
            "{}\n{}",
            self.result().message,
            self.0.stderr
        );
        self.out()
    }

    /// The exception that ended it.
    pub fn exception(&self) -> &v1::ExceptionInfo {
        self.result().exception.as_ref().unwrap_or_else(|| panic!("no exception: {:?}", self.0))
    }

    /// Its type and its message.
    pub fn raised(&self) -> (&str, &str) {
        let exception = self.exception();
        (&exception.type_name, &exception.message)
    }
}
