//! The engine as a library: compiles a small program, runs it with some input, prints what it says.
//!
//! ```sh
//! cargo run --example engine                      # runs once
//! cargo run --release --example engine -- --bench # measures 1 KiB echo runs on 1 and 2 workers
//! ```

use bytes::Bytes;
use casemate::domain::event::{LogLevel, OutputStream, Progress};
use casemate::domain::execution::Exit;
use casemate::domain::io::{InputRead, InputSource, OutputSink};
use casemate::domain::limits::LimitsPolicy;
use casemate::engine::{DenyAll, Engine, EngineConfig, Program, Run};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Copies standard input to standard output.
const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (loop $again
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $again))))))"#;

/// Standard input that is known from the start.
struct Given(Mutex<Bytes>);

impl InputSource for Given {
    fn read(&self, max: usize) -> InputRead {
        let mut left = self.0.lock();
        if left.is_empty() {
            return InputRead::Eof;
        }
        let now = max.min(left.len());
        InputRead::Data(left.split_to(now))
    }

    fn poll_ready(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Prints what the guest says.
struct Print;

impl OutputSink for Print {
    fn write(&self, _stream: OutputStream, data: Bytes) {
        print!("{}", String::from_utf8_lossy(&data));
    }
    fn log(&self, level: LogLevel, message: String) {
        println!("[{level:?}] {message}");
    }
    fn progress(&self, progress: Progress) {
        println!("[{} of {}] {}", progress.current, progress.total, progress.message);
    }
}

fn run(input: Bytes, output: Arc<dyn OutputSink>) -> Run {
    Run {
        limits: LimitsPolicy::default().defaults,
        args: vec!["echo".into()],
        environment: Arc::default(),
        directories: Arc::from([]),
        input: Arc::new(Given(Mutex::new(input))),
        output,
        meter: Arc::default(),
        egress: Arc::new(DenyAll),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let engine = Engine::new(EngineConfig::default())?;
    let started = start.elapsed();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let module = Bytes::from(wat::parse_str(ECHO)?);
    let program = runtime.block_on(engine.load("echo", module))?;
    if std::env::args().any(|arg| arg == "--bench") {
        println!("engine of {} slots started in {started:.1?}; {:?}", engine.facts().slots, engine.facts());
        for workers in [1, 2] {
            runtime.block_on(measure(&program, workers))?;
        }
        return Ok(());
    }
    let ended = runtime.block_on(program.run(run(Bytes::from_static(b"hello\n"), Arc::new(Print))))?;
    println!("{:?} {}", ended.exit, ended.message);
    Ok(())
}

/// Counts bytes and keeps nothing.
#[derive(Default)]
struct Count(AtomicU64);

impl OutputSink for Count {
    fn write(&self, _stream: OutputStream, data: Bytes) {
        self.0.fetch_add(data.len() as u64, Relaxed);
    }
    fn log(&self, _level: LogLevel, _message: String) {}
    fn progress(&self, _progress: Progress) {}
}

async fn measure(program: &Program, workers: usize) -> Result<(), Box<dyn std::error::Error>> {
    const TIME: Duration = Duration::from_secs(3);
    let start = Instant::now();
    let tasks: Vec<_> = (0..workers)
        .map(|_| {
            let program = program.clone();
            tokio::spawn(async move {
                let input = Bytes::from(vec![b'x'; 1024]);
                let mut times = Vec::new();
                while start.elapsed() < TIME {
                    let before = Instant::now();
                    let count = Arc::new(Count::default());
                    let ended = program.run(run(input.clone(), count.clone())).await?;
                    times.push(before.elapsed());
                    assert_eq!((ended.exit, count.0.load(Relaxed)), (Exit::Exited { code: 0 }, 1024));
                }
                Ok::<_, casemate::Error>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    println!("{workers} at a time: p50 {:.1?}, p99 {:.1?}, {rate:.0} runs/s", at(0.5), at(0.99));
    Ok(())
}
