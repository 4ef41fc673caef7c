//! What a call costs, and what many cost: Casemate as it ships beside a bare tonic echo server, each a
//! process of its own, same payload, same client, in one run. Prints a table; `--json FILE` also writes
//! the figures.
//!
//!     cargo bench --bench edge [-- --seconds 2 --rounds 3 --only calls,layers --json FILE]
//!
//! Sections: `interpreters`, `calls`, `layers`, `start`, `watch`, `watchers`, `streams`, `computing`,
//! `containers`.

mod bare;
mod calls;
mod containers;
mod files;
mod interpreters;
mod layers;
mod load;
mod pools;
mod report;
mod server;
mod start;
mod streams;
mod watch;

use report::Report;
use std::time::Duration;

/// Bytes of the payload.
const PAYLOAD: usize = 1024;

/// How long and how often.
#[derive(Clone, Copy)]
struct Plan {
    time: Duration,
    rounds: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    if arguments.iter().any(|argument| argument == "--serve-bare") {
        return bare::serve();
    }
    let seconds = value("--seconds").map_or(2.0, |text| text.parse().expect("--seconds takes a number"));
    let rounds: usize = value("--rounds").map_or(3, |text| text.parse().expect("--rounds takes a number"));
    let only: Option<Vec<&str>> = value("--only").map(|text| text.split(',').collect());
    let plan = Plan { time: Duration::from_secs_f64(seconds), rounds };
    let mut report = Report::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let wanted = |section: &str| only.as_ref().is_none_or(|only| only.contains(&section));
        if wanted("calls") {
            calls::measure(plan, &mut report).await;
        }
        if wanted("layers") {
            layers::measure(plan, &mut report).await;
        }
        if wanted("start") {
            start::measure(plan, &mut report).await;
        }
        if wanted("watch") {
            watch::one(plan, &mut report).await;
        }
        if wanted("interpreters") {
            interpreters::measure(plan, &mut report).await;
        }
        if wanted("watchers") {
            watch::many(&mut report).await;
        }
        if wanted("streams") {
            streams::measure(plan, &mut report).await;
        }
        if wanted("computing") {
            streams::computing(plan, &mut report).await;
        }
        if wanted("containers") {
            containers::measure(plan, &mut report).await;
        }
        if wanted("files") {
            files::measure(plan, &mut report).await;
        }
        if wanted("pools") {
            pools::measure(plan, &mut report).await;
        }
    });
    if let Some(path) = value("--json") {
        report.write(path);
    }
}
