//! Pools and leases.

use super::{Fields, container, seconds, short_span, short_time, span, time, word};
use crate::cli::output;
use crate::proto::v1::{Lease, Pool, PoolStats};
use serde_json::{Value, json};

/// A pool as JSON.
pub fn json(pool: &Pool) -> Value {
    let fields = match pool.max_waiting {
        // None may wait: not the same as nothing said.
        Some(most) => Fields::default().choose("maxWaiting", most),
        None => Fields::default(),
    };
    fields
        .set("name", pool.name.as_str())
        .set("description", pool.description.as_str())
        .set("container", pool.container.as_ref().map(container::spec))
        .set("targetSize", pool.target_size)
        .set("maxSize", pool.max_size)
        .set("maxLeaseTime", seconds(&pool.max_lease_time))
        .set("maxIdleAge", seconds(&pool.max_idle_age))
        .set("labels", json!(pool.labels))
        .set("state", pool.state().as_str_name())
        .set("problem", pool.problem.as_str())
        .set("stats", pool.stats.as_ref().map(stats))
        .set("principal", pool.principal.as_str())
        .set("requestId", pool.request_id.as_str())
        .set("createTime", time(&pool.create_time))
        .set("updateTime", time(&pool.update_time))
        .set("etag", pool.etag.as_str())
        .into_value()
}

fn stats(stats: &PoolStats) -> Value {
    Fields::default()
        .set("idle", stats.idle)
        .set("starting", stats.starting)
        .set("leased", stats.leased)
        .set("stopping", stats.stopping)
        .set("waiting", stats.waiting)
        .set("totalLeases", stats.total_leases)
        .set("totalExpiredLeases", stats.total_expired_leases)
        .set("totalBrokenLeases", stats.total_broken_leases)
        .set("totalCreated", stats.total_created)
        .set("totalFailed", stats.total_failed)
        .set("totalUnhealthy", stats.total_unhealthy)
        .set("totalAged", stats.total_aged)
        .set("totalRejected", stats.total_rejected)
        .set("totalAbandoned", stats.total_abandoned)
        .set("medianWait", seconds(&stats.median_wait))
        .set("p99Wait", seconds(&stats.p99_wait))
        .into_value()
}

/// A lease as JSON, with how long it was waited for.
pub fn lease(lease: &Lease, waited: &Option<prost_types::Duration>) -> Value {
    let lease = Fields::default()
        .set("id", lease.id.as_str())
        .set("pool", lease.pool.as_str())
        .set("container", lease.container.as_ref().map(container::json))
        .set("principal", lease.principal.as_str())
        .set("requestId", lease.request_id.as_str())
        .set("labels", json!(lease.labels))
        .set("createTime", time(&lease.create_time))
        .set("expireTime", time(&lease.expire_time))
        .into_value();
    Fields::default().set("lease", lease).set("waitTime", seconds(waited)).into_value()
}

fn state(pool: &Pool) -> String {
    word(pool.state().as_str_name(), "POOL_STATE_")
}

/// A table of pools.
pub fn table(pools: &[Pool]) -> String {
    let row = |pool: &Pool| {
        let stats = pool.stats.unwrap_or_default();
        let remark = if pool.problem.is_empty() { &pool.description } else { &pool.problem };
        vec![
            pool.name.clone(),
            state(pool),
            format!("{}/{}", stats.idle, pool.target_size),
            stats.starting.to_string(),
            stats.leased.to_string(),
            stats.waiting.to_string(),
            stats.total_leases.to_string(),
            short_time(&pool.create_time),
            remark.clone(),
        ]
    };
    let head = ["NAME", "STATE", "IDLE", "STARTING", "LEASED", "WAITING", "LEASES", "CREATED", "REMARK"];
    output::table(&head, &pools.iter().map(row).collect::<Vec<_>>())
}

/// One pool in full.
pub fn detail(pool: &Pool) -> String {
    let stats = pool.stats.unwrap_or_default();
    let short = |duration: &Option<prost_types::Duration>| span(duration).map(short_span).unwrap_or_default();
    let spec = pool.container.as_ref().map(|spec| container::spec(spec).to_string()).unwrap_or_default();
    let labels: Vec<String> = pool.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let waits = match (span(&stats.median_wait), span(&stats.p99_wait)) {
        (Some(median), Some(high)) => format!("median {}, 99 of 100 {}", short_span(median), short_span(high)),
        _ => String::new(),
    };
    output::facts(&[
        ("name", pool.name.clone()),
        ("state", state(pool)),
        ("problem", pool.problem.clone()),
        ("description", pool.description.clone()),
        ("container", spec),
        ("labels", labels.join(" ")),
        ("idle", format!("{} of {}", stats.idle, pool.target_size)),
        ("starting", stats.starting.to_string()),
        ("leased", stats.leased.to_string()),
        ("stopping", stats.stopping.to_string()),
        ("waiting", stats.waiting.to_string()),
        ("at most", if pool.max_size == 0 { "as the server allows".into() } else { pool.max_size.to_string() }),
        ("line", pool.max_waiting.map(|most| format!("at most {most}")).unwrap_or_default()),
        ("longest lease", short(&pool.max_lease_time)),
        ("replaced after", short(&pool.max_idle_age)),
        ("leases", stats.total_leases.to_string()),
        ("expired, broken", format!("{}, {}", stats.total_expired_leases, stats.total_broken_leases)),
        ("made, failed", format!("{}, {}", stats.total_created, stats.total_failed)),
        ("unhealthy, aged", format!("{}, {}", stats.total_unhealthy, stats.total_aged)),
        ("rejected, abandoned", format!("{}, {}", stats.total_rejected, stats.total_abandoned)),
        ("waits", waits),
        ("owner", pool.principal.clone()),
        ("request id", pool.request_id.clone()),
        ("created", time(&pool.create_time).unwrap_or_default()),
        ("changed", time(&pool.update_time).unwrap_or_default()),
        ("etag", pool.etag.clone()),
    ])
}
