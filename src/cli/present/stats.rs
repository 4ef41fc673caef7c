//! What a container consumes.

use super::{Fields, seconds, short_size, time};
use crate::cli::output;
use crate::proto::v1::ContainerStats;
use serde_json::Value;

/// A sample as JSON.
pub fn json(stats: &ContainerStats) -> Value {
    Fields::default()
        .set("time", time(&stats.time))
        .set("cpuTime", seconds(&stats.cpu_time))
        .set("cpuThrottledTime", seconds(&stats.cpu_throttled_time))
        .choose("cpuUsage", stats.cpu_usage)
        .set("memoryBytes", stats.memory_bytes)
        .set("memoryPeakBytes", stats.memory_peak_bytes)
        .set("memoryLimitBytes", stats.memory_limit_bytes)
        .set("swapBytes", stats.swap_bytes)
        .set("cacheBytes", stats.cache_bytes)
        .set("oomKills", stats.oom_kills)
        .set("pids", stats.pids)
        .set("pidsLimit", stats.pids_limit)
        .set("blockReadBytes", stats.block_read_bytes)
        .set("blockWrittenBytes", stats.block_written_bytes)
        .set("networkReceivedBytes", stats.network_received_bytes)
        .set("networkSentBytes", stats.network_sent_bytes)
        .set("diskBytes", stats.disk_bytes)
        .set("workspaceBytes", stats.workspace_bytes)
        .set("runningExecutions", stats.running_executions)
        .into_value()
}

/// A sample as a table of one row.
pub fn table(name: &str, stats: &ContainerStats) -> String {
    let of = |value: String, limit: String| if limit.is_empty() { value } else { format!("{value} / {limit}") };
    let known = |limit: u64, text: String| if limit == 0 { String::new() } else { text };
    let memory =
        of(short_size(stats.memory_bytes), known(stats.memory_limit_bytes, short_size(stats.memory_limit_bytes)));
    let pids = of(stats.pids.to_string(), known(stats.pids_limit.into(), stats.pids_limit.to_string()));
    let row = vec![
        name.to_owned(),
        format!("{:.1}%", stats.cpu_usage * 100.0),
        memory,
        pids,
        of(short_size(stats.block_read_bytes), short_size(stats.block_written_bytes)),
        of(short_size(stats.network_received_bytes), short_size(stats.network_sent_bytes)),
        short_size(stats.workspace_bytes),
        stats.running_executions.to_string(),
    ];
    let head = ["NAME", "CPU", "MEMORY", "PIDS", "READ / WRITTEN", "RECEIVED / SENT", "WORKSPACE", "RUNNING"];
    output::table(&head, &[row])
}
