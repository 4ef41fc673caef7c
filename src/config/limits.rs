//! The section `[limits]`: two sets with the same keys.

use super::forms;
use crate::domain::limits::{Limits, LimitsPolicy};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[limits]`: what one execution may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// What applies where neither the call nor the manifest asks.
    #[serde(deserialize_with = "default_set")]
    pub default: LimitSet,
    /// What nobody can exceed.
    #[serde(deserialize_with = "cap_set")]
    pub cap: LimitSet,
}

impl LimitsSection {
    /// The two sets as the domain knows them.
    pub fn policy(&self) -> LimitsPolicy {
        LimitsPolicy { defaults: self.default.limits(), caps: self.cap.limits() }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        let policy = LimitsPolicy::default();
        LimitsSection { default: LimitSet::from(policy.defaults), cap: LimitSet::from(policy.caps) }
    }
}

/// One set of limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitSet {
    /// Wall-clock time from the start of the guest to its forced end.
    #[serde(with = "forms::duration")]
    pub wall_time: Duration,
    /// Linear memory in bytes.
    #[serde(with = "forms::size")]
    pub memory: u64,
    /// Elements of each WASM table.
    #[serde(with = "forms::count")]
    pub table_elements: u64,
    /// WASM stack in bytes.
    #[serde(with = "forms::size")]
    pub stack: u64,
    /// Output and logs kept for replay, in bytes.
    #[serde(with = "forms::size")]
    pub output: u64,
    /// Calls from the guest to the host interface.
    #[serde(with = "forms::count")]
    pub host_calls: u64,
    /// Fuel; `None` is not metered.
    #[serde(with = "forms::budget", skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Files in the scratch directory, and their contents that are kept, in bytes.
    #[serde(with = "forms::size")]
    pub scratch: u64,
    /// Calls of other tools by a run's code.
    #[serde(with = "forms::count")]
    pub child_executions: u64,
    /// How deep such calls may nest.
    #[serde(with = "forms::count")]
    pub child_depth: u32,
}

impl LimitSet {
    fn limits(&self) -> Limits {
        Limits {
            wall_time: self.wall_time,
            memory_bytes: self.memory,
            table_elements: self.table_elements,
            stack_bytes: self.stack,
            output_bytes: self.output,
            host_calls: self.host_calls,
            fuel: self.fuel,
            scratch_bytes: self.scratch,
            child_executions: self.child_executions,
            child_depth: self.child_depth,
        }
    }
}

impl From<Limits> for LimitSet {
    fn from(limits: Limits) -> Self {
        LimitSet {
            wall_time: limits.wall_time,
            memory: limits.memory_bytes,
            table_elements: limits.table_elements,
            stack: limits.stack_bytes,
            output: limits.output_bytes,
            host_calls: limits.host_calls,
            fuel: limits.fuel,
            scratch: limits.scratch_bytes,
            child_executions: limits.child_executions,
            child_depth: limits.child_depth,
        }
    }
}

// From one type to another with the same fields, every one by name, so that a new one cannot be forgotten.
macro_rules! same_fields {
    ($from:ident to $to:ident: $value:expr) => {{
        let $from {
            wall_time,
            memory,
            table_elements,
            stack,
            output,
            host_calls,
            fuel,
            scratch,
            child_executions,
            child_depth,
        } = $value;
        $to {
            wall_time,
            memory,
            table_elements,
            stack,
            output,
            host_calls,
            fuel,
            scratch,
            child_executions,
            child_depth,
        }
    }};
}

// The two sets have the same keys and different defaults, so each is read over its own.
macro_rules! limit_set {
    ($reader:ident, $defaults:ident) => {
        fn $reader<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<LimitSet, D::Error> {
            #[derive(Deserialize)]
            #[serde(default, deny_unknown_fields)]
            struct Keys {
                #[serde(with = "forms::duration")]
                wall_time: Duration,
                #[serde(with = "forms::size")]
                memory: u64,
                #[serde(with = "forms::count")]
                table_elements: u64,
                #[serde(with = "forms::size")]
                stack: u64,
                #[serde(with = "forms::size")]
                output: u64,
                #[serde(with = "forms::count")]
                host_calls: u64,
                #[serde(with = "forms::budget")]
                fuel: Option<u64>,
                #[serde(with = "forms::size")]
                scratch: u64,
                #[serde(with = "forms::count")]
                child_executions: u64,
                #[serde(with = "forms::count")]
                child_depth: u32,
            }
            impl Default for Keys {
                fn default() -> Self {
                    same_fields!(LimitSet to Keys: LimitSet::from(LimitsPolicy::default().$defaults))
                }
            }
            Ok(same_fields!(Keys to LimitSet: Keys::deserialize(deserializer)?))
        }
    };
}
limit_set!(default_set, defaults);
limit_set!(cap_set, caps);
