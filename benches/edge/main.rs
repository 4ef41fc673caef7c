//! What a call costs: ExecuteTool beside a bare tonic echo server, both processes of their own, same
//! payload, same client, in one run. Prints a table; `--json FILE` also writes the figures.
//!
//!     cargo bench --bench edge [-- --seconds 2 --rounds 3 --json FILE]

mod bare;
mod load;
mod server;

use load::Figures;
use serde_json::json;
use std::time::Duration;

/// Bytes of the payload.
const PAYLOAD: usize = 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    if arguments.iter().any(|argument| argument == "--serve-bare") {
        return bare::serve();
    }
    let seconds = value("--seconds").map_or(2.0, |text| text.parse().expect("--seconds takes a number"));
    let rounds: usize = value("--rounds").map_or(3, |text| text.parse().expect("--rounds takes a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let report = runtime.block_on(measure(Duration::from_secs_f64(seconds), rounds));
    if let Some(path) = value("--json") {
        std::fs::write(path, serde_json::to_string_pretty(&report).expect("plain JSON"))
            .expect("the file can be written");
    }
}

async fn measure(time: Duration, rounds: usize) -> serde_json::Value {
    let bare = bare::Process::start();
    let casemate = server::Process::start(server::echo_only()).await;
    println!("{:<40} {:>10} {:>10} {:>12}", "1 KiB, one connection", "p50 us", "p99 us", "calls/s");
    let mut report = serde_json::Map::new();
    for concurrency in [1, 64] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        // In turns, so that whatever else the machine does hits both.
        for _ in 0..rounds {
            theirs.push(load::run(concurrency, time, bare.caller().await).await);
            ours.push(load::run(concurrency, time, casemate.caller().await).await);
        }
        let (theirs, ours) = (Figures::median(theirs), Figures::median(ours));
        let row = |name: &str, figures: &Figures| {
            println!("{name:<40} {:>10.1} {:>10.1} {:>12.0}", figures.p50, figures.p99, figures.rate);
        };
        row(&format!("bare tonic echo, concurrency {concurrency}"), &theirs);
        row(&format!("ExecuteTool echo, concurrency {concurrency}"), &ours);
        println!(
            "{:<40} {:>10.2} {:>10.2} {:>12.2}",
            "  times the bare echo",
            ours.p50 / theirs.p50,
            ours.p99 / theirs.p99,
            ours.rate / theirs.rate
        );
        report.insert(format!("bare_echo_c{concurrency}"), theirs.json());
        report.insert(format!("execute_tool_c{concurrency}"), ours.json());
    }
    drop((bare, casemate));

    // The first start fills the cache of compiled modules; the others find it warm.
    let ten = server::ten_tools();
    let mut starts = Vec::new();
    let mut memory = 0;
    for round in 0..=rounds.max(5) {
        let server = server::Process::start(ten.clone()).await;
        if round > 0 {
            starts.push(server.ready_after.as_secs_f64() * 1e3);
        }
        memory = server.idle_memory().await;
    }
    starts.sort_by(f64::total_cmp);
    let start = starts[starts.len() / 2];
    println!("{:<40} {start:>10.1} ms", "start to ready, 10 tools, warm cache");
    println!("{:<40} {:>10.1} MiB", "idle memory (resident)", memory as f64 / f64::from(1 << 20));
    report.insert("start_ms".into(), json!(start));
    report.insert("idle_memory_bytes".into(), json!(memory));
    report.insert("payload_bytes".into(), json!(PAYLOAD));
    report.into()
}
