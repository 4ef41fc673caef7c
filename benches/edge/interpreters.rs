//! Python and JavaScript over gRPC: a fresh isolate for each call, and sessions.

use super::Plan;
use super::load::{self, Figures};
use super::report::Report;
use super::server::{Folder, Process, authorized, echo_only};
use bytes::Bytes;
use casemate::domain::event::{LogLevel, OutputStream, Progress};
use casemate::domain::input::Inputs;
use casemate::domain::io::{InputRead, InputSource, Meter, OutputSink};
use casemate::domain::limits::LimitsPolicy;
use casemate::engine::{DenyAll, Engine, EngineConfig};
use casemate::interpreter::{Interpreters, InterpretersConfig, Run};
use casemate::proto::v1;
use casemate::proto::v1::sessions_client::SessionsClient;
use casemate::proto::v1::tools_client::ToolsClient;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

const PRINT: &str = "print(40+2)";
const PANDAS: &str =
    "import numpy as np, pandas as pd\nprint(np.arange(1000).sum(), pd.DataFrame({'a': [1, 2, 3]}).a.sum())";
const FIB: &str = "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\nprint(fib(27))";
const LOOP: &str = "s = 0\nfor i in range(3_000_000):\n    s += i * i % 7\nprint(s)";
const WORDS: &str =
    "d = {}\nfor i in range(300_000):\n    k = str(i % 5000)\n    d[k] = d.get(k, 0) + len(k)\nprint(sum(d.values()))";

/// Where interpreters are installed for benchmarks and tests.
fn directory() -> Option<PathBuf> {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("interpreters");
    let path = std::env::var_os("CASEMATE_TEST_INTERPRETERS").map_or(default, PathBuf::from);
    path.join("python/installed.json").exists().then_some(path)
}

async fn server(folder: Folder, directory: &Path, more: &[(&str, &str)]) -> Process {
    let directory = directory.to_str().expect("a plain path");
    let settings = [&[("CASEMATE_INTERPRETERS__DIRECTORY", directory)], more].concat();
    let process = Process::start_with(folder, &settings).await;
    // The first call waits until its code and image are verified.
    run(process.connect().await, "python", PRINT, None)().await;
    process
}

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

fn run(channel: Channel, tool: &str, code: &str, session: Option<&str>) -> impl Fn() -> Call + Send + Sync + 'static {
    let parameters = serde_json::json!({ "code": code }).to_string();
    let target = session.map(|session| v1::ToolTarget {
        target: Some(v1::tool_target::Target::SessionId(session.into())),
        ..Default::default()
    });
    let call = v1::ToolCall {
        tool: tool.into(),
        input: Some(v1::tool_call::Input::ParametersJson(parameters)),
        target,
        ..Default::default()
    };
    move || {
        let mut client = ToolsClient::new(channel.clone());
        let request = authorized(v1::ExecuteToolRequest { call: Some(call.clone()) });
        Box::pin(async move {
            let answer = client.execute_tool(request).await.expect("an answer").into_inner();
            let execution = answer.execution.expect("an execution");
            assert_eq!(execution.state, v1::ExecutionState::Succeeded as i32, "{}", answer.stderr);
        })
    }
}

async fn create(channel: &Channel, tool: &str, durability: v1::SessionDurability) -> String {
    let mut client = SessionsClient::new(channel.clone());
    let mut request = v1::CreateSessionRequest { tool: tool.into(), ..Default::default() };
    request.set_durability(durability);
    let answer = client.create_session(authorized(request)).await.expect("a session");
    answer.into_inner().session.expect("a session").id
}

pub async fn measure(plan: Plan, report: &mut Report) {
    let Some(directory) = directory() else {
        println!("\n!! no interpreters: run `casemate interpreters install`; nothing measured here");
        return;
    };
    let folder = echo_only();
    let casemate = server(folder.clone(), &directory, &[]).await;
    report.title("a fresh isolate for each call, everything preloaded");
    let mut cases = vec![
        ("python_print", "python", PRINT, "Python, print(40+2)"),
        ("python_pandas", "python", PANDAS, "Python, numpy and pandas used"),
    ];
    if directory.join("javascript/installed.json").exists() {
        cases.push(("javascript_log", "javascript", "console.log(40+2)", "JavaScript, console.log(40+2)"));
    }
    for (name, tool, code, label) in cases {
        for concurrency in [1, 8] {
            let mut runs = Vec::new();
            for _ in 0..plan.rounds {
                let call = run(casemate.connect().await, tool, code, None);
                runs.push(load::run(concurrency, plan.time, call).await);
            }
            let figures = Figures::median(runs);
            report.figures(&format!("{name}_c{concurrency}"), &format!("{label}, concurrency {concurrency}"), &figures);
        }
    }
    parts(report, &directory).await;
    sessions(plan, report, &casemate).await;
    native(report, &casemate).await;
    drop(casemate);
    live(report, &directory).await;
    listed(report, &directory).await;
}

/// What a fresh isolate takes, by its parts: in this process, one after the other.
async fn parts(report: &mut Report, directory: &Path) {
    const RUNS: u64 = 3000;
    let engine = Engine::new(EngineConfig::default()).expect("an engine");
    let config = InterpretersConfig { directory: directory.into(), max_idle: 4, pagemap: true, packages: None };
    let interpreters = Interpreters::open(&config, &engine);
    for (tool, code) in [("python", PRINT), ("javascript", "console.log(40+2)")] {
        let Some(interpreter) = interpreters.get(tool).filter(|one| one.installed().is_ok()) else { continue };
        report.title(&format!("parts of {tool}, {code}, alone, in process"));
        let mut before = interpreters.spent();
        for number in 0..RUNS + 200 {
            if number == 200 {
                before = interpreters.spent();
            }
            let run = Run {
                tenant: "bench".into(),
                limits: LimitsPolicy::default().defaults,
                code: code.into(),
                inputs: Inputs::default(),
                input: Arc::new(Quiet),
                output: Arc::new(Quiet),
                meter: Arc::new(Meter::default()),
                egress: Arc::new(DenyAll),
                children: None,
            };
            interpreter.run(run).await.expect("a run");
        }
        let now = interpreters.spent();
        let each = |label: &str, name: &str, time: Duration, count: u64, report: &mut Report| {
            let time = time.as_secs_f64() * 1e6 / count.max(1) as f64;
            report.value(&format!("{tool}_part_{name}"), label, time, "us");
        };
        let (started, turns, resets) =
            (now.started - before.started, now.turns - before.turns, now.resets - before.resets);
        each("store", "store", now.store - before.store, started, report);
        each("instantiate", "instantiate", now.instantiate - before.instantiate, started, report);
        each("run", "run", now.run - before.run, turns, report);
        each("scan for written pages, beside the answer", "scan", now.scan - before.scan, resets, report);
        each("copy them back, beside the answer", "copy", now.copy - before.copy, resets, report);
        let pages = (now.pages - before.pages) as f64 / resets.max(1) as f64;
        report.value(&format!("{tool}_pages"), "written pages of 4 KiB", pages, "");
    }
}

/// Neither hears nor says anything.
struct Quiet;

impl OutputSink for Quiet {
    fn write(&self, _: OutputStream, _: Bytes) {}
    fn log(&self, _: LogLevel, _: String) {}
    fn progress(&self, _: Progress) {}
}

impl InputSource for Quiet {
    fn read(&self, _: usize) -> InputRead {
        InputRead::Eof
    }
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

async fn sessions(plan: Plan, report: &mut Report, casemate: &Process) {
    report.title("sessions of Python");
    let channel = casemate.connect().await;
    let mut turns = Vec::new();
    for (name, label, durability) in [
        ("turn_none", "a further call, not durable", v1::SessionDurability::None),
        ("turn_durable", "a further call, checkpoints after turns", v1::SessionDurability::Turn),
    ] {
        let session = create(&channel, "python", durability).await;
        run(channel.clone(), "python", "x = 1", Some(&session))().await;
        let mut runs = Vec::new();
        for _ in 0..plan.rounds {
            runs.push(load::run(1, plan.time, run(channel.clone(), "python", "x += 1", Some(&session))).await);
        }
        let figures = Figures::median(runs);
        report.figures(&format!("session_{name}"), label, &figures);
        turns.push(figures.p50);
    }
    let change = "import os\nb = bytearray(os.urandom(1024)) * 1024";
    let mut changed = Vec::new();
    for durability in [v1::SessionDurability::None, v1::SessionDurability::Turn] {
        let session = create(&channel, "python", durability).await;
        run(channel.clone(), "python", change, Some(&session))().await;
        let figures = load::run(1, plan.time, run(channel.clone(), "python", change, Some(&session))).await;
        changed.push(figures.p50);
    }
    report.value(
        "session_checkpoint_cost",
        "a turn that changes 1 MB: durable beside not",
        changed[1] / changed[0],
        "x",
    );
    let session = create(&channel, "python", v1::SessionDurability::Turn).await;
    let frame = "import pandas as pd\ndf = pd.DataFrame({'a': range(100_000), 'b': 1.5})";
    run(channel.clone(), "python", frame, Some(&session))().await;
    let mut client = SessionsClient::new(channel.clone());
    let mut times = Vec::new();
    for _ in 0..50 {
        let request = v1::ForkSessionRequest { session_id: session.clone(), count: 1, ..Default::default() };
        let began = Instant::now();
        let forked = client.fork_session(authorized(request)).await.expect("a fork").into_inner();
        times.push(began.elapsed().as_secs_f64() * 1e3);
        let id = forked.sessions[0].id.clone();
        run(channel.clone(), "python", "assert len(df) == 100_000", Some(&id))().await;
        let close = v1::CloseSessionRequest { session_id: id, ..Default::default() };
        client.close_session(authorized(close)).await.expect("closed");
    }
    times.sort_by(f64::total_cmp);
    report.value("session_fork_p50", "fork of a session with 100,000 rows, p50", times[times.len() / 2], "ms");
}

/// The same programs by the machine's own Python.
async fn native(report: &mut Report, casemate: &Process) {
    report.title("computing, beside the machine's python3 (without its start)");
    for (name, code) in [("fib", FIB), ("loop", LOOP), ("words", WORDS)] {
        let timed = format!("import time\nt = time.perf_counter()\nexec({code:?})\nprint(time.perf_counter() - t)");
        let output = std::process::Command::new("python3").args(["-c", &timed]).output();
        let Ok(output) = output else { return println!("  no python3 here") };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let native: f64 = text.lines().last().and_then(|line| line.parse().ok()).expect("a time");
        let call = run(casemate.connect().await, "python", code, None);
        let began = Instant::now();
        call().await;
        let ours = began.elapsed().as_secs_f64();
        report.value(&format!("python_cpu_{name}"), &format!("{name}: times the native time"), ours / native, "x");
    }
}

/// Many live sessions, and memory after many runs.
async fn live(report: &mut Report, directory: &Path) {
    report.title("memory");
    // Ended executions stay in memory up to a size that is a setting; what is of interest here is the rest.
    let settings = [("CASEMATE_SESSIONS__MAX_MEMORY", "16GiB"), ("CASEMATE_RETENTION__MEMORY", "0B")];
    let casemate = server(echo_only(), directory, &settings).await;
    let channel = casemate.connect().await;
    let print = run(channel.clone(), "python", PRINT, None);
    // As many at once as later, so that as many memories wait for the next run.
    for _ in 0..200 {
        futures_join((0..8).map(|_| print()).collect()).await;
    }
    casemate.idle_memory().await;
    let before = casemate.own_memory();
    let mut sessions = Vec::new();
    for _ in 0..1000 {
        let session = create(&channel, "python", v1::SessionDurability::None).await;
        run(channel.clone(), "python", "x = [1, 2, 3]", Some(&session))().await;
        sessions.push(session);
    }
    casemate.idle_memory().await;
    let after = casemate.own_memory();
    report.value(
        "sessions_1000_memory",
        "1,000 live sessions of Python, memory of the server",
        after as f64 / 1e6,
        "MB",
    );
    let mut client = SessionsClient::new(channel.clone());
    for session_id in sessions {
        let close = v1::CloseSessionRequest { session_id, ..Default::default() };
        client.close_session(authorized(close)).await.expect("closed");
    }
    let began = Instant::now();
    let mut runs = 0_u64;
    while runs < 100_000 && began.elapsed() < Duration::from_secs(60) {
        let calls = (0..8).map(|_| print());
        futures_join(calls.collect()).await;
        runs += 8;
    }
    casemate.idle_memory().await;
    let end = casemate.own_memory();
    report.value(
        "python_memory_growth",
        &format!("memory after {runs} runs, beside before"),
        (end as f64 - before as f64) / 1e6,
        "MB",
    );
}

/// As many sessions as a server lists, most of them idle: on disk.
async fn listed(report: &mut Report, directory: &Path) {
    const SESSIONS: usize = 10_000;
    let settings = [("CASEMATE_SESSIONS__SUSPEND_IDLE", "1s"), ("CASEMATE_RETENTION__MEMORY", "0B")];
    let casemate = server(echo_only(), directory, &settings).await;
    let channel = casemate.connect().await;
    for _ in 0..SESSIONS / 4 {
        let some = (0..4).map(|_| {
            let channel = channel.clone();
            Box::pin(async move {
                let session = create(&channel, "python", v1::SessionDurability::Turn).await;
                run(channel, "python", "x = [1, 2, 3]", Some(&session))().await;
            }) as Call
        });
        futures_join(some.collect()).await;
    }
    let mut client = SessionsClient::new(channel);
    let began = Instant::now();
    let mut suspended = 0;
    // What is idle leaves memory by itself.
    while suspended < SESSIONS * 99 / 100 && began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        suspended = 0;
        let mut token = String::new();
        loop {
            let states = vec![v1::SessionState::Suspended as i32];
            let filter = Some(v1::SessionFilter { states, ..Default::default() });
            let request = v1::ListSessionsRequest { page_size: 1000, page_token: token, filter };
            let page = client.list_sessions(authorized(request)).await.expect("a page").into_inner();
            suspended += page.sessions.len();
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
    }
    casemate.idle_memory().await;
    report.value("sessions_10000_suspended", "10,000 listed sessions: on disk of them", suspended as f64, "");
    report.value(
        "sessions_10000_memory",
        "10,000 listed sessions, memory of the server",
        casemate.own_memory() as f64 / 1e6,
        "MB",
    );
}

async fn futures_join(calls: Vec<Call>) {
    let mut tasks = tokio::task::JoinSet::new();
    for call in calls {
        tasks.spawn(call);
    }
    tasks.join_all().await;
}
