//! What a crash may take, and what it may not.

use crate::guests;
use crate::harness::{Setup, call, reason, serve_command, text, wait_for};
use casemate::proto::v1;
use casemate::proto::v1::execution_event::Event;
use tonic::Code;

fn with_id(tool: &str, parameters: &str, request_id: &str) -> v1::ToolCall {
    v1::ToolCall { request_id: request_id.into(), ..call(tool, parameters) }
}

fn fresh() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[tokio::test]
async fn a_retry_returns_the_first_execution_also_after_a_kill() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let id = fresh();
    let first = server.run(with_id("cat", r#"{"n": 1}"#, &id)).await.unwrap();
    let second = server.run(with_id("cat", r#"{"n": 1}"#, &id)).await.unwrap();
    assert_eq!(first, second);
    let other = server.run(with_id("cat", r#"{"n": 2}"#, &id)).await.unwrap_err();
    assert_eq!((other.code(), reason(&other).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    let server = server.kill_and_restart().await;
    let third = server.run(with_id("cat", r#"{"n": 1}"#, &id)).await.unwrap();
    assert_eq!(first, third);
    let bad = server.run(with_id("cat", "{}", "not a uuid")).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_retry_while_it_runs_joins_the_first() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let id = fresh();
    let open = || v1::ToolCall { keep_stdin_open: true, ..with_id("cat", "{}", &id) };
    let execution = server.start_run(open()).await;
    assert_eq!(server.start_run(open()).await, execution);
    let joined = tokio::spawn({
        let (mut tools, call) = (server.tools().await, open());
        async move { tools.execute_tool(v1::ExecuteToolRequest { call: Some(call) }).await }
    });
    let write = v1::WriteStdinRequest { execution_id: execution.clone(), offset: 0, data: "x".into(), eof: true };
    server.executions().await.write_stdin(write).await.unwrap();
    let answer = joined.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.execution.as_ref().unwrap().id, execution);
    assert_eq!(text(&answer), "{}\nx");
}

#[tokio::test]
async fn many_retries_at_once_run_once() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let id = fresh();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (mut tools, call) = (server.tools().await, with_id("cat", "{}", &id));
        calls.spawn(async move { tools.execute_tool(v1::ExecuteToolRequest { call: Some(call) }).await });
    }
    let mut ids = std::collections::BTreeSet::new();
    while let Some(answer) = calls.join_next().await {
        ids.insert(answer.unwrap().unwrap().into_inner().execution.unwrap().id);
    }
    assert_eq!(ids.len(), 1);
    let listed = server.executions().await.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().executions.len(), 1);
}

#[tokio::test]
async fn what_a_kill_cut_off_reads_as_lost_with_what_was_flushed_and_is_not_run_again() {
    let server = Setup::new().tool("spin", &guests::spin(), "").tool("cat", &guests::cat(), "").start().await;
    let id = fresh();
    let execution = server.start_run(with_id("spin", "{}", &id)).await;
    // A listing has everything on disk, and so what the guest had said.
    let mut executions = server.executions().await;
    let watch = v1::WatchExecutionRequest { execution_id: execution.clone(), from_sequence: 2, ..Default::default() };
    let mut events = executions.watch_execution(watch).await.unwrap().into_inner();
    let said = events.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(&said.event, Some(Event::Stdout(chunk)) if chunk.data == "spinning"));
    executions.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();

    let server = server.kill_and_restart().await;
    let mut executions = server.executions().await;
    let get = v1::GetExecutionRequest { execution_id: execution.clone() };
    let lost = executions.get_execution(get).await.unwrap().into_inner().execution.unwrap();
    assert_eq!(lost.state(), v1::ExecutionState::Lost);
    assert_eq!(lost.result.as_ref().unwrap().exit_reason(), v1::ExitReason::ServerLost);
    let watch = v1::WatchExecutionRequest { execution_id: execution.clone(), ..Default::default() };
    let mut replay = executions.watch_execution(watch).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    while let Some(response) = replay.message().await.unwrap() {
        kinds.push(response.event.unwrap());
    }
    assert_eq!(kinds.len(), 4);
    assert_eq!(kinds[1], said);
    // What may have been delivered and was not flushed keeps its numbers.
    assert!(matches!(&kinds[2].event, Some(Event::Truncated(gap)) if gap.first_sequence == 3));
    assert_eq!(kinds[3].sequence, kinds[2].sequence + 1);
    assert!(kinds[3].sequence > 1 << 32);
    assert!(matches!(&kinds[3].event, Some(Event::Finished(end)) if end.state() == v1::ExecutionState::Lost));

    let retried = server.run(with_id("spin", "{}", &id)).await.unwrap();
    assert_eq!(retried.execution.unwrap().id, execution);
    // The server takes new work as if nothing had happened.
    assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");
}

#[tokio::test]
async fn executions_survive_an_orderly_restart() {
    let mut server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let mut ids = Vec::new();
    for number in 0..50 {
        let answer = server.run(call("cat", &format!("{{\"n\": {number}}}"))).await.unwrap();
        ids.insert(0, answer.execution.unwrap().id);
    }
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().await.success());
    let server = server.kill_and_restart().await;
    let request = v1::ListExecutionsRequest { page_size: 100, ..Default::default() };
    let listed = server.executions().await.list_executions(request).await.unwrap().into_inner();
    assert_eq!(listed.executions.iter().map(|execution| execution.id.clone()).collect::<Vec<_>>(), ids);
    assert!(listed.executions.iter().all(|execution| execution.state() == v1::ExecutionState::Succeeded));
}

#[tokio::test]
async fn retention_is_bounded_by_count() {
    let server = Setup::new()
        .config("[retention]\nmax_count = 10\nmemory = \"1KiB\"")
        .tool("cat", &guests::cat(), "")
        .start()
        .await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(server.run(call("cat", "{}")).await.unwrap().execution.unwrap().id);
    }
    let mut executions = server.executions().await;
    executions.list_executions(v1::ListExecutionsRequest::default()).await.unwrap();
    server.run(call("cat", "{}")).await.unwrap();
    let listed = executions.list_executions(v1::ListExecutionsRequest::default()).await.unwrap().into_inner();
    assert!(listed.executions.len() <= 11, "{}", listed.executions.len());
    let get = v1::GetExecutionRequest { execution_id: ids[0].clone() };
    assert_eq!(executions.get_execution(get).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_data_directory_has_one_server_and_a_damaged_database_is_refused() {
    let server = Setup::new().start().await;
    let text = refused(server.path()).await;
    assert!(text.contains("in use by another casemate"), "{text}");

    let mut server = server;
    server.signal(rustix::process::Signal::TERM);
    server.ended().await;
    let folder = server.kill();
    let database = folder.path().join("data/casemate.db");
    std::fs::write(&database, b"this is not a database, whatever its name says; it is longer than a header").unwrap();
    let text = refused(folder.path()).await;
    assert!(text.contains("casemate.db") && text.contains("move"), "{text}");
}

/// Starts a server that must not start, and answers what it says.
async fn refused(folder: &std::path::Path) -> String {
    let mut process = serve_command(folder).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let status = wait_for("the refusal", || process.try_wait().unwrap()).await;
    assert!(!status.success());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut process.stderr.take().unwrap(), &mut text).unwrap();
    text
}
