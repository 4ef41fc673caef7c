//! How metrics come to be: made, registered, and known to be well formed.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Makes metrics and registers them.
pub(super) struct Maker<'a> {
    pub(super) registry: &'a Registry,
}

impl Maker<'_> {
    pub(super) fn register<C: Collector + Clone + 'static>(&self, metric: C) -> C {
        constant(self.registry.register(Box::new(metric.clone())));
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(constant(IntCounter::new(name, help)))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(constant(IntCounterVec::new(Opts::new(name, help), labels)))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(constant(IntGauge::new(name, help)))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(constant(IntGaugeVec::new(Opts::new(name, help), labels)))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.register(constant(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(constant(HistogramVec::new(options, labels)))
    }
}

/// Unwraps what can only fail for a name, label or bucket that is wrong in this room; every test that
/// makes a `Metrics` would show it.
pub(super) fn constant<T>(made: prometheus::Result<T>) -> T {
    made.expect("the metrics have valid and different names")
}
