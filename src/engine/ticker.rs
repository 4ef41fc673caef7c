//! The clock that lets running guests be interrupted: a thread that advances the epoch of every engine.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

/// A guest that computes yields to its runtime this often.
const TICK: Duration = Duration::from_millis(4);

/// Ticks without a run after which the thread sleeps until there is one. Not at once: waking a thread costs
/// more than a short run does, and runs come in bursts.
const IDLE_TICKS: u32 = 250;

/// Owns the thread; dropping it ends the thread.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    running: AtomicU32,
    asleep: AtomicBool,
    stop: AtomicBool,
    engines: Mutex<Vec<wasmtime::Engine>>,
}

impl Ticker {
    pub fn start() -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let in_thread = shared.clone();
        let handle = thread::Builder::new().name("epoch".into()).spawn(move || in_thread.tick())?;
        Ok(Ticker { shared, thread: handle.thread().clone() })
    }

    /// From now on advances this engine too.
    pub fn add(&self, engine: wasmtime::Engine) {
        self.shared.engines.lock().push(engine);
    }

    /// Notes a run; the clock ticks until all of these are dropped.
    pub fn enter(&self) -> Running {
        self.shared.running.fetch_add(1, SeqCst);
        // Together with the thread's order (say `asleep`, then look at `running`), one of the two sees the
        // other: a run never goes without a clock.
        if self.shared.asleep.load(SeqCst) {
            self.thread.unpark();
        }
        Running(self.shared.clone())
    }

    /// Runs at this moment.
    pub fn running(&self) -> u32 {
        self.shared.running.load(SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.unpark();
    }
}

/// A run that needs the clock.
pub(super) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    fn tick(&self) {
        let mut idle = 0;
        while !self.stop.load(SeqCst) {
            if self.running.load(SeqCst) > 0 {
                idle = 0;
                for engine in self.engines.lock().iter() {
                    engine.increment_epoch();
                }
            } else {
                idle += 1;
            }
            if idle < IDLE_TICKS {
                thread::sleep(TICK);
                continue;
            }
            self.asleep.store(true, SeqCst);
            while self.running.load(SeqCst) == 0 && !self.stop.load(SeqCst) {
                thread::park();
            }
            self.asleep.store(false, SeqCst);
            idle = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn eventually(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < deadline, "did not happen");
            thread::yield_now();
        }
    }

    #[test]
    fn it_sleeps_while_nothing_runs_and_wakes_for_a_run() {
        let ticker = Ticker::start().unwrap();
        eventually(|| ticker.shared.asleep.load(SeqCst));
        let run = ticker.enter();
        eventually(|| !ticker.shared.asleep.load(SeqCst));
        assert_eq!(ticker.running(), 1);
        drop(run);
        assert_eq!(ticker.running(), 0);
        let shared = Arc::downgrade(&ticker.shared);
        drop(ticker);
        eventually(|| shared.strong_count() == 0);
    }
}
