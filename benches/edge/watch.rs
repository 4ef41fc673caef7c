//! Output on its way to readers: one that takes a gigabyte, and two hundred of one execution.

use super::Plan;
use super::report::Report;
use super::server::{self, Process, authorized};
use casemate::proto::v1;
use casemate::proto::v1::executions_client::ExecutionsClient;
use casemate::proto::v1::tools_client::ToolsClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use v1::execution_event::Event;

const GIGABYTE: u64 = 1_000_000_000;
const WATCHERS: usize = 200;
/// What each of the watchers reads.
const EACH: u64 = 16 << 20;

fn call(tool: &str, parameters: String, output_bytes: u64, keep_open: bool) -> v1::ToolCall {
    v1::ToolCall {
        tool: tool.into(),
        input: Some(v1::tool_call::Input::ParametersJson(parameters)),
        limits: Some(v1::ExecutionLimits { output_bytes, ..Default::default() }),
        keep_stdin_open: keep_open,
        ..Default::default()
    }
}

/// What a reader got.
#[derive(Default)]
struct Got {
    bytes: u64,
    missing: u64,
    finished: bool,
}

impl Got {
    fn take(&mut self, event: v1::ExecutionEvent) {
        match event.event {
            Some(Event::Stdout(chunk)) => {
                self.missing += chunk.offset - self.bytes - self.missing;
                self.bytes += chunk.data.len() as u64;
            }
            Some(Event::Finished(_)) => self.finished = true,
            _ => {}
        }
    }
}

/// One client, one execution that writes a gigabyte.
pub async fn one(plan: Plan, report: &mut Report) {
    report.title("ExecuteToolStream of a guest that writes 1 GB, one client");
    let server = Process::start(server::guests(&["flood"])).await;
    let mut client = ToolsClient::new(server.connect().await);
    let before = server.memory();
    let (mut rates, mut missing, mut peak) = (Vec::new(), 0, before);
    for _ in 0..plan.rounds {
        let request = v1::ExecuteToolStreamRequest {
            call: Some(call("flood", format!(r#"{{"bytes":{GIGABYTE}}}"#), 0, false)),
            ..Default::default()
        };
        let began = Instant::now();
        let mut events = client.execute_tool_stream(authorized(request)).await.expect("a stream").into_inner();
        let (mut got, mut looked) = (Got::default(), Instant::now());
        while let Some(message) = events.message().await.expect("an event") {
            got.take(message.event.expect("an event"));
            if looked.elapsed() > Duration::from_millis(50) {
                looked = Instant::now();
                peak = peak.max(server.memory());
            }
        }
        assert!(got.finished && got.bytes + got.missing == GIGABYTE, "every byte is there or told as missing");
        rates.push(got.bytes as f64 / 1e6 / began.elapsed().as_secs_f64());
        missing = missing.max(got.missing);
    }
    rates.sort_by(f64::total_cmp);
    report.value("watch_mb_per_second", "delivered", rates[rates.len() / 2], "MB/s");
    report.value("watch_missing_share", "told as truncated, at most", missing as f64 * 100.0 / GIGABYTE as f64, "%");
    report.value("watch_memory_growth_mib", "memory above idle, at most", mib(peak - before), "MiB");
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Many watchers of one execution; one of them never reads.
pub async fn many(report: &mut Report) {
    report.title("200 watchers of one execution that writes 16 MiB, 10 to a connection, one never reads");
    let server = Process::start(server::guests(&["stdin_cat"])).await;
    let mut channels = Vec::new();
    for _ in 0..WATCHERS / 10 {
        channels.push(server.connect().await);
    }
    let before = server.memory();
    let mut times = Vec::new();
    // Without the one that never reads first, then with it.
    for stalled in [0, 1] {
        let request = v1::ExecuteToolStreamRequest {
            call: Some(call("stdin_cat", "{}".into(), 64 << 20, true)),
            ..Default::default()
        };
        let mut tools = ToolsClient::new(channels[0].clone());
        let own = tools.execute_tool_stream(authorized(request)).await.expect("a stream");
        let id = own.metadata().get("casemate-execution-id").expect("an id").to_str().expect("ASCII").to_owned();
        drop(own);
        let over = Arc::new(AtomicBool::new(false));
        let mut readers = tokio::task::JoinSet::new();
        for number in 0..WATCHERS {
            let mut executions = ExecutionsClient::new(channels[number / 10].clone());
            let (id, over) = (id.clone(), over.clone());
            let request = v1::WatchExecutionRequest { execution_id: id, ..Default::default() };
            let mut events = executions.watch_execution(authorized(request)).await.expect("a stream").into_inner();
            readers.spawn(async move {
                let mut got = Got::default();
                if number < stalled {
                    while !over.load(Ordering::Acquire) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    return got;
                }
                while let Some(message) = events.message().await.expect("an event") {
                    got.take(message.event.expect("an event"));
                }
                got
            });
        }
        let began = Instant::now();
        feed(&channels[WATCHERS / 10 - 1], &id).await;
        let mut complete = 0;
        while complete < WATCHERS - stalled {
            let got = readers.join_next().await.expect("a reader").expect("it did not fail");
            assert!(got.finished && got.missing == 0, "a watcher lost {} bytes", got.missing);
            assert!(got.bytes >= EACH, "a watcher got {} bytes", got.bytes);
            complete += 1;
        }
        times.push(began.elapsed().as_secs_f64());
        over.store(true, Ordering::Release);
    }
    let delivered = (WATCHERS as u64 * EACH) as f64 / 1e6;
    report.value("watchers_all_s", "all have all of it, nobody stalled", times[0], "s");
    report.value("watchers_stalled_s", "the other 199 have all of it, one stalled", times[1], "s");
    report.value("watchers_mb_per_second", "delivered to all together", delivered / times[1], "MB/s");
    report.value("watchers_memory_growth_mib", "memory above idle after", mib(server.memory() - before), "MiB");
}

/// Writes to standard input what the guest copies to its output.
async fn feed(channel: &tonic::transport::Channel, id: &str) {
    let mut executions = ExecutionsClient::new(channel.clone());
    let mut line = vec![b'x'; 64 << 10];
    line[(64 << 10) - 1] = b'\n';
    let mut offset = 0;
    let mut left = EACH;
    while left > 0 {
        let request = v1::WriteStdinRequest {
            execution_id: id.into(),
            data: line.clone().into(),
            offset,
            eof: left <= line.len() as u64,
        };
        match executions.write_stdin(authorized(request)).await {
            Ok(answer) => {
                offset = answer.into_inner().offset;
                left = left.saturating_sub(line.len() as u64);
            }
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(status) => panic!("{status}"),
        }
    }
}
