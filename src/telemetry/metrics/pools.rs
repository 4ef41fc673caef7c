//! What is counted of pools. Their names are made up by callers, so none is a label.

use super::Maker;
use crate::domain::pool::PoolCounts;
use prometheus::{Histogram, IntGauge};
use std::time::Duration;

/// From a container that was idle to an hour in line.
const WAIT_SECONDS: [f64; 11] = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0];

const STATES: [&str; 4] = ["idle", "starting", "leased", "stopping"];

/// What is counted of pools.
pub struct PoolMetrics {
    wait_seconds: Histogram,
    containers: [IntGauge; 4],
    waiting: IntGauge,
}

impl PoolMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        let containers = make.gauges("casemate_pool_containers", "Containers of all pools, by state.", &["state"]);
        PoolMetrics {
            wait_seconds: make.histogram(
                "casemate_pool_wait_seconds",
                "Time that borrowers of containers stood in line, in seconds.",
                &WAIT_SECONDS,
            ),
            containers: STATES.map(|state| containers.with_label_values(&[state])),
            waiting: make.gauge("casemate_pool_waiting", "Callers in the lines of all pools now."),
        }
    }

    /// Somebody got a container.
    pub fn leased(&self, waited: Duration) {
        self.wait_seconds.observe(waited.as_secs_f64());
    }

    /// What there is.
    pub(super) fn set(&self, counts: &PoolCounts) {
        let values = [counts.idle, counts.starting, counts.leased, counts.stopping];
        self.containers.iter().zip(values).for_each(|(gauge, value)| gauge.set(value.into()));
        self.waiting.set(counts.waiting.into());
    }
}
