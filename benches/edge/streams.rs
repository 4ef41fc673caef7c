//! Others at work: a thousand runs that do nothing but wait, and a few that compute all the time.

use super::Plan;
use super::report::Report;
use super::server::{self, Process, authorized};
use casemate::proto::v1;
use casemate::proto::v1::tools_client::ToolsClient;
use std::time::{Duration, Instant};
use tonic_health::pb::health_client::HealthClient;

const STREAMS: usize = 1000;

pub async fn measure(plan: Plan, report: &mut Report) {
    report.title("1,000 ExecuteToolStream calls at once, half asleep, half waiting for input");
    let server = Process::start(server::guests(&["sleep", "stdin_cat"])).await;
    let channel = server.connect().await;
    // One run of each: code is loaded once, whoever comes first.
    let mut client = ToolsClient::new(channel.clone());
    let mut first = client.execute_tool_stream(authorized(request(0, 1))).await.expect("a stream").into_inner();
    while first.message().await.expect("an event").is_some() {}
    let (memory, threads) = (server.memory(), server.threads());

    let began = Instant::now();
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let request = request(number, 600_000);
        let mut events = client.execute_tool_stream(authorized(request)).await.expect("a stream").into_inner();
        // Started, and for the sleepers "asleep": it runs.
        let event = events.message().await.expect("an event").expect("an event").event.expect("an event");
        assert!(matches!(event.event, Some(v1::execution_event::Event::Started(_))), "{event:?}");
        streams.push(events);
    }
    let opened = began.elapsed();
    let health = health_p99(&server, plan).await;
    let each = (server.memory() - memory) as f64 / STREAMS as f64 / f64::from(1 << 20);
    report.value("streams_open_s", "all are open and run after", opened.as_secs_f64(), "s");
    report.value("streams_threads", "threads more than before", server.threads() as f64 - threads as f64, "");
    report.value("streams_memory_mib", "memory of each", each, "MiB");
    report.value("streams_health_p99_ms", "Health/Check meanwhile, p99", health, "ms");
    drop(streams);
}

fn request(number: usize, milliseconds: u64) -> v1::ExecuteToolStreamRequest {
    let sleeps = number.is_multiple_of(2);
    let call = v1::ToolCall {
        tool: if sleeps { "sleep" } else { "stdin_cat" }.into(),
        input: Some(v1::tool_call::Input::ParametersJson(format!(r#"{{"ms":{milliseconds}}}"#))),
        keep_stdin_open: !sleeps,
        limits: Some(v1::ExecutionLimits {
            wall_time: Some(prost_types::Duration { seconds: 120, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    v1::ExecuteToolStreamRequest { call: Some(call), ..Default::default() }
}

/// How a probe fares meanwhile, in milliseconds.
async fn health_p99(server: &Process, plan: Plan) -> f64 {
    let mut health = HealthClient::new(server.connect().await);
    let mut times = Vec::new();
    let end = Instant::now() + plan.time;
    while Instant::now() < end {
        let before = Instant::now();
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.expect("an answer");
        times.push(before.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

/// Guests that compute without end: what the others notice of them.
pub async fn computing(plan: Plan, report: &mut Report) {
    const GUESTS: usize = 16;
    report.title("16 guests compute without end");
    let server = Process::start(server::guests(&["spin", "stdin_cat"])).await;
    let mut client = ToolsClient::new(server.connect().await);
    let mut streams = Vec::new();
    for _ in 0..GUESTS {
        let mut request = request(0, 0);
        request.call.iter_mut().for_each(|call| call.tool = "spin".into());
        let mut events = client.execute_tool_stream(authorized(request)).await.expect("a stream").into_inner();
        events.message().await.expect("an event");
        streams.push(events);
    }
    report.value("computing_health_p99_ms", "Health/Check meanwhile, p99", health_p99(&server, plan).await, "ms");
    let call = client.clone();
    let figures = super::load::run(1, plan.time, move || {
        let mut client = call.clone();
        async move {
            let mut request = request(1, 0);
            let call = request.call.take().map(|call| v1::ToolCall { keep_stdin_open: false, ..call });
            client.execute_tool(authorized(v1::ExecuteToolRequest { call })).await.expect("an answer");
        }
    })
    .await;
    report.figures("computing_execute_tool_c1", "ExecuteTool of a short guest meanwhile", &figures);
    drop(streams);
}
