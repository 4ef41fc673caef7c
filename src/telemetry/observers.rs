//! The metrics as the observers that other rooms report to.

use super::metrics::Metrics;
use crate::domain::execution::Execution;
use crate::execution::RegistryObserver;
use crate::store::CommitObserver;

impl RegistryObserver for Metrics {
    fn ended(&self, execution: &Execution) {
        self.execution_ended(execution);
    }

    fn rejected(&self) {
        self.execution_rejected();
    }
}

impl CommitObserver for Metrics {
    fn committed(&self, seconds: f64, _jobs: usize, result: Result<(), &str>) {
        self.store_committed(seconds, result.is_ok());
    }
}
