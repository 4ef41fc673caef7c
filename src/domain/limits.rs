//! What one execution may use, and how the say of server, manifest and call becomes one set of numbers.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The limits in force for one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall-clock time from the start of the guest to its forced end.
    pub wall_time: Duration,
    /// Linear memory in bytes.
    pub memory_bytes: u64,
    /// Elements of each WASM table.
    pub table_elements: u64,
    /// WASM stack in bytes.
    pub stack_bytes: u64,
    /// Output and logs kept for replay, in bytes.
    pub output_bytes: u64,
    /// Calls from the guest to the host interface.
    pub host_calls: u64,
    /// Deterministic budget in fuel; `None` is not metered.
    pub fuel: Option<u64>,
    /// Files in the scratch directory, in bytes; also what the contents of the files it leaves can take in
    /// its journal.
    pub scratch_bytes: u64,
    /// Calls of other tools by the run's code, calls by those included.
    pub child_executions: u64,
    /// How deep such calls may nest: 1 lets the code call tools, which then cannot call any.
    pub child_depth: u32,
}

/// Limits somebody asks for; `None` leaves the decision to whoever comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsRequest {
    /// See [`Limits::wall_time`].
    pub wall_time: Option<Duration>,
    /// See [`Limits::memory_bytes`].
    pub memory_bytes: Option<u64>,
    /// See [`Limits::table_elements`].
    pub table_elements: Option<u64>,
    /// See [`Limits::stack_bytes`].
    pub stack_bytes: Option<u64>,
    /// See [`Limits::output_bytes`].
    pub output_bytes: Option<u64>,
    /// See [`Limits::host_calls`].
    pub host_calls: Option<u64>,
    /// See [`Limits::fuel`].
    pub fuel: Option<u64>,
    /// See [`Limits::scratch_bytes`].
    pub scratch_bytes: Option<u64>,
    /// See [`Limits::child_executions`].
    pub child_executions: Option<u64>,
    /// See [`Limits::child_depth`].
    pub child_depth: Option<u32>,
}

/// The server's say: what applies when nobody asks, and what nobody can exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsPolicy {
    /// Applied where neither the call nor the manifest asks.
    pub defaults: Limits,
    /// Never exceeded. `caps.fuel` of `None` lets a caller ask for any budget.
    pub caps: Limits,
}

impl LimitsPolicy {
    /// The limits of one run: the call's wish, else the manifest's, else the default; then the cap.
    pub fn resolve(&self, manifest: &LimitsRequest, call: &LimitsRequest) -> Limits {
        let (d, c) = (&self.defaults, &self.caps);
        let pick = |call: Option<u64>, manifest: Option<u64>, default: u64, cap: u64| {
            call.or(manifest).unwrap_or(default).min(cap)
        };
        Limits {
            wall_time: call.wall_time.or(manifest.wall_time).unwrap_or(d.wall_time).min(c.wall_time),
            memory_bytes: pick(call.memory_bytes, manifest.memory_bytes, d.memory_bytes, c.memory_bytes),
            table_elements: pick(call.table_elements, manifest.table_elements, d.table_elements, c.table_elements),
            stack_bytes: pick(call.stack_bytes, manifest.stack_bytes, d.stack_bytes, c.stack_bytes),
            output_bytes: pick(call.output_bytes, manifest.output_bytes, d.output_bytes, c.output_bytes),
            host_calls: pick(call.host_calls, manifest.host_calls, d.host_calls, c.host_calls),
            // A server-wide cap on fuel must hold for runs that did not ask for metering too.
            fuel: match (call.fuel.or(manifest.fuel).or(d.fuel), c.fuel) {
                (Some(asked), Some(cap)) => Some(asked.min(cap)),
                (asked, cap) => asked.or(cap),
            },
            scratch_bytes: pick(call.scratch_bytes, manifest.scratch_bytes, d.scratch_bytes, c.scratch_bytes),
            child_executions: pick(
                call.child_executions,
                manifest.child_executions,
                d.child_executions,
                c.child_executions,
            ),
            child_depth: call.child_depth.or(manifest.child_depth).unwrap_or(d.child_depth).min(c.child_depth),
        }
    }
}

impl Default for LimitsPolicy {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        LimitsPolicy {
            defaults: Limits {
                wall_time: Duration::from_secs(30),
                memory_bytes: 64 * MIB,
                table_elements: 100_000,
                stack_bytes: 512 << 10,
                output_bytes: 4 * MIB,
                host_calls: 100,
                fuel: None,
                scratch_bytes: 64 * MIB,
                child_executions: 100,
                child_depth: 4,
            },
            caps: Limits {
                wall_time: Duration::from_secs(3600),
                memory_bytes: 512 * MIB,
                table_elements: 1_000_000,
                stack_bytes: 2 * MIB,
                output_bytes: 64 * MIB,
                host_calls: 100_000,
                fuel: None,
                scratch_bytes: 512 * MIB,
                child_executions: 10_000,
                child_depth: 16,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_wins_over_the_manifest_and_the_cap_over_both() {
        let policy = LimitsPolicy::default();
        let manifest = LimitsRequest { memory_bytes: Some(1 << 20), host_calls: Some(7), ..Default::default() };
        let call = LimitsRequest { memory_bytes: Some(u64::MAX), ..Default::default() };
        let limits = policy.resolve(&manifest, &call);
        assert_eq!(limits.memory_bytes, policy.caps.memory_bytes);
        assert_eq!(limits.host_calls, 7);
        assert_eq!(limits.wall_time, policy.defaults.wall_time);
    }

    #[test]
    fn fuel_is_metered_only_when_somebody_asks() {
        let mut policy = LimitsPolicy::default();
        let none = LimitsRequest::default();
        assert_eq!(policy.resolve(&none, &none).fuel, None);
        let asked = LimitsRequest { fuel: Some(1000), ..Default::default() };
        assert_eq!(policy.resolve(&asked, &none).fuel, Some(1000));
        policy.caps.fuel = Some(10);
        assert_eq!(policy.resolve(&asked, &none).fuel, Some(10));
        assert_eq!(policy.resolve(&none, &none).fuel, Some(10));
    }
}
