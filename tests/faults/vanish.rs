//! Clients that are gone from one moment to the next, in the middle of a stream that is full of bytes.

use crate::guests;
use crate::harness::{Bearer, Server, Setup, TOKEN, call, text};
use casemate::proto::v1;
use casemate::proto::v1::execution_event::Event;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// A connection through a relay that can reset it: the server gets RST, not FIN.
async fn resettable(server: &Server) -> (Channel, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = server.grpc.clone();
    let (reset, wanted) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut upstream = TcpStream::connect(target).await.unwrap();
        upstream.set_zero_linger().unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
            _ = wanted => {}
        }
    });
    (Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap(), reset)
}

fn sockets(server: &Server) -> usize {
    let folder = Path::new("/proc").join(server.process.id().to_string()).join("fd");
    let open = std::fs::read_dir(folder).unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    open.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: did not happen");
        tokio::task::yield_now().await;
    }
}

async fn running(server: &Server) -> usize {
    let states = vec![v1::ExecutionState::Running.into(), v1::ExecutionState::Queued.into()];
    let filter = Some(v1::ExecutionFilter { states, ..Default::default() });
    let request = v1::ListExecutionsRequest { filter, ..Default::default() };
    server.executions().await.list_executions(request).await.unwrap().into_inner().executions.len()
}

#[tokio::test]
async fn a_reset_ends_a_unary_call_and_frees_its_slot() {
    let server = Setup::new()
        .config("[execution]\nmax_running = 1\nmax_queued = 0")
        .tool("spin", &guests::spin(), "")
        .tool("cat", &guests::cat(), "")
        .start()
        .await;
    let (channel, reset) = resettable(&server).await;
    let mut tools = v1::tools_client::ToolsClient::with_interceptor(channel, Bearer(TOKEN));
    let spins =
        tokio::spawn(
            async move { tools.execute_tool(v1::ExecuteToolRequest { call: Some(call("spin", "{}")) }).await },
        );
    until("it runs", async || running(&server).await == 1).await;
    reset.send(()).unwrap();
    spins.await.unwrap().unwrap_err();
    let began = Instant::now();
    until("the slot is free", async || match server.run(call("cat", "{}")).await {
        Ok(answer) => text(&answer) == "{}",
        Err(status) => {
            assert_eq!(status.code(), Code::ResourceExhausted);
            false
        }
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_the_version_that_serves_and_no_file() {
    use v1::upload_tool_request::Part;
    let server = Setup::new().tool("say", &guests::say("old"), "").start().await;
    let new = guests::say(&"new".repeat(5000));
    for sent in [0, 1, 3, 100] {
        let (channel, reset) = resettable(&server).await;
        let mut tools = v1::tools_client::ToolsClient::with_interceptor(channel, Bearer(TOKEN));
        let header = v1::UploadToolHeader { name: "say".into(), ..Default::default() };
        let chunks = new.chunks(100).take(sent).map(|chunk| Part::Chunk(chunk.to_vec().into()));
        let parts: Vec<_> = std::iter::once(Part::Header(header)).chain(chunks).collect();
        let (all_taken, taken) = oneshot::channel();
        let mut all_taken = Some(all_taken);
        let mut parts = parts.into_iter();
        // Says when the last part was taken, and never ends.
        let stream = async_stream(move || match parts.next() {
            Some(part) => Some(v1::UploadToolRequest { part: Some(part) }),
            None => {
                all_taken.take().map(|told| told.send(()));
                None
            }
        });
        let upload = tokio::spawn(async move { tools.upload_tool(stream).await });
        taken.await.unwrap();
        let _ = reset.send(());
        upload.await.unwrap().unwrap_err();
        assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "old");
        let files: Vec<_> =
            std::fs::read_dir(server.tools_directory()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(files, ["say.wasm"]);
    }
}

/// What `next` gives, and then silence.
fn async_stream<T>(next: impl FnMut() -> Option<T>) -> impl tokio_stream::Stream<Item = T> {
    use tokio_stream::StreamExt;
    tokio_stream::iter(std::iter::from_fn(next)).chain(tokio_stream::pending())
}

#[tokio::test]
async fn forty_resets_in_the_middle_of_a_flood_leave_nothing_open_and_every_run_whole() {
    const CLIENTS: usize = 40;
    const CHUNKS: u32 = 64;
    let server = Setup::new().tool("flood", &guests::flood(CHUNKS), "").start().await;
    server.run(call("flood", "{}")).await.unwrap();
    until("the first connection is gone", async || sockets(&server) <= BASE).await;
    let before = sockets(&server);
    let mut ids = Vec::new();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (channel, reset) = resettable(&server).await;
        clients.spawn(async move {
            let mut tools = v1::tools_client::ToolsClient::with_interceptor(channel, Bearer(TOKEN));
            let request = v1::ExecuteToolStreamRequest { call: Some(call("flood", "{}")), keepalive_seconds: 0 };
            let mut stream = tools.execute_tool_stream(request).await.unwrap().into_inner();
            let first = stream.message().await.unwrap().unwrap().event.unwrap();
            let Some(Event::Started(started)) = first.event else { panic!("{first:?}") };
            // Gone after the first event, the second, the third...
            for _ in 0..number % 8 {
                stream.message().await.unwrap();
            }
            let _ = reset.send(());
            while let Ok(Some(_)) = stream.message().await {}
            started.execution_id
        });
    }
    while let Some(id) = clients.join_next().await {
        ids.push(id.unwrap());
    }
    let mut executions = server.executions().await;
    for id in ids {
        let wait = v1::WaitExecutionRequest { execution_id: id.clone(), timeout: None };
        let ended = executions.wait_execution(wait).await.unwrap().into_inner().execution.unwrap();
        assert_eq!(ended.state(), v1::ExecutionState::Succeeded);
        let usage = ended.result.unwrap().usage.unwrap();
        assert_eq!(usage.stdout_bytes, u64::from(CHUNKS) * 65536);
    }
    drop(executions);
    until("the sockets are closed", async || sockets(&server) <= before).await;
}

/// Listeners and whatever else a server without clients has.
const BASE: usize = 8;

async fn events(server: &Server, id: &str, from: u64) -> Vec<v1::ExecutionEvent> {
    let watch = v1::WatchExecutionRequest { execution_id: id.into(), from_sequence: from, ..Default::default() };
    let mut stream = server.executions().await.watch_execution(watch).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        events.push(message.event.unwrap());
    }
    events
}

/// Reads `count` events from `from` on, over a connection that is then reset.
async fn some(server: &Server, id: &str, from: u64, count: usize) -> Vec<v1::ExecutionEvent> {
    let (channel, reset) = resettable(server).await;
    let mut executions = v1::executions_client::ExecutionsClient::with_interceptor(channel, Bearer(TOKEN));
    let watch = v1::WatchExecutionRequest { execution_id: id.into(), from_sequence: from, ..Default::default() };
    let mut stream = executions.watch_execution(watch).await.unwrap().into_inner();
    let mut events = Vec::new();
    while events.len() < count {
        events.push(stream.message().await.unwrap().unwrap().event.unwrap());
    }
    let _ = reset.send(());
    while let Ok(Some(_)) = stream.message().await {}
    events
}

#[tokio::test]
async fn every_sequence_brings_the_same_bytes_while_it_runs_when_it_is_over_and_after_a_restart() {
    const LINES: usize = 12;
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let open = v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") };
    let id = server.start_run(open).await;
    let mut executions = server.executions().await;
    let watch = v1::WatchExecutionRequest { execution_id: id.clone(), ..Default::default() };
    let mut reader = executions.watch_execution(watch).await.unwrap().into_inner();
    let mut next = async || reader.message().await.unwrap().unwrap().event.unwrap();
    let mut seen = vec![next().await, next().await];
    let mut offset = 0;
    for number in 0..LINES {
        let data = format!("line {number}\n");
        let write = v1::WriteStdinRequest { execution_id: id.clone(), offset, data: data.into(), eof: false };
        offset = executions.write_stdin(write).await.unwrap().into_inner().offset;
        seen.push(next().await);
    }
    for (index, event) in seen.iter().enumerate() {
        assert_eq!(event.sequence, index as u64 + 1);
    }
    // While it runs: from every number on, over connections that are reset.
    for from in 1..=seen.len() {
        let rest = &seen[from - 1..];
        assert_eq!(some(&server, &id, from as u64, rest.len()).await, rest, "from {from}, running");
    }
    let write = v1::WriteStdinRequest { execution_id: id.clone(), offset, data: "".into(), eof: true };
    executions.write_stdin(write).await.unwrap();
    seen.push(next().await);
    assert!(matches!(seen.last().unwrap().event, Some(Event::Finished(_))));
    for from in 1..=seen.len() {
        assert_eq!(events(&server, &id, from as u64).await, seen[from - 1..], "from {from}, over");
    }
    // A listing has everything on disk; then the server dies.
    executions.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();
    let server = server.kill_and_restart().await;
    for from in 1..=seen.len() {
        assert_eq!(events(&server, &id, from as u64).await, seen[from - 1..], "from {from}, after a restart");
    }
}
