//! What each layer of a call costs by itself: the very functions a call goes through, on one task, with
//! the payload of the other sections. Microseconds of one call.

use super::report::Report;
use super::{PAYLOAD, Plan};
use bytes::Bytes;
use casemate::auth::Authenticator;
use casemate::auth::permission::{Permission, needed};
use casemate::domain::event::{LogLevel, OutputStream, Progress};
use casemate::domain::execution::{Exit, Outcome, Subject, Usage};
use casemate::domain::io::{InputRead, InputSource, OutputSink};
use casemate::domain::limits::LimitsPolicy;
use casemate::engine::{DenyAll, Engine, EngineConfig, Program, Run};
use casemate::execution::journal::Journal;
use casemate::execution::{Begun, Ended, Lane, NoObserver, Registry, RegistryConfig, RegistryObserver, Start};
use casemate::proto::v1;
use casemate::store::Store;
use casemate::telemetry::Metrics;
use casemate::tool::Schema;
use prost::Message;
use serde_json::{Value, json};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const PATH: &str = "/casemate.v1.Tools/ExecuteTool";

pub async fn measure(plan: Plan, report: &mut Report) {
    report.title("one layer at a time, in process, one task (us of one call)");
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(PAYLOAD - r#"{"text":""}"#.len()));
    let mut layer = |name: &str, label: &str, mut work: Box<dyn FnMut()>| {
        let seconds = per_call(plan.time, &mut work);
        report.value(&format!("layer_{name}_us"), label, seconds * 1e6, "us");
    };

    let call = v1::ToolCall {
        tool: "echo".into(),
        input: Some(v1::tool_call::Input::ParametersJson(text.clone())),
        ..Default::default()
    };
    let encoded = v1::ExecuteToolRequest { call: Some(call) }.encode_to_vec();
    layer(
        "decode",
        "decode the request",
        Box::new(move || {
            black_box(v1::ExecuteToolRequest::decode(encoded.as_slice()).expect("a message"));
        }),
    );
    let authenticator = Authenticator::token("bench-token-0123456789abcdef0123456789");
    layer(
        "auth",
        "auth: token and permission",
        Box::new(move || {
            let principal = authenticator.authenticate(Some(b"Bearer bench-token-0123456789abcdef0123456789"));
            let needed = needed(PATH).unwrap_or(Permission::Administer);
            principal.expect("known").allowed(PATH, needed).expect("allowed");
        }),
    );
    let schema = json!({
        "type": "object", "required": ["text"], "additionalProperties": false,
        "properties": {"text": {"type": "string"}},
    });
    let schema = Schema::compile("echo", "input_schema", &schema).expect("a schema");
    let parameters = text.clone();
    layer(
        "schema",
        "schema: parse and check the parameters (the output as well)",
        Box::new(move || {
            let value: Value = serde_json::from_str(&parameters).expect("JSON");
            schema.check(black_box(&value)).expect("valid");
        }),
    );
    let output = Bytes::from(text.clone());
    layer(
        "journal",
        "journal: begin, 1 write, close, publish, collect",
        Box::new(move || {
            let journal = Journal::new(10 << 20, 0);
            journal.start(0);
            journal.write(OutputStream::Stdout, output.clone());
            journal.close(|_, _, _| Outcome::new(Exit::Exited { code: 0 }, "", Usage::default()));
            journal.publish();
            black_box(journal.collect(OutputStream::Stdout));
        }),
    );

    let metrics = Arc::new(Metrics::new(["Tools/ExecuteTool".to_owned()]));
    let (registry, lane, _folder) = registry(metrics.clone()).await;
    let ended = run_nothing(&registry, &lane).await;
    {
        let (metrics, execution) = (metrics.clone(), ended.clone());
        layer(
            "metrics",
            "metrics: the call and the execution",
            Box::new(move || {
                metrics.rpc(0).answered(0, Duration::from_micros(100));
                metrics.execution_ended(&execution);
            }),
        );
    }
    let hook: Arc<dyn RegistryObserver> = Arc::new(NoObserver);
    layer(
        "hook",
        "a hook that hears of every execution (where audit goes)",
        Box::new(move || {
            black_box(&hook).ended(black_box(&ended));
        }),
    );

    let program = echo().await;
    let input = Bytes::from(text);
    let engine = per_call_async(plan.time, async || {
        let ended = program.run(run(input.clone())).await.expect("a run");
        assert_eq!(ended.exit, Exit::Exited { code: 0 });
    })
    .await;
    report.value("layer_engine_us", "engine: a fresh instance runs echo", engine * 1e6, "us");
    let (wall, busy) = (Instant::now(), cpu());
    let mut runs = 0_u32;
    while wall.elapsed() < plan.time {
        run_nothing(&registry, &lane).await;
        runs += 1;
    }
    let seconds = wall.elapsed().as_secs_f64() / f64::from(runs);
    registry.shut_down(Duration::from_secs(10)).await.expect("all is on disk");
    let all = (cpu() - busy).as_secs_f64() / f64::from(runs);
    report.value(
        "layer_execution_us",
        "execution: admitted, empty run, ended (journal, metrics in it)",
        seconds * 1e6,
        "us",
    );
    report.value(
        "layer_record_us",
        "record: CPU on the store's thread, not on the call's way",
        (all - seconds).max(0.0) * 1e6,
        "us",
    );
}

fn per_call(time: Duration, work: &mut dyn FnMut()) -> f64 {
    const BATCH: u32 = 256;
    let begin = Instant::now();
    let mut calls = 0;
    while begin.elapsed() < time / 2 {
        (0..BATCH).for_each(|_| work());
        calls += BATCH;
    }
    begin.elapsed().as_secs_f64() / f64::from(calls)
}

async fn per_call_async(time: Duration, work: impl AsyncFn()) -> f64 {
    let begin = Instant::now();
    let mut calls = 0_u32;
    while begin.elapsed() < time / 2 {
        work().await;
        calls += 1;
    }
    begin.elapsed().as_secs_f64() / f64::from(calls)
}

/// Processor time this process has used.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").map(|_| ()).and_then(|()| {
        let mut total = 0;
        for task in std::fs::read_dir("/proc/self/task")? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split_whitespace().next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(total)
    });
    Duration::from_nanos(stat.expect("/proc counts time"))
}

async fn registry(metrics: Arc<Metrics>) -> (Registry, Lane, tempfile::TempDir) {
    let folder = tempfile::TempDir::new().expect("a folder");
    let store = Arc::new(Store::open(folder.path(), Arc::new(casemate::store::NoObserver)).expect("a store"));
    let registry = Registry::open(store, RegistryConfig::default(), metrics).await.expect("a registry");
    (registry, Lane::new("tool \"echo\"", 1024), folder)
}

async fn run_nothing(registry: &Registry, lane: &Lane) -> casemate::domain::execution::Execution {
    let start = Start {
        id: None,
        subject: Subject::Tool { name: "echo".into(), version: "1".into(), digest: "0".into() },
        principal: "bench".into(),
        request: None,
        labels: Default::default(),
        limits: LimitsPolicy::default().defaults,
        stdin: Bytes::new(),
        stdin_given: Default::default(),
        stdin_open: false,
        session: None,
        parent: None,
        target: "".into(),
        lane: lane.clone(),
    };
    let Begun::New(run) = registry.begin(start).await.expect("admitted") else { unreachable!("it has no request id") };
    let live = run.drive(|_| async { Ended::new(Exit::Exited { code: 0 }, "") }).await;
    live.expect("an end").execution()
}

async fn echo() -> Program {
    let module = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tools/echo.wasm")).expect("it ships");
    let engine = Engine::new(EngineConfig::default()).expect("an engine");
    engine.load("echo", module.into()).await.expect("a program")
}

struct Given(parking_lot::Mutex<Bytes>);

impl InputSource for Given {
    fn read(&self, max: usize) -> InputRead {
        let mut left = self.0.lock();
        if left.is_empty() {
            return InputRead::Eof;
        }
        let now = max.min(left.len());
        InputRead::Data(left.split_to(now))
    }

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

struct Discard;

impl OutputSink for Discard {
    fn write(&self, _: OutputStream, _: Bytes) {}
    fn log(&self, _: LogLevel, _: String) {}
    fn progress(&self, _: Progress) {}
}

fn run(input: Bytes) -> Run {
    Run {
        limits: LimitsPolicy::default().defaults,
        args: vec!["echo".into()],
        environment: Arc::default(),
        directories: Arc::from([]),
        input: Arc::new(Given(parking_lot::Mutex::new(input))),
        output: Arc::new(Discard),
        meter: Arc::default(),
        egress: Arc::new(DenyAll),
    }
}
