//! Host calls that do not come back: the deadline ends their run, and nothing else is held up.

use crate::guests;
use crate::harness::{Server, Setup, call, result, text};
use casemate::proto::v1;
use prost_types::Duration as Span;
use rustix::process::Signal;
use std::path::Path;
use std::time::{Duration, Instant};
use tonic::Code;

/// Opens `pipe` in its directory, which blocks until somebody writes to it, and reads from it.
fn open_pipe() -> Vec<u8> {
    let text = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 64) "pipe")
      (func (export "_start")
        (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0)
              (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
        (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1024))
        (drop (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    wat::parse_str(text).unwrap()
}

fn short(milliseconds: i32) -> Option<v1::ExecutionLimits> {
    let wall_time = Some(Span { seconds: 0, nanos: milliseconds * 1_000_000 });
    Some(v1::ExecutionLimits { wall_time, ..Default::default() })
}

/// A server with a tool `pipe` that blocks in a call of the operating system, and one slot for runs.
async fn with_pipe(config: &str) -> Server {
    let setup = Setup::new();
    let folder = setup.path().canonicalize().unwrap().join("shared");
    std::fs::create_dir(&folder).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let manifest = format!("[[directories]]\nhost = {folder:?}\nguest = \"/data\"\n");
    setup
        .config(&format!("[engine]\ndirectory_roots = [{folder:?}]\n{config}"))
        .tool("pipe", &open_pipe(), &manifest)
        .tool("cat", &guests::cat(), "")
        .start()
        .await
}

fn threads(server: &Server) -> usize {
    std::fs::read_dir(Path::new("/proc").join(server.process.id().to_string()).join("task")).unwrap().count()
}

#[tokio::test]
async fn a_call_of_the_system_that_blocks_ends_at_the_deadline_and_frees_its_slot() {
    let mut server =
        with_pipe("[execution]\nmax_running = 1\nmax_queued = 0\n[server]\ndrain_timeout = \"200ms\"").await;
    let pipe = || v1::ToolCall { limits: short(100), ..call("pipe", "{}") };
    let began = Instant::now();
    let ended = server.run(pipe()).await.unwrap();
    assert_eq!(result(&ended).exit_reason(), v1::ExitReason::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // There is one slot, and it is free.
    assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");

    // The caller's deadline does the same as the wall time,
    let mut request = tonic::Request::new(v1::ExecuteToolRequest { call: Some(call("pipe", "{}")) });
    request.set_timeout(Duration::from_millis(100));
    let status = server.tools().await.execute_tool(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Err(status) = server.run(call("cat", "{}")).await {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(Instant::now() < deadline, "the slot stays taken");
    }
    // and so does whoever cancels it.
    let id = server.start_run(call("pipe", "{}")).await;
    let cancel = v1::CancelExecutionRequest { execution_id: id, ..Default::default() };
    let cancelled = server.executions().await.cancel_execution(cancel).await.unwrap().into_inner().execution.unwrap();
    assert_eq!(cancelled.state(), v1::ExecutionState::Cancelled);
    assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");

    // Neither does it hold up the server's end.
    server.start_run(call("pipe", "{}")).await;
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn more_blocked_calls_than_there_are_threads_for_them_hold_up_nobody_else() {
    const BLOCKED: usize = 600;
    let server = with_pipe("[execution]\nmax_running = 64\nmax_queued = 1024").await;
    let mut runs = tokio::task::JoinSet::new();
    let channel = server.tools().await;
    for _ in 0..BLOCKED {
        let (mut tools, call) = (channel.clone(), v1::ToolCall { limits: short(20), ..call("pipe", "{}") });
        runs.spawn(async move { tools.execute_tool(v1::ExecuteToolRequest { call: Some(call) }).await });
    }
    for answer in runs.join_all().await {
        let answer = answer.unwrap().into_inner();
        assert_eq!(result(&answer).exit_reason(), v1::ExitReason::TimedOut);
    }
    let threads = threads(&server);
    eprintln!("{threads} threads after {BLOCKED} blocked calls");
    assert!(threads < 200, "{threads}");
    // The store reads and modules load beside them.
    let whole = async {
        assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");
        let listed = server.executions().await.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();
        assert!(!listed.into_inner().executions.is_empty());
        let register =
            v1::RegisterToolRequest { name: "late".into(), module: guests::say("hi").into(), ..Default::default() };
        server.tools().await.register_tool(register).await.unwrap();
        assert_eq!(text(&server.run(call("late", "{}")).await.unwrap()), "hi");
    };
    tokio::time::timeout(Duration::from_secs(10), whole).await.expect("blocked calls hold up the server");
}

#[tokio::test]
async fn waiting_for_input_or_for_time_ends_at_the_deadline() {
    let server = Setup::new().tool("cat", &guests::cat(), "").tool("sleep", &guests::sleep(60_000), "").start().await;
    for tool in ["cat", "sleep"] {
        let began = Instant::now();
        let waits = v1::ToolCall { keep_stdin_open: true, limits: short(100), ..call(tool, "{}") };
        let ended = server.run(waits).await.unwrap();
        assert_eq!(result(&ended).exit_reason(), v1::ExitReason::TimedOut, "{tool}");
        assert!(began.elapsed() < Duration::from_secs(2), "{tool} took {:?}", began.elapsed());
    }
}

/// The engine's own side: a way out that was accepted and is never answered.
mod outside {
    use super::*;
    use casemate::domain::event::{LogLevel, OutputStream, Progress};
    use casemate::domain::execution::Exit;
    use casemate::domain::io::{InputRead, InputSource, Meter, OutputSink};
    use casemate::domain::limits::{Limits, LimitsPolicy};
    use casemate::engine::{Denied, Egress, Engine, EngineConfig, Run};
    use futures_core::future::BoxFuture;
    use serde_json::Value;
    use std::sync::Arc;
    use std::task::{Context, Poll};
    use tokio::io::AsyncReadExt;

    /// Connects to whoever listens and waits for an answer.
    struct Gate(std::net::SocketAddr);

    impl Egress for Gate {
        fn http_request(&self, _params: Value) -> BoxFuture<'_, Result<Value, Denied>> {
            Box::pin(async move {
                let mut socket = tokio::net::TcpStream::connect(self.0).await.unwrap();
                let mut answer = String::new();
                socket.read_to_string(&mut answer).await.unwrap();
                Ok(Value::String(answer))
            })
        }
    }

    struct Request;

    impl InputSource for Request {
        fn read(&self, _max: usize) -> InputRead {
            InputRead::Data(r#"{"method":"http_request","params":{"url":"http://nobody"}}"#.into())
        }
        fn poll_ready(&self, _cx: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    struct Nowhere;

    impl OutputSink for Nowhere {
        fn write(&self, _stream: OutputStream, _data: bytes::Bytes) {}
        fn log(&self, _level: LogLevel, _message: String) {}
        fn progress(&self, _progress: Progress) {}
    }

    #[tokio::test]
    async fn a_request_that_is_never_answered_ends_at_the_deadline_and_lets_its_connection_go() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Engine::new(EngineConfig { max_running: 4, ..EngineConfig::default() }).unwrap();
        let program = engine.load("asks", guests::host_call(1).into()).await.unwrap();
        let limits = Limits { wall_time: Duration::from_millis(100), ..LimitsPolicy::default().defaults };
        let run = Run {
            limits,
            args: vec!["asks".into()],
            environment: Arc::default(),
            directories: Arc::from([]),
            input: Arc::new(Request),
            output: Arc::new(Nowhere),
            meter: Arc::new(Meter::default()),
            egress: Arc::new(Gate(address)),
        };
        let began = Instant::now();
        let (ended, accepted) = tokio::join!(program.run(run), listener.accept());
        assert_eq!(ended.unwrap().exit, Exit::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(engine.facts().running, 0);
        // The other side sees the end of it.
        let (mut socket, _) = accepted.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await.unwrap().unwrap();
    }
}
