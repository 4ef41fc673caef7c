//! Every isolate is new: nothing of a run is left for the next, of whomever, however many there were.
//!
//! Over the wire all callers are one tenant, whose slots are used again; two tenants meet in the library.

use crate::kit;
use bytes::Bytes;
use casemate::domain::event::{LogLevel, OutputStream, Progress};
use casemate::domain::execution::Exit;
use casemate::domain::input::Inputs;
use casemate::domain::io::{InputRead, InputSource, Meter, OutputSink};
use casemate::domain::limits::LimitsPolicy;
use casemate::engine::{DenyAll, Engine, EngineConfig};
use casemate::interpreter::{Interpreter, Interpreters, InterpretersConfig, Run};
use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinSet;

const RUNS: usize = 10_000;
const CALLERS: usize = 8;

/// Leaves marks wherever code can leave something.
const WRITE: &str = r#"
import builtins, os, sys, gc, json, random, decimal, linecache, warnings
m = "MARK-" + "7f3a9c51"
raw = m.encode() * 64
heap = [bytearray(raw * 16) for _ in range(64)] + [bytearray(raw * 512)]
texts = [m + str(i) for i in range(500)]
builtins.left_7f3a = builtins.print.__self__.left_7f3a2 = json.left_7f3a = os.left_7f3a = sys.left_7f3a = m
sys.modules["left_7f3a"] = sys
sys.path.append(m); sys.argv.append(m); sys.meta_path.append(m)
os.environ["LEFT_7F3A"] = m
sys.intern(m)
json.JSONEncoder.left_7f3a = m
json.dumps.__defaults__ = None
linecache.cache[m] = (1, None, [m], m)
decimal.getcontext().prec = 7
warnings.filters = [m]
for path in ("/work/left_7f3a", "/tmp/left_7f3a"):
    with open(path, "w") as f: f.write(m)
os.makedirs("/tmp/dir/deep", exist_ok=True)
kept = open("/work/open", "w"); kept.write(m); kept.flush()
random.seed(5)
sys.setrecursionlimit(123)
gc.disable()
os.chdir("/tmp")
"#;

/// Searches for them. What it says for a fresh isolate is always the same.
const SEARCH: &str = r#"
import builtins, os, sys, gc, json, decimal, linecache, warnings
m = "MARK-" + "7f3a9c51"
found = []
if "left_7f3a" in sys.modules: found.append("module")
for module in (builtins, os, sys, gc, json, decimal, linecache, warnings):
    for key in ("left_7f3a", "left_7f3a2"):
        if key in vars(module): found.append((module.__name__, key))
for key, value in os.environ.items():
    if m in value: found.append(("environ", key))
for where in (sys.path, sys.argv, sys.meta_path, warnings.filters, list(linecache.cache)):
    if m in where: found.append(("list", where))
for directory in ("/", "/work", "/tmp"):
    for name in os.listdir(directory):
        if name not in ("work", "tmp", "usr"): found.append((directory, name))
for fd in range(3, 20):
    try:
        if os.fstat(fd).st_mode & 0o170000 == 0o100000: found.append(("fd", fd))
    except OSError: pass
import numpy as np
raw = m.encode()
# Memory that is given out as it is.
for size in (64, 512, 1024, 4096, 16384, 65536, 400_000):
    for _ in range(4 if size < 65536 else 1):
        if raw in np.empty(size, "u1").data.tobytes(): found.append(("memory", size))
if hasattr(json.JSONEncoder, "left_7f3a") or json.dumps.__kwdefaults__ is None: found.append("json")
state = (decimal.getcontext().prec, sys.getrecursionlimit(), gc.isenabled(), os.getcwd())
print(found, state)
"#;
const NOTHING: &str = "[] (28, 1000, True, '/work')\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_runs_find_nothing_of_each_other() {
    let Some(python) = kit::start().await else { return };
    // What is searched for is found where it is.
    let both = python.run(&format!("{WRITE}\n{SEARCH}")).await;
    for trace in ["'builtins', 'left_7f3a'", "'environ'", "'/tmp', 'left_7f3a'", "'/work', 'open'", "'fd'"] {
        assert!(both.fine().contains(trace), "{trace}: {}", both.out());
    }
    let python = Arc::new(python);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let python = python.clone();
        callers.spawn(async move {
            for run in 0..RUNS / CALLERS {
                // Half of them write, half of them search, next to each other and after each other.
                if (caller + run) % 2 == 0 {
                    python.run(WRITE).await.fine();
                } else {
                    assert_eq!(python.run(SEARCH).await.fine(), NOTHING, "run {run} of caller {caller}");
                }
            }
        });
    }
    callers.join_all().await;
    assert_eq!(python.run(SEARCH).await.fine(), NOTHING, "the run after all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snippet_works_the_same_on_its_ten_thousandth_run() {
    let Some(python) = kit::start().await else { return };
    let text =
        "import json, re\nx = {'a': [1, 2.5], 'b': re.sub('a', 'b', 'banana')}\nprint(json.dumps(x))\nsum(range(100))";
    let first = python.run(text).await;
    first.fine();
    let python = Arc::new(python);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (python, out, value) = (python.clone(), first.out(), first.0.value.clone());
        callers.spawn(async move {
            for _ in 0..RUNS / CALLERS {
                let run = python.run(text).await;
                assert_eq!((run.fine(), &run.0.value, run.0.stderr.as_str()), (out.clone(), &value, ""));
            }
        });
    }
    callers.join_all().await;
}

/// Keeps what a run prints, and gives it nothing to read.
#[derive(Default)]
struct Streams(Mutex<Vec<u8>>);

impl OutputSink for Streams {
    fn write(&self, _: OutputStream, data: Bytes) {
        self.0.lock().extend_from_slice(&data);
    }
    fn log(&self, _: LogLevel, _: String) {}
    fn progress(&self, _: Progress) {}
}

impl InputSource for Streams {
    fn read(&self, _: usize) -> InputRead {
        InputRead::Eof
    }
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

async fn run_as(tenant: &str, python: &Arc<Interpreter>, text: &'static str) -> String {
    let streams = Arc::new(Streams::default());
    let run = Run {
        tenant: tenant.into(),
        limits: LimitsPolicy::default().defaults,
        code: Bytes::from_static(text.as_bytes()),
        inputs: Inputs::default(),
        input: streams.clone(),
        output: streams.clone(),
        meter: Arc::new(Meter::default()),
        egress: Arc::new(DenyAll),
        children: None,
    };
    // The memory of this one counts beyond the image.
    let run = Run { limits: casemate::domain::limits::Limits { memory_bytes: 256 << 20, ..run.limits }, ..run };
    let ended = python.run(run).await.unwrap();
    let printed = String::from_utf8(streams.0.lock().clone()).unwrap();
    assert_eq!(ended.exit, Exit::Exited { code: 0 }, "{printed}");
    printed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_find_nothing_of_each_other_in_ten_thousand_runs() {
    let Some(directory) = kit::installed() else { return };
    let engine = Engine::new(EngineConfig { max_running: 8, ..EngineConfig::default() }).unwrap();
    // Few idle memories, so that tenants displace each other; and both ways of resetting them.
    for pagemap in [true, false] {
        let config = InterpretersConfig { directory: directory.clone(), max_idle: 3, pagemap, packages: None };
        let interpreters = Interpreters::open(&config, &engine);
        let python = interpreters.get("python").unwrap();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let python = python.clone();
            callers.spawn(async move {
                for run in 0..RUNS / 2 / CALLERS {
                    match (caller + run) % 2 {
                        0 => run_as("writer", &python, WRITE).await,
                        _ => {
                            let found = run_as(["searcher", "other"][run / 2 % 2], &python, SEARCH).await;
                            assert_eq!(found, NOTHING, "run {run} of caller {caller}, pagemap {pagemap}");
                            found
                        }
                    };
                }
            });
        }
        callers.join_all().await;
        let facts = interpreters.slots();
        assert!(facts.idle <= 3, "{facts:?}");
        eprintln!("pagemap {pagemap}: {facts:?}");
    }
}
