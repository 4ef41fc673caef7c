//! Holds a run to its memory and table limits.

use crate::domain::io::Meter;
use crate::domain::limits::Limits;
use std::sync::Arc;
use wasmtime::{ResourceLimiter, Result};

/// What was asked for beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// This many bytes of memory in all.
    Memory(u64),
    /// This many elements of one table.
    Table(u64),
}

/// Counts all memories of a run together, and each table by itself.
pub(super) struct Limiter {
    meter: Arc<Meter>,
    memory_limit: u64,
    table_limit: u64,
    memory: u64,
    /// What the growth under way added, to take back should it fail after all.
    growing: u64,
    denied: Option<Denied>,
}

impl Limiter {
    pub fn new(limits: &Limits, meter: Arc<Meter>) -> Limiter {
        Limiter {
            meter,
            memory_limit: limits.memory_bytes,
            table_limit: limits.table_elements,
            memory: 0,
            growing: 0,
            denied: None,
        }
    }

    /// The first growth that was refused.
    pub fn denied(&self) -> Option<Denied> {
        self.denied
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        self.growing = (desired as u64).saturating_sub(current as u64);
        let total = self.memory.saturating_add(self.growing);
        if total > self.memory_limit {
            self.denied.get_or_insert(Denied::Memory(total));
            return Ok(false);
        }
        self.memory = total;
        self.meter.memory(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        // Beyond the maximum the module declared for itself, or the machine has no more: the guest is told.
        self.memory = self.memory.saturating_sub(std::mem::take(&mut self.growing));
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let allowed = desired as u64 <= self.table_limit;
        if !allowed {
            self.denied.get_or_insert(Denied::Table(desired as u64));
        }
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::LimitsPolicy;

    #[test]
    fn memories_count_together_and_a_failed_growth_is_taken_back() {
        let meter = Arc::new(Meter::default());
        let limits = Limits { memory_bytes: 300, ..LimitsPolicy::default().defaults };
        let mut limiter = Limiter::new(&limits, meter.clone());
        assert!(limiter.memory_growing(0, 200, None).unwrap());
        assert!(!limiter.memory_growing(0, 101, None).unwrap());
        assert_eq!(limiter.denied(), Some(Denied::Memory(301)));
        assert!(limiter.memory_growing(0, 50, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert!(limiter.memory_growing(200, 300, None).unwrap());
        assert_eq!(meter.read().peak_memory_bytes, 300);
    }
}
