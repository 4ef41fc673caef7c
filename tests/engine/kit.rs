//! What a test needs around a run: an engine, streams, and waiting for a condition.

use bytes::Bytes;
use casemate::domain::event::{LogLevel, OutputStream, Progress};
use casemate::domain::io::{InputRead, InputSource, Meter, OutputSink};
use casemate::domain::limits::{Limits, LimitsPolicy};
use casemate::engine::{DenyAll, Ended, Engine, EngineConfig, Program, Run};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub fn config() -> EngineConfig {
    EngineConfig { max_running: 16, ..EngineConfig::default() }
}

pub fn engine() -> Engine {
    Engine::new(config()).unwrap()
}

pub fn limits() -> Limits {
    LimitsPolicy::default().defaults
}

pub fn wasm(text: &str) -> Bytes {
    wat::parse_str(text).unwrap().into()
}

pub async fn load(engine: &Engine, text: &str) -> Program {
    engine.load("guest", wasm(text)).await.unwrap()
}

/// Waits for a condition that another task brings about.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: did not happen");
        tokio::task::yield_now().await;
    }
}

/// Everything a guest said, in order.
#[derive(Default)]
pub struct Sink {
    pub writes: Mutex<Vec<(OutputStream, Bytes)>>,
    pub logs: Mutex<Vec<(LogLevel, String)>>,
    pub progress: Mutex<Vec<Progress>>,
}

impl Sink {
    pub fn text(&self, stream: OutputStream) -> String {
        let writes = self.writes.lock().unwrap();
        let bytes: Vec<u8> =
            writes.iter().filter(|(of, _)| *of == stream).flat_map(|(_, data)| data.to_vec()).collect();
        String::from_utf8(bytes).unwrap()
    }

    pub fn stdout(&self) -> String {
        self.text(OutputStream::Stdout)
    }
}

impl OutputSink for Sink {
    fn write(&self, stream: OutputStream, data: Bytes) {
        self.writes.lock().unwrap().push((stream, data));
    }
    fn log(&self, level: LogLevel, message: String) {
        self.logs.lock().unwrap().push((level, message));
    }
    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
    }
}

/// Standard input that a test feeds while the guest runs.
#[derive(Default)]
pub struct Source(Mutex<Feed>);

#[derive(Default)]
struct Feed {
    data: VecDeque<Bytes>,
    closed: bool,
    waiting: Option<Waker>,
}

impl Source {
    pub fn of(data: impl Into<Bytes>) -> Source {
        let source = Source::default();
        source.feed(data);
        source.close();
        source
    }

    pub fn feed(&self, data: impl Into<Bytes>) {
        let mut feed = self.0.lock().unwrap();
        let data = data.into();
        if !data.is_empty() {
            feed.data.push_back(data);
        }
        if let Some(waker) = feed.waiting.take() {
            waker.wake();
        }
    }

    pub fn close(&self) {
        let mut feed = self.0.lock().unwrap();
        feed.closed = true;
        if let Some(waker) = feed.waiting.take() {
            waker.wake();
        }
    }
}

impl InputSource for Source {
    fn read(&self, max: usize) -> InputRead {
        let mut feed = self.0.lock().unwrap();
        let closed = feed.closed;
        let Some(first) = feed.data.front_mut() else {
            return if closed { InputRead::Eof } else { InputRead::Pending };
        };
        let data = first.split_to(max.min(first.len()));
        if first.is_empty() {
            feed.data.pop_front();
        }
        InputRead::Data(data)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut feed = self.0.lock().unwrap();
        if feed.closed || !feed.data.is_empty() {
            return Poll::Ready(());
        }
        feed.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A run and what a test looks at afterwards.
pub struct Bench {
    pub run: Run,
    pub sink: Arc<Sink>,
    pub source: Arc<Source>,
    pub meter: Arc<Meter>,
}

impl Bench {
    pub fn new(limits: Limits, source: Source) -> Bench {
        let (sink, source, meter) = (Arc::new(Sink::default()), Arc::new(source), Arc::new(Meter::default()));
        let run = Run {
            limits,
            args: vec!["guest".into()],
            environment: Arc::default(),
            directories: Arc::from([]),
            input: source.clone(),
            output: sink.clone(),
            meter: meter.clone(),
            egress: Arc::new(DenyAll),
        };
        Bench { run, sink, source, meter }
    }

    pub async fn go(&self, program: &Program) -> Ended {
        program.run(self.run.clone()).await.unwrap()
    }
}

/// One run without input.
pub async fn run(program: &Program, limits: Limits) -> (Ended, Bench) {
    let bench = Bench::new(limits, Source::of(""));
    (bench.go(program).await, bench)
}
