//! What a guest does wrong is a result with its output kept; what a caller asks too much of is an error.

use crate::guests;
use crate::harness::{Setup, call, reason, result, text, wait_for};
use casemate::proto::v1;
use prost_types::Duration as Span;
use std::time::{Duration, Instant};
use tonic::Code;
use tonic_types::StatusExt;

fn limited(tool: &str, limits: v1::ExecutionLimits) -> v1::ToolCall {
    v1::ToolCall { limits: Some(limits), ..call(tool, "{}") }
}

fn milliseconds(ms: i32) -> Option<Span> {
    Some(Span { seconds: 0, nanos: ms * 1_000_000 })
}

#[tokio::test]
async fn every_way_to_end_is_a_result() {
    let server = Setup::new()
        .tool("exit", &guests::exit(3), "")
        .tool("trap", &guests::trap(), "")
        .tool("oom", &guests::out_of_memory(), "[limits]\nmemory = \"8MiB\"")
        .tool("recurse", &guests::recurse(), "")
        .tool("spin", &guests::spin(), "[limits]\nwall_time = \"200ms\"")
        .tool("sleep", &guests::sleep(60_000), "[limits]\nwall_time = \"200ms\"")
        .tool("fuel", &guests::spin(), "[limits]\nfuel = 100000")
        .tool("silent", &guests::say(""), "")
        .start()
        .await;
    let ended = async |tool: &str| {
        let answer = server.run(call(tool, "{}")).await.unwrap();
        let state = answer.execution.as_ref().unwrap().state();
        (result(&answer).exit_reason(), state, answer)
    };
    use v1::{ExecutionState as State, ExitReason as Exit};

    let (reason, state, answer) = ended("exit").await;
    assert_eq!((reason, state, result(&answer).exit_code), (Exit::Exited, State::Failed, 3));
    assert_eq!(text(&answer), "before");

    let (reason, state, answer) = ended("trap").await;
    assert_eq!((reason, state), (Exit::Trapped, State::Failed));
    assert_eq!(answer.stderr, "before");
    let trap = result(&answer).trap.as_ref().unwrap();
    assert_eq!(trap.code, "unreachable");
    assert!(trap.backtrace.len() >= 2, "{trap:?}");

    let (reason, state, answer) = ended("oom").await;
    assert_eq!((reason, state), (Exit::OutOfMemory, State::Failed));
    let peak = result(&answer).usage.as_ref().unwrap().peak_memory_bytes;
    assert!((7 << 20..=8 << 20).contains(&peak), "{peak}");

    let (reason, state, _) = ended("recurse").await;
    assert_eq!((reason, state), (Exit::StackOverflow, State::Failed));

    for tool in ["spin", "sleep"] {
        let began = Instant::now();
        let (reason, state, answer) = ended(tool).await;
        assert_eq!((reason, state), (Exit::TimedOut, State::TimedOut), "{tool}");
        assert!(began.elapsed() < Duration::from_secs(2), "{tool} took {:?}", began.elapsed());
        assert!(result(&answer).message.len() > 10, "a sentence for people");
    }
    let (reason, _, answer) = ended("fuel").await;
    assert_eq!(reason, Exit::OutOfFuel);
    assert!(result(&answer).usage.as_ref().unwrap().fuel >= 90_000);
    assert_eq!(text(&answer), "spinning");

    let (reason, state, answer) = ended("silent").await;
    assert_eq!((reason, state), (Exit::Exited, State::Succeeded));
    assert_eq!(text(&answer), "");
}

#[tokio::test]
async fn fuel_is_the_same_every_time() {
    let server = Setup::new().tool("cat", &guests::cat(), "").start().await;
    let mut used = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let fuel = v1::ExecutionLimits { fuel: 1_000_000, ..Default::default() };
        let answer = server.run(limited("cat", fuel)).await.unwrap();
        used.insert(result(&answer).usage.as_ref().unwrap().fuel);
    }
    assert_eq!(used.len(), 1, "{used:?}");
    assert!(used.first().is_some_and(|fuel| *fuel > 0));
}

#[tokio::test]
async fn a_flood_keeps_head_and_tail_and_says_what_is_missing() {
    let server = Setup::new().tool("flood", &guests::flood(1600), "").start().await;
    let limits = v1::ExecutionLimits { output_bytes: 1 << 20, ..Default::default() };
    let answer = server.run(limited("flood", limits)).await.unwrap();
    let usage = result(&answer).usage.unwrap();
    assert_eq!((usage.stdout_bytes, usage.truncated), (1600 * 65536, true));
    let output = answer.output.unwrap();
    assert!(output.truncated);
    // The chunks that are kept happen to be ASCII.
    let Some(v1::tool_output::Content::Text(kept)) = output.content else { panic!("expected text") };
    let kept = kept.into_bytes();
    assert!((800 << 10..=1 << 20).contains(&kept.len()), "{}", kept.len());
    assert_eq!((kept[0], kept[kept.len() - 1]), (0, 63), "the first chunk and the last, number 1599");
    assert_eq!(usage.dropped_bytes, 1600 * 65536 - kept.len() as u64);
}

#[tokio::test]
async fn asking_for_more_than_the_server_gives_is_capped_and_for_too_little_refused() {
    let server = Setup::new()
        .config("[limits.cap]\nmemory = \"64MiB\"\nwall_time = \"40s\"\n[limits.default]\nmemory = \"16MiB\"")
        .tool("flood", &guests::flood(1), "")
        .start()
        .await;
    let limits = v1::ExecutionLimits {
        memory_bytes: u64::MAX,
        wall_time: Some(Span { seconds: 86_400, nanos: 0 }),
        ..Default::default()
    };
    let answer = server.run(limited("flood", limits)).await.unwrap();
    let limits = answer.execution.unwrap().limits.unwrap();
    assert_eq!((limits.memory_bytes, limits.wall_time.unwrap().seconds), (64 << 20, 40));
    let tiny = v1::ExecutionLimits { memory_bytes: 65_536, ..Default::default() };
    let status = server.run(limited("flood", tiny)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "call.limits.memory_bytes");
    let negative = v1::ExecutionLimits { wall_time: Some(Span { seconds: -1, nanos: 0 }), ..Default::default() };
    assert_eq!(server.run(limited("flood", negative)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn beyond_slots_and_queue_callers_are_turned_away_at_once() {
    let server = Setup::new()
        .config("[execution]\nmax_running = 2\nmax_queued = 1")
        .tool("cat", &guests::cat(), "")
        .start()
        .await;
    let open = || v1::ToolCall { keep_stdin_open: true, ..call("cat", "{}") };
    let first = server.start_run(open()).await;
    let second = server.start_run(open()).await;
    // The third waits in the queue: its stream has nothing to say yet.
    let request = v1::ExecuteToolStreamRequest { call: Some(open()), keepalive_seconds: 0 };
    let mut third = server.tools().await.execute_tool_stream(request).await.unwrap().into_inner();

    let began = Instant::now();
    let refused = server.run(call("cat", "{}")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refused.get_error_details().retry_info().unwrap().retry_delay.unwrap() >= Duration::from_millis(100));

    let mut executions = server.executions().await;
    let listed = executions.list_executions(v1::ListExecutionsRequest::default()).await.unwrap().into_inner();
    let mut states: Vec<_> = listed.executions.iter().map(|execution| execution.state()).collect();
    states.sort();
    assert_eq!(states, [v1::ExecutionState::Queued, v1::ExecutionState::Running, v1::ExecutionState::Running]);
    for id in [first, second] {
        executions
            .cancel_execution(v1::CancelExecutionRequest { execution_id: id, ..Default::default() })
            .await
            .unwrap();
    }
    let started = third.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(started.event, Some(v1::execution_event::Event::Started(_))));
}

#[tokio::test]
async fn one_tool_may_have_a_bound_of_its_own() {
    let server = Setup::new()
        .config("[execution]\nmax_queued = 0")
        .tool("one", &guests::cat(), "max_concurrent = 1")
        .tool("free", &guests::cat(), "")
        .start()
        .await;
    server.start_run(v1::ToolCall { keep_stdin_open: true, ..call("one", "{}") }).await;
    let refused = server.run(call("one", "{}")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("one"), "{}", refused.message());
    server.run(call("free", "{}")).await.unwrap();
}

#[tokio::test]
async fn a_unary_call_that_ends_early_ends_its_run_and_frees_its_slot() {
    let server = Setup::new()
        .config("[execution]\nmax_running = 1\nmax_queued = 0")
        .tool("spin", &guests::spin(), "")
        .tool("sleep", &guests::sleep(60_000), "")
        .tool("cat", &guests::cat(), "")
        .start()
        .await;
    for tool in ["spin", "sleep"] {
        let mut request = tonic::Request::new(v1::ExecuteToolRequest { call: Some(call(tool, "{}")) });
        request.set_timeout(Duration::from_millis(200));
        let began = Instant::now();
        let status = server.tools().await.execute_tool(request).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        // The slot is free again within 100 ms of the deadline, and a bit for the machine.
        let mut executions = server.executions().await;
        let deadline = began + Duration::from_millis(200) + Duration::from_millis(400);
        loop {
            match server.run(call("cat", "{}")).await {
                Ok(_) => break,
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
            }
            assert!(Instant::now() < deadline, "{tool} still holds its slot");
        }
        let filter = v1::ExecutionFilter { tool: tool.into(), ..Default::default() };
        let request = v1::ListExecutionsRequest { filter: Some(filter), ..Default::default() };
        let listed = executions.list_executions(request).await.unwrap().into_inner().executions;
        assert_eq!(listed[0].state(), v1::ExecutionState::Cancelled);
    }
}

#[tokio::test]
async fn parameters_beyond_the_limit_are_named() {
    let server = Setup::new()
        .config("[execution]\nmax_parameters = \"1MiB\"\n[server]\nmax_message = \"4MiB\"")
        .tool("cat", &guests::cat(), "")
        .start()
        .await;
    let big = format!("{{\"x\": \"{}\"}}", "y".repeat(2 << 20));
    let status = server.run(call("cat", &big)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    assert!(status.message().contains("max_parameters"), "{}", status.message());
    let huge = format!("{{\"x\": \"{}\"}}", "y".repeat(5 << 20));
    let status = server.run(call("cat", &huge)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    server.run(call("cat", "{}")).await.unwrap();
}

#[tokio::test]
async fn milliseconds_of_wall_time_are_kept() {
    let server = Setup::new().tool("spin", &guests::spin(), "").start().await;
    let limits = v1::ExecutionLimits { wall_time: milliseconds(50), ..Default::default() };
    let answer = server.run(limited("spin", limits)).await.unwrap();
    let time = result(&answer).usage.as_ref().unwrap().run_time.unwrap();
    assert!(time.seconds == 0 && (50_000_000..300_000_000).contains(&time.nanos), "{time:?}");
    wait_for("the log", || server.path().join("log").exists().then_some(())).await;
}
