//! Executions as resources: events as they happen, replay, input by offset, cancel, lists.

use crate::guests;
use crate::harness::{Executions, Server, Setup, call, reason, text};
use casemate::proto::v1;
use casemate::proto::v1::execution_event::Event;
use std::time::{Duration, Instant};
use tonic::{Code, Streaming};
use tonic_types::StatusExt;

async fn watch(executions: &mut Executions, id: &str, from: u64) -> Streaming<v1::WatchExecutionResponse> {
    let request = v1::WatchExecutionRequest { execution_id: id.into(), from_sequence: from, keepalive_interval: None };
    executions.watch_execution(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<v1::WatchExecutionResponse>) -> v1::ExecutionEvent {
    stream.message().await.unwrap().unwrap().event.unwrap()
}

async fn rest(mut stream: Streaming<v1::WatchExecutionResponse>) -> Vec<v1::ExecutionEvent> {
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        events.push(response.event.unwrap());
    }
    events
}

async fn write(
    executions: &mut Executions,
    id: &str,
    offset: u64,
    data: &str,
    eof: bool,
) -> Result<u64, tonic::Status> {
    let data = data.as_bytes().to_vec().into();
    let request = v1::WriteStdinRequest { execution_id: id.into(), offset, data, eof };
    Ok(executions.write_stdin(request).await?.into_inner().offset)
}

async fn open_cat() -> (Server, String) {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let id = server.start_run(v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") }).await;
    (server, id)
}

#[tokio::test]
async fn events_come_as_they_happen_and_a_dropped_stream_detaches() {
    // `start_run` has dropped its stream already; the run goes on.
    let (server, id) = open_cat().await;
    let mut executions = server.executions().await;
    let mut stream = watch(&mut executions, &id, 0).await;
    assert!(matches!(next(&mut stream).await.event, Some(Event::Started(_))));
    let parameters = next(&mut stream).await;
    assert!(matches!(&parameters.event, Some(Event::Stdout(chunk)) if chunk.data == "{}\n" && chunk.offset == 0));
    let mut offset = 0;
    for word in ["one", "two", "three"] {
        offset = write(&mut executions, &id, offset, word, false).await.unwrap();
        let event = next(&mut stream).await;
        let Some(Event::Stdout(chunk)) = event.event else { panic!("expected {word}") };
        assert_eq!((chunk.data.as_ref(), chunk.offset), (word.as_bytes(), 3 + offset - word.len() as u64));
    }
    write(&mut executions, &id, offset, "", true).await.unwrap();
    let finished = next(&mut stream).await;
    assert!(matches!(finished.event, Some(Event::Finished(end)) if end.state() == v1::ExecutionState::Succeeded));
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_reader_that_comes_back_gets_the_same_bytes_from_where_it_left() {
    let (server, id) = open_cat().await;
    let mut executions = server.executions().await;
    let mut offset = 0;
    let mut first = watch(&mut executions, &id, 0).await;
    let mut seen = Vec::new();
    for number in 0..20 {
        offset = write(&mut executions, &id, offset, &format!("line {number}\n"), false).await.unwrap();
        seen.push(next(&mut first).await);
    }
    drop(first);
    let last = seen.last().unwrap().sequence;
    let resumed = watch(&mut executions, &id, last + 1).await;
    write(&mut executions, &id, offset, "end", true).await.unwrap();
    seen.extend(rest(resumed).await);
    // Everything again, once it is over: what was seen has not changed.
    let replay = rest(watch(&mut executions, &id, 0).await).await;
    assert_eq!(seen, replay);
    assert_eq!(
        replay.iter().map(|event| event.sequence).collect::<Vec<_>>(),
        (1..=replay.len() as u64).collect::<Vec<_>>()
    );
    let ends = replay.iter().filter(|event| matches!(event.event, Some(Event::Finished(_)))).count();
    assert_eq!(ends, 1);

    let beyond = v1::WatchExecutionRequest { execution_id: id, from_sequence: 10_000, keepalive_interval: None };
    let status = executions.watch_execution(beyond).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "SEQUENCE_OUT_OF_RANGE"));
}

#[tokio::test]
async fn input_is_taken_once_by_offset() {
    let (server, id) = open_cat().await;
    let mut executions = server.executions().await;
    assert_eq!(write(&mut executions, &id, 0, "abc", false).await.unwrap(), 3);
    assert_eq!(write(&mut executions, &id, 0, "abc", false).await.unwrap(), 3);
    assert_eq!(write(&mut executions, &id, 2, "cde", false).await.unwrap(), 5);
    let gap = write(&mut executions, &id, 9, "x", false).await.unwrap_err();
    assert_eq!((gap.code(), reason(&gap).as_str()), (Code::OutOfRange, "STDIN_GAP"));
    use tonic_types::StatusExt;
    assert_eq!(gap.get_error_details().error_info().unwrap().metadata["resume_offset"], "5");
    assert_eq!(write(&mut executions, &id, 5, "f", true).await.unwrap(), 6);
    let wait = v1::WaitExecutionRequest { execution_id: id.clone(), timeout: None };
    let execution = executions.wait_execution(wait).await.unwrap().into_inner();
    assert!(execution.done);
    let over = write(&mut executions, &id, 6, "late", false).await.unwrap_err();
    assert_eq!((over.code(), reason(&over).as_str()), (Code::FailedPrecondition, "EXECUTION_OVER"));
    let events = rest(watch(&mut executions, &id, 0).await).await;
    let printed: Vec<u8> = events
        .iter()
        .filter_map(|event| match &event.event {
            Some(Event::Stdout(chunk)) => Some(chunk.data.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(printed, b"{}\nabcdef");
}

#[tokio::test]
async fn a_cancel_ends_the_run_whatever_it_does() {
    let server = Setup::new()
        .tool("spin", &guests::spin(), "")
        .tool("sleep", &guests::sleep(60_000), "")
        .tool("cat", &guests::cat(), "")
        .start()
        .await;
    let mut executions = server.executions().await;
    for tool in ["spin", "sleep", "cat"] {
        let id = server.start_run(v1::ToolCall { keep_stdin_open: true, ..call(tool, "{}") }).await;
        let request = v1::CancelExecutionRequest {
            execution_id: id.clone(),
            reason: "no longer needed".into(),
            request_id: String::new(),
        };
        let began = Instant::now();
        let execution = executions.cancel_execution(request.clone()).await.unwrap().into_inner().execution.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{tool}: {:?}", began.elapsed());
        assert_eq!(execution.state(), v1::ExecutionState::Cancelled);
        assert!(execution.result.as_ref().unwrap().message.contains("no longer needed"));
        // Again: nothing changes.
        let again = executions.cancel_execution(request).await.unwrap().into_inner().execution.unwrap();
        assert_eq!(again, execution);
        if tool == "spin" {
            let events = rest(watch(&mut executions, &id, 0).await).await;
            let kept = events
                .iter()
                .any(|event| matches!(&event.event, Some(Event::Stdout(chunk)) if chunk.data == "spinning"));
            assert!(kept, "what it had written is kept");
        }
    }
}

#[tokio::test]
async fn waiting_ends_with_the_run_or_the_timeout() {
    let (server, id) = open_cat().await;
    let mut executions = server.executions().await;
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let request = v1::WaitExecutionRequest { execution_id: id.clone(), timeout };
    let early = executions.wait_execution(request).await.unwrap().into_inner();
    assert!(!early.done);
    assert_eq!(early.execution.unwrap().state(), v1::ExecutionState::Running);
    let mut other = server.executions().await;
    let waiting = tokio::spawn({
        let id = id.clone();
        async move { other.wait_execution(v1::WaitExecutionRequest { execution_id: id, timeout: None }).await }
    });
    write(&mut executions, &id, 0, "", true).await.unwrap();
    assert!(waiting.await.unwrap().unwrap().into_inner().done);
}

#[tokio::test]
async fn silence_is_broken_by_keepalives_that_are_not_part_of_the_journal() {
    let (server, id) = open_cat().await;
    let mut executions = server.executions().await;
    let request = v1::WatchExecutionRequest {
        execution_id: id.clone(),
        from_sequence: 0,
        keepalive_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
    };
    let mut stream = executions.watch_execution(request).await.unwrap().into_inner();
    let mut before = 0;
    loop {
        let event = next(&mut stream).await;
        match event.event {
            Some(Event::Keepalive(_)) => {
                assert_eq!(event.sequence, before);
                break;
            }
            _ => before = event.sequence,
        }
    }
    write(&mut executions, &id, 0, "", true).await.unwrap();
    assert_eq!(next(&mut stream).await.sequence, before + 1);
}

#[tokio::test]
async fn lists_filter_and_page_newest_first() {
    let server = Setup::new().tool("a", &guests::say("a"), "").tool("b", &guests::exit(1), "").start().await;
    let mut expected = Vec::new();
    for number in 0..25 {
        let tool = if number % 5 == 0 { "b" } else { "a" };
        let labels = [("number".to_owned(), number.to_string())].into();
        let answer = server.run(v1::ToolCall { labels, ..call(tool, "{}") }).await.unwrap();
        expected.insert(0, answer.execution.unwrap().id);
    }
    let mut executions = server.executions().await;
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListExecutionsRequest { page_size: 7, page_token: token.clone(), filter: None };
        let page = executions.list_executions(request).await.unwrap().into_inner();
        ids.extend(page.executions.into_iter().map(|execution| execution.id));
        // New ones do not disturb the pages.
        server.run(call("a", "{}")).await.unwrap();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, expected);

    let mut filtered = async |filter: v1::ExecutionFilter| {
        let request = v1::ListExecutionsRequest { page_size: 100, page_token: String::new(), filter: Some(filter) };
        executions.list_executions(request).await.map(|response| response.into_inner().executions)
    };
    let tool = filtered(v1::ExecutionFilter { tool: "b".into(), ..Default::default() }).await.unwrap();
    assert_eq!(tool.len(), 5);
    let states = vec![v1::ExecutionState::Failed.into()];
    assert_eq!(filtered(v1::ExecutionFilter { states, ..Default::default() }).await.unwrap(), tool);
    let labels = [("number".to_owned(), "7".to_owned())].into();
    let labelled = filtered(v1::ExecutionFilter { labels, ..Default::default() }).await.unwrap();
    assert_eq!(labelled.iter().map(|execution| &execution.id).collect::<Vec<_>>(), [&expected[24 - 7]]);
    let before = tool.last().unwrap().create_time;
    let none = filtered(v1::ExecutionFilter { created_before: before, ..Default::default() }).await.unwrap();
    assert_eq!(none.len(), 0);
    let refused = filtered(v1::ExecutionFilter { states: vec![99], ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let mixed = v1::ListExecutionsRequest {
        page_size: 7,
        page_token: {
            let request = v1::ListExecutionsRequest { page_size: 7, ..Default::default() };
            executions.list_executions(request).await.unwrap().into_inner().next_page_token
        },
        filter: Some(v1::ExecutionFilter { tool: "b".into(), ..Default::default() }),
    };
    assert_eq!(executions.list_executions(mixed).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_does_not_exist_or_does_not_fit_is_named() {
    let (server, id) = open_cat().await;
    let mut executions = server.executions().await;
    let get = |id: &str| v1::GetExecutionRequest { execution_id: id.into() };
    assert_eq!(executions.get_execution(get("")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(executions.get_execution(get("nonsense")).await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = executions.get_execution(get(&uuid::Uuid::now_v7().to_string())).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "EXECUTION_NOT_FOUND"));
    let signal = v1::SignalExecutionRequest { execution_id: id.clone(), signal: "SIGINT".into(), ..Default::default() };
    let status = executions.signal_execution(signal).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "NOT_SUPPORTED"));
    let resize = v1::ResizeTerminalRequest { execution_id: id, columns: 80, rows: 24 };
    assert_eq!(executions.resize_terminal(resize).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_stalled_reader_neither_stalls_the_guest_nor_other_readers() {
    let server = Setup::new().tool("flood", &guests::flood(2000), "").tool("gate", &guests::cat(), "").start().await;
    let limits = v1::ExecutionLimits { output_bytes: 2 << 20, ..Default::default() };
    let request = v1::ExecuteToolStreamRequest {
        call: Some(v1::ToolCall { limits: Some(limits), ..call("flood", "{}") }),
        keepalive_seconds: 0,
    };
    // Takes the first event and then nothing more while the guest writes 125 MiB.
    let mut stalled = server.tools().await.execute_tool_stream(request).await.unwrap().into_inner();
    let started = stalled.message().await.unwrap().unwrap().event.unwrap();
    let Some(Event::Started(started)) = started.event else { panic!("expected the start") };
    let mut executions = server.executions().await;
    let wait = v1::WaitExecutionRequest { execution_id: started.execution_id.clone(), timeout: None };
    let ended = executions.wait_execution(wait).await.unwrap().into_inner();
    assert!(ended.done);
    // Now it reads on: the gap is declared, and the end comes.
    let (mut next_sequence, mut offset, mut gaps, mut over) = (2, 0, 0, false);
    while let Some(response) = stalled.message().await.unwrap() {
        let event = response.event.unwrap();
        match event.event.unwrap() {
            Event::Truncated(gap) => {
                assert_eq!(gap.first_sequence, next_sequence);
                offset = gap.stdout_offset;
                gaps += 1;
            }
            Event::Stdout(chunk) => {
                assert_eq!((event.sequence, chunk.offset), (next_sequence, offset));
                offset += chunk.data.len() as u64;
            }
            Event::Finished(_) => over = true,
            Event::Keepalive(_) => continue,
            other => panic!("unexpected {other:?}"),
        }
        next_sequence = event.sequence + 1;
    }
    assert!(over && gaps >= 1);
    assert_eq!(offset, 2000 * 65536);
}

#[tokio::test]
async fn standard_input_comes_with_the_call_and_counts_for_offsets() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let given = || v1::ToolCall { stdin: "given".into(), ..call("cat", "{}") };
    let answer = server.run(given()).await.unwrap();
    assert_eq!(text(&answer), "{}\ngiven");
    assert_eq!(answer.execution.unwrap().stdin_offset, 5);

    let id = server.start_run(v1::ToolCall { keep_stdin_open: true, ..given() }).await;
    let mut executions = server.executions().await;
    let write = |offset: u64, data: &'static str, eof: bool| v1::WriteStdinRequest {
        execution_id: id.clone(),
        offset,
        data: data.into(),
        eof,
    };
    let gap = executions.write_stdin(write(6, "x", false)).await.unwrap_err();
    assert_eq!(gap.code(), Code::OutOfRange);
    assert_eq!(executions.write_stdin(write(3, "en, more", true)).await.unwrap().into_inner().offset, 11);
    let wait = v1::WaitExecutionRequest { execution_id: id.clone(), timeout: None };
    let execution = executions.wait_execution(wait).await.unwrap().into_inner().execution.unwrap();
    assert_eq!((execution.state(), execution.stdin_offset), (v1::ExecutionState::Succeeded, 11));
    let usage = execution.result.unwrap().usage.unwrap();
    assert_eq!(usage.stdout_bytes, "{}\ngiven, more".len() as u64);

    let large = v1::ToolCall { stdin: vec![0; (1 << 20) + 1].into(), ..call("cat", "{}") };
    let status = server.run(large).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, "call.stdin");
}

#[tokio::test]
async fn tools_from_modules_refuse_what_they_cannot_take_with_every_field() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let all = v1::ToolCall {
        files: vec![v1::InputFile { path: "a".into(), ..Default::default() }],
        arguments: vec!["-v".into()],
        environment: [("A".to_owned(), "1".to_owned())].into(),
        return_files: vec!["*".into()],
        ..call("cat", "{}")
    };
    let status = server.run(all).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["call.files", "call.arguments", "call.environment", "call.return_files"]);
    assert_eq!(violations[0].description, "tools from WASM modules take no files");
    // What is wrong in itself is told first, whatever the tool.
    let outside = v1::InputFile { path: "../a".into(), ..Default::default() };
    let status = server.run(v1::ToolCall { files: vec![outside], ..call("cat", "{}") }).await.unwrap_err();
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, "call.files[0].path");
}

#[tokio::test]
async fn executions_are_listed_by_session_and_parent() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    server.run(call("cat", "{}")).await.unwrap();
    let mut executions = server.executions().await;
    let mut list = async |filter: v1::ExecutionFilter| {
        let request = v1::ListExecutionsRequest { filter: Some(filter), ..Default::default() };
        executions.list_executions(request).await.map(|listed| listed.into_inner().executions.len())
    };
    let nobody = "0199f3c2-7d1e-7c1b-9a52-1d1f6a3b8c77";
    let of_session = v1::ExecutionFilter { session_id: nobody.into(), ..Default::default() };
    let of_parent = v1::ExecutionFilter { parent_execution_id: nobody.into(), ..Default::default() };
    assert_eq!(list(of_session).await.unwrap(), 0);
    assert_eq!(list(of_parent).await.unwrap(), 0);
    let wrong = v1::ExecutionFilter { session_id: "nonsense".into(), ..Default::default() };
    assert_eq!(list(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}
