//! How soon it is ready, and what it weighs when nobody calls.

use super::report::Report;
use super::{Plan, server};

pub async fn measure(plan: Plan, report: &mut Report) {
    report.title("start, 10 tools");
    let ten = server::ten_tools();
    let mut starts = Vec::new();
    let mut memory = 0;
    // The first start fills the cache of compiled modules; the others find it warm.
    for round in 0..=plan.rounds.max(5) {
        let server = server::Process::start(ten.clone()).await;
        if round > 0 {
            starts.push(server.ready_after.as_secs_f64() * 1e3);
        }
        memory = server.idle_memory().await;
    }
    starts.sort_by(f64::total_cmp);
    report.value("start_ms", "process start to ready, warm cache", starts[starts.len() / 2], "ms");
    report.value("idle_memory_mib", "idle memory (resident)", memory as f64 / f64::from(1 << 20), "MiB");
}
