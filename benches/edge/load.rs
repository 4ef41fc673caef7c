//! A closed loop of callers on one connection.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a run measured: microseconds, and calls a second.
pub struct Figures {
    pub p50: f64,
    pub p99: f64,
    pub rate: f64,
}

impl Figures {
    /// The run in the middle, by its rate.
    pub fn median(mut runs: Vec<Figures>) -> Figures {
        runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let middle = runs.len() / 2;
        runs.swap_remove(middle)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({"p50_us": self.p50, "p99_us": self.p99, "calls_per_second": self.rate})
    }
}

/// Calls again and again from `concurrency` tasks for so long, after a warm-up of a quarter of it.
pub async fn run<C, F>(concurrency: usize, time: Duration, call: C) -> Figures
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let call = Arc::new(call);
    let begin = Instant::now() + time / 4;
    let end = begin + time;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let call = call.clone();
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(1 << 16);
            loop {
                let before = Instant::now();
                if before >= end {
                    return times;
                }
                call().await;
                if before >= begin {
                    times.push(before.elapsed().as_secs_f64() * 1e6);
                }
            }
        });
    }
    let mut times = tasks.join_all().await.concat();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Figures { p50: at(0.5), p99: at(0.99), rate: times.len() as f64 / time.as_secs_f64() }
}
