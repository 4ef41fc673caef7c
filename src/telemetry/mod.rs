//! What the server tells of itself: log lines and metrics.

pub mod logging;
pub mod metrics;
mod observers;
mod process;

pub use metrics::{ConnectionMetrics, Metrics, ModuleReadings, Readings, RpcMetrics, ToolMetrics};
