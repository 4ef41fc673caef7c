//! What the server tells of itself: log lines and metrics.

pub mod logging;
pub mod metrics;
mod observers;
mod process;

pub use metrics::{CacheResult, Metrics, Readings, RpcMetrics, ToolMetrics};
