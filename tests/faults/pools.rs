//! Runs that count fuel share a smaller pool: what happens when it is full.

use crate::guests;
use crate::harness::{Server, Setup, call, reason, result, text};
use casemate::proto::v1;
use prost_types::Duration as Span;
use std::time::{Duration, Instant};
use tonic::Code;
use tonic_types::StatusExt;

/// Slots of the pool for runs with fuel, at 70 slots of the server.
const POOL: usize = 64;

fn metered() -> v1::ToolCall {
    let limits = v1::ExecutionLimits { fuel: 1_000_000_000, ..Default::default() };
    v1::ToolCall { limits: Some(limits), ..call("cat", "{}") }
}

/// Takes the whole pool with runs that wait for input.
async fn full(queue: usize) -> (Server, Vec<String>) {
    let server = Setup::new()
        .config(&format!("[execution]\nmax_running = 70\nmax_queued = {queue}"))
        .tool("cat", &guests::cat(), "")
        .start()
        .await;
    let mut runs = Vec::new();
    for _ in 0..POOL {
        runs.push(server.start_run(v1::ToolCall { keep_stdin_open: true, ..metered() }).await);
    }
    (server, runs)
}

async fn cancel(server: &Server, id: &str) {
    let cancel = v1::CancelExecutionRequest { execution_id: id.into(), ..Default::default() };
    server.executions().await.cancel_execution(cancel).await.unwrap();
}

#[tokio::test]
async fn a_run_that_finds_its_pool_full_is_turned_away_at_once_and_others_are_not() {
    let (server, runs) = full(0).await;
    let began = Instant::now();
    let refused = server.run(metered()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refused.message().contains("with fuel"), "{}", refused.message());
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["limit"], POOL.to_string());
    assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    // What needs no fuel, or another stack, has pools of its own.
    assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");
    let mut other = metered();
    other.limits.as_mut().unwrap().stack_bytes = 1 << 20;
    assert_eq!(text(&server.run(other).await.unwrap()), "{}");
    cancel(&server, &runs[0]).await;
    assert_eq!(text(&server.run(metered()).await.unwrap()), "{}");
}

#[tokio::test]
async fn a_run_that_waits_for_its_pool_waits_in_the_queue_and_its_wall_time_begins_after() {
    let (server, runs) = full(1).await;
    let mut waiting = metered();
    // Less than the wait for the pool: time in the queue is not the guest's.
    waiting.limits.as_mut().unwrap().wall_time = Some(Span { seconds: 0, nanos: 100_000_000 });
    let mut tools = server.tools().await;
    let called = tokio::spawn(async move { tools.execute_tool(v1::ExecuteToolRequest { call: Some(waiting) }).await });
    let queued = async || {
        let states = vec![v1::ExecutionState::Queued.into()];
        let filter = Some(v1::ExecutionFilter { states, ..Default::default() });
        let request = v1::ListExecutionsRequest { filter, ..Default::default() };
        server.executions().await.list_executions(request).await.unwrap().into_inner().executions
    };
    let deadline = Instant::now() + crate::harness::PATIENCE;
    let execution = loop {
        if let Some(execution) = queued().await.pop() {
            break execution;
        }
        assert!(Instant::now() < deadline, "nothing is queued");
    };
    // The queue has one seat.
    assert_eq!(reason(&server.run(metered()).await.unwrap_err()), "OVERLOADED");
    // Longer than its wall time, measured by a run that takes as long.
    let limits = v1::ExecutionLimits { wall_time: Some(Span { seconds: 0, nanos: 300_000_000 }), ..Default::default() };
    let gate = v1::ToolCall { keep_stdin_open: true, limits: Some(limits), ..call("cat", "{}") };
    let ended = server.run(gate).await.unwrap();
    assert_eq!(result(&ended).exit_reason(), v1::ExitReason::TimedOut);
    assert_eq!(queued().await.pop().map(|queued| queued.id), Some(execution.id.clone()));

    cancel(&server, &runs[0]).await;
    let answer = called.await.unwrap().unwrap().into_inner();
    assert_eq!((answer.execution.as_ref().unwrap().id.as_str(), text(&answer).as_str()), (execution.id.as_str(), "{}"));
}
