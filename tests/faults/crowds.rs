//! Many callers, many tools, many records.

use crate::guests;
use crate::harness::{Bearer, Server, Setup, TOKEN, call, reason, text};
use casemate::domain::event::{Event, EventKind};
use casemate::domain::execution::{Execution, ExecutionState, Exit, Origin, Outcome, Subject, Usage};
use casemate::domain::id::ExecutionId;
use casemate::domain::limits::LimitsPolicy;
use casemate::domain::time::Timestamp;
use casemate::proto::v1;
use casemate::store::executions::{Tally, put_counted};
use casemate::store::{NoObserver, Store};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_callers_over_a_limit_of_ten_ten_are_served_and_all_are_answered() {
    let server = Setup::new()
        .config("[execution]\nmax_running = 6\nmax_queued = 4")
        .tool("cat", &guests::cat(), "")
        .start()
        .await;
    let open = || v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") };
    let mut callers = tokio::task::JoinSet::new();
    let channel = server.tools().await;
    for _ in 0..200 {
        let (mut tools, call) = (channel.clone(), open());
        callers.spawn(async move {
            let request = v1::ExecuteToolStreamRequest { call: Some(call), keepalive_seconds: 0 };
            tools.execute_tool_stream(request).await.map(tonic::Response::into_inner)
        });
    }
    let (mut taken, mut refused) = (Vec::new(), 0);
    while let Some(answer) = callers.join_next().await {
        match answer.unwrap() {
            Ok(stream) => taken.push(stream),
            Err(status) => {
                assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
                assert!(status.get_error_details().retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
                refused += 1;
            }
        }
    }
    assert_eq!((taken.len(), refused), (10, 190));
    // Every place comes back: six at once, and four from the queue after them.
    let listed = server.executions().await.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();
    for execution in listed.into_inner().executions {
        let cancel = v1::CancelExecutionRequest { execution_id: execution.id, ..Default::default() };
        server.executions().await.cancel_execution(cancel).await.unwrap();
    }
    for mut stream in taken {
        let mut last = None;
        while let Some(message) = stream.message().await.unwrap() {
            last = message.event.unwrap().event;
        }
        assert!(matches!(last, Some(v1::execution_event::Event::Finished(_))), "{last:?}");
    }
    let mut again = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let mut tools = channel.clone();
        again.spawn(async move { tools.execute_tool(v1::ExecuteToolRequest { call: Some(call("cat", "{}")) }).await });
    }
    for answer in again.join_all().await {
        assert_eq!(text(&answer.unwrap().into_inner()), "{}");
    }
}

/// Connections of somebody who has nothing to say.
async fn silent(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(TcpStream::connect(&server.grpc).await.unwrap());
    }
    all
}

fn refused(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("casemate_connections_refused_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn connections_beyond_the_room_are_closed_and_those_that_are_there_are_served() {
    let server = Setup::new().config("[server]\nmax_connections = 8").tool("cat", &guests::cat(), "").start().await;
    let mut tools = server.tools().await;
    let mut run = async || tools.execute_tool(v1::ExecuteToolRequest { call: Some(call("cat", "{}")) }).await;
    assert_eq!(text(&run().await.unwrap().into_inner()), "{}");
    let mut crowd = silent(&server, 20).await;
    // Its own is the eighth.
    let mut open = crowd.drain(..7).collect::<Vec<_>>();
    for mut connection in crowd {
        match connection.read_u8().await {
            Err(error) => assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)),
            Ok(byte) => panic!("there was room, and the server said {byte}"),
        }
    }
    assert_eq!(text(&run().await.unwrap().into_inner()), "{}");
    let (_, metrics) = server.get("/metrics").await;
    assert_eq!(refused(&metrics), 13);
    assert!(metrics.contains("casemate_connections_open 8\n"), "{metrics}");
    // Nobody waits for the rest of the crowd: one place is enough.
    drop(open.pop());
    let again = async || {
        let uri = format!("http://{}", server.grpc).parse::<tonic::transport::Uri>().unwrap();
        let channel = tonic::transport::Endpoint::from(uri).connect().await.ok()?;
        let mut tools = v1::tools_client::ToolsClient::with_interceptor(channel, Bearer(TOKEN));
        let request = v1::ExecuteToolRequest { call: Some(call("cat", "{}")) };
        Some(text(&tools.execute_tool(request).await.ok()?.into_inner()))
    };
    let patience = Instant::now() + Duration::from_secs(20);
    while again().await.as_deref() != Some("{}") {
        assert!(Instant::now() < patience, "the place does not come back");
    }
}

#[tokio::test]
async fn a_server_without_file_descriptors_serves_those_who_are_there_and_recovers() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let mut tools = server.tools().await;
    let mut run = async || tools.execute_tool(v1::ExecuteToolRequest { call: Some(call("cat", "{}")) }).await;
    assert_eq!(text(&run().await.unwrap().into_inner()), "{}");
    // As if everything else had taken them. The limit is of numbers, and those in use are nearly the lowest.
    let process = rustix::process::Pid::from_raw(server.process.id().try_into().unwrap());
    let limit = |current| {
        let limit = rustix::process::Rlimit { current, maximum: most_descriptors(process) };
        rustix::process::prlimit(process, rustix::process::Resource::Nofile, limit).unwrap()
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.process.id())).unwrap().count() as u64;
    let before = limit(Some(open + 10));
    let crowd = silent(&server, 60).await;
    for _ in 0..20 {
        assert_eq!(text(&run().await.unwrap().into_inner()), "{}");
    }
    limit(before.current);
    drop(crowd);
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(refused(&metrics) > 0, "{metrics}");
    assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");
}

/// How many file descriptors a process may be allowed.
fn most_descriptors(process: Option<rustix::process::Pid>) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", process.unwrap().as_raw_nonzero())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().rev().nth(1).unwrap().parse().ok()
}

#[tokio::test]
async fn ten_thousand_tools_are_listed_and_called() {
    const TOOLS: usize = 10_000;
    let setup = Setup::new();
    let first = setup.path().join("tools/tool-00000.wasm");
    std::fs::write(&first, guests::cat()).unwrap();
    for number in 1..TOOLS {
        std::fs::hard_link(&first, setup.path().join(format!("tools/tool-{number:05}.wasm"))).unwrap();
    }
    let began = Instant::now();
    let server = setup.start().await;
    eprintln!("ready with {TOOLS} tools after {:?}", began.elapsed());
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    eprintln!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap());
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("casemate_module_cache_total{result=\"miss\"} 1\n"), "the same bytes are compiled once");
    let mut tools = server.tools().await;
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListToolsRequest { page_size: 1000, page_token };
        let page = tools.list_tools(request).await.unwrap().into_inner();
        names.extend(page.tools.into_iter().map(|tool| tool.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..TOOLS).map(|number| format!("tool-{number:05}")).collect::<Vec<_>>());
    for name in ["tool-00000", "tool-04711", "tool-09999"] {
        assert_eq!(text(&server.run(call(name, "{}")).await.unwrap()), "{}");
    }
    let register =
        v1::RegisterToolRequest { name: "one-more".into(), module: guests::say("more").into(), ..Default::default() };
    let began = Instant::now();
    tools.register_tool(register).await.unwrap();
    eprintln!("one more after {:?}", began.elapsed());
    assert_eq!(text(&server.run(call("one-more", "{}")).await.unwrap()), "more");
}

/// Records as a server that ran for days would have left them.
pub fn fill(data: &Path, count: usize) -> Vec<String> {
    let store = Store::open(data, Arc::new(NoObserver)).unwrap();
    let written = store.write(move |db| {
        let mut tally = Tally::default();
        let mut ids = Vec::with_capacity(count);
        let limits = LimitsPolicy::default().defaults;
        for _ in 0..count {
            let id = ExecutionId::new();
            let now = Timestamp::now();
            let outcome = Arc::new(Outcome::new(Exit::Exited { code: 0 }, "", Usage::default()));
            let origin = Origin {
                id,
                subject: Subject::Tool { name: "cat".into(), version: "1".into(), digest: "0".into() },
                principal: "operator".into(),
                request_id: None,
                labels: Default::default(),
                limits,
                created: now,
                session: None,
                parent: None,
                target: "".into(),
            };
            let finished = EventKind::Finished { state: ExecutionState::Succeeded, outcome: outcome.clone() };
            let journal = [
                Event { sequence: 1, time: now, kind: EventKind::Started { pid: 0 } },
                Event { sequence: 2, time: now, kind: finished },
            ];
            let execution = Execution {
                origin: Arc::new(origin),
                state: ExecutionState::Succeeded,
                started: Some(now),
                ended: Some(now),
                last_sequence: 2,
                stdin_offset: 0,
                session_turn: 0,
                outcome: Some(outcome),
            };
            put_counted(db, &execution, None, Some(&journal), &mut tally)?;
            ids.push(id.to_string());
        }
        tally.write(db)?;
        Ok(ids)
    });
    let ids = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(written)).unwrap();
    store.close();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_executions_are_listed_by_pages_while_others_finish() {
    const RECORDS: usize = 100_000;
    let setup = Setup::new().config("[retention]\nmax_count = 1000000").tool("cat", &guests::cat(), "");
    let ids = fill(&setup.path().join("data"), RECORDS);
    let began = Instant::now();
    let server = setup.start().await;
    eprintln!("ready with {RECORDS} records after {:?}", began.elapsed());
    let mut others = tokio::task::JoinSet::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..4 {
        let (mut tools, stop) = (server.tools().await, stop.clone());
        others.spawn(async move {
            let mut finished = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                tools.execute_tool(v1::ExecuteToolRequest { call: Some(call("cat", "{}")) }).await.unwrap();
                finished += 1;
            }
            finished
        });
    }
    let mut executions = server.executions().await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    let (mut slowest, began) = (Duration::ZERO, Instant::now());
    loop {
        let page_began = Instant::now();
        let request = v1::ListExecutionsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = executions.list_executions(request).await.unwrap().into_inner();
        slowest = slowest.max(page_began.elapsed());
        found.extend(page.executions.into_iter().map(|execution| execution.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    eprintln!("{} listed in {:?}, slowest page {slowest:?}", found.len(), began.elapsed());
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let finished: usize = others.join_all().await.into_iter().sum();
    eprintln!("{finished} finished meanwhile");
    assert!(finished > 0);
    assert!(found.is_sorted_by(|newer, older| newer > older), "newest first, and none twice");
    let found: HashSet<String> = found.into_iter().collect();
    assert!(ids.iter().all(|id| found.contains(id)), "one that was there from the start is missing");
}
