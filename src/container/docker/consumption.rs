//! What a sandbox consumes. Docker takes up to two seconds to say; the kernel's own files take no time, where they are in
//! reach: that is so when the sandbox's first process is one of this machine, in a control group with its name.

use super::client::Client;
use super::sandboxes;
use super::{cgroup, errors};
use crate::container::backend::{BackendError, BackendResult, Standing};
use crate::domain::container::Consumption;
use crate::domain::time::Timestamp;
use bollard::errors::Error;
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptionsBuilder;
use std::time::Duration;
use tokio_stream::StreamExt;

/// What a sandbox that runs consumes; `Conflict` for one that does not.
pub(super) async fn read(client: &Client, id: &str) -> BackendResult<Consumption> {
    let Standing::Running { pid, .. } = sandboxes::look(client, id).await? else {
        return Err(BackendError::Conflict("the sandbox does not run, so it consumes nothing".into()));
    };
    if client.endpoint().is_socket() {
        let id = id.to_owned();
        // These files never wait for a disk.
        if let Some(consumption) = cgroup::read(pid, &id) {
            return Ok(consumption);
        }
    }
    asked(client, id).await
}

async fn asked(client: &Client, id: &str) -> BackendResult<Consumption> {
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let stats = client
        .call(|api| {
            let options = options.clone();
            async move {
                let mut answers = std::pin::pin!(api.stats(id, Some(options)));
                answers.next().await.unwrap_or_else(|| {
                    Err(Error::DockerStreamError { error: "Docker says nothing of the sandbox's consumption".into() })
                })
            }
        })
        .await
        .map_err(|error| errors::backend(&error))?;
    Ok(from_stats(stats))
}

fn from_stats(stats: ContainerStatsResponse) -> Consumption {
    let cpu = stats.cpu_stats.unwrap_or_default();
    let memory = stats.memory_stats.unwrap_or_default();
    let detail = memory.stats.unwrap_or_default();
    // The names of both versions of control groups.
    let either = |names: [&str; 2]| names.iter().find_map(|name| detail.get(*name)).copied().unwrap_or(0);
    let blocks = stats.blkio_stats.and_then(|blocks| blocks.io_service_bytes_recursive).unwrap_or_default();
    let moved = |wanted: &str| {
        let wanted =
            blocks.iter().filter(|entry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(wanted)));
        wanted.filter_map(|entry| entry.value).sum()
    };
    let networks = stats.networks.unwrap_or_default();
    let usage = memory.usage.unwrap_or(0);
    let pids = stats.pids_stats.unwrap_or_default();
    let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    Consumption {
        time: Timestamp::now(),
        cpu_time: Duration::from_nanos(cpu.cpu_usage.and_then(|usage| usage.total_usage).unwrap_or(0)),
        throttled_time: Duration::from_nanos(cpu.throttling_data.and_then(|data| data.throttled_time).unwrap_or(0)),
        memory_bytes: usage.saturating_sub(either(["total_inactive_file", "inactive_file"])),
        memory_peak_bytes: memory.max_usage.unwrap_or(0),
        memory_limit_bytes: memory.limit.unwrap_or(0),
        swap_bytes: either(["total_swap", "swap"]),
        cache_bytes: either(["total_cache", "file"]),
        oom_kills: 0,
        pids: small(pids.current),
        pids_limit: small(pids.limit),
        block_read_bytes: moved("read"),
        block_written_bytes: moved("write"),
        network_received_bytes: networks.values().filter_map(|network| network.rx_bytes).sum(),
        network_sent_bytes: networks.values().filter_map(|network| network.tx_bytes).sum(),
    }
}
