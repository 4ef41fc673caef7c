//! Pools and leases as messages, and what somebody asks of them.

use super::{container, duration, span, timestamp};
use crate::container::{ResourcesWish, Wish};
use crate::domain::container::Container;
use crate::domain::pool::{PoolFigures, PoolSettings, PoolState};
use crate::error::{Error, Result, Violation};
use crate::pool::{PoolChange, PoolFilter, PoolOrder, PoolView};
use crate::proto::v1;
use std::time::Duration;
use v1::container_spec::Source;

/// Fields of a pool that its owner can change.
const FIELDS: [&str; 8] =
    ["description", "container", "target_size", "max_size", "max_waiting", "max_lease_time", "max_idle_age", "labels"];

/// A pool.
pub fn pool(found: &PoolView) -> v1::Pool {
    let (record, settings) = (&found.record, &found.record.settings);
    v1::Pool {
        name: record.origin.name.clone(),
        description: settings.description.clone(),
        container: Some(asked_spec(&found.wish)),
        target_size: settings.target_size,
        max_size: settings.max_size,
        max_waiting: settings.max_waiting,
        max_lease_time: Some(duration(settings.lease_time())),
        max_idle_age: Some(duration(settings.idle_age())),
        labels: settings.labels.clone(),
        state: state(found.state).into(),
        problem: found.problem.clone(),
        stats: Some(stats(&found.figures)),
        principal: record.origin.principal.to_string(),
        request_id: record.origin.request_id.map(|id| id.to_string()).unwrap_or_default(),
        create_time: Some(timestamp(record.origin.created)),
        update_time: Some(timestamp(record.updated)),
        etag: record.etag.clone(),
    }
}

/// What somebody asks of new containers, as he may see it: values of variables may be secrets.
fn asked_spec(wish: &Wish) -> v1::ContainerSpec {
    let resources = wish.resources;
    v1::ContainerSpec {
        template: wish.template.clone(),
        source: match (wish.snapshot.as_str(), wish.image.as_str()) {
            ("", "") => None,
            ("", image) => Some(Source::Image(image.to_owned())),
            (snapshot, _) => Some(Source::SnapshotId(snapshot.to_owned())),
        },
        pull_policy: wish.pull.map_or(0, |pull| container::pull_policy(pull).into()),
        entrypoint: wish.entrypoint.clone(),
        command: wish.command.clone(),
        environment: wish.environment.keys().map(|name| (name.clone(), String::new())).collect(),
        labels: wish.labels.clone(),
        user: wish.user.clone(),
        working_directory: wish.working_directory.clone(),
        hostname: wish.hostname.clone(),
        resources: (resources != ResourcesWish::default()).then_some(v1::ContainerResources {
            memory_bytes: resources.memory_bytes,
            swap_bytes: resources.swap_bytes,
            cpu_millis: resources.cpu_millis,
            cpu_weight: resources.cpu_weight,
            pids: resources.pids,
            open_files: resources.open_files,
            disk_bytes: resources.disk_bytes,
            shared_memory_bytes: resources.shared_memory_bytes,
            log_bytes: resources.log_bytes,
            executions: resources.executions,
        }),
        mounts: wish.mounts.iter().map(container::mount).collect(),
        tmpfs: wish.tmpfs.iter().map(container::tmpfs).collect(),
        workspace: wish.workspace.as_ref().map(container::workspace),
        ports: wish.ports.iter().map(container::port).collect(),
        retention: wish.retention.map(duration),
        policy: wish.policy.map_or(0, |policy| container::sandbox_policy(policy).into()),
        runtime: wish.runtime.clone(),
        hardening: wish.hardening.as_ref().map(container::hardening),
        stop_signal: wish.stop_signal.clone(),
        stop_grace: wish.stop_grace.map(duration),
        // The rest is not for pools, or not in this build.
        ..Default::default()
    }
}

fn state(state: PoolState) -> v1::PoolState {
    match state {
        PoolState::Filling => v1::PoolState::Filling,
        PoolState::Ready => v1::PoolState::Ready,
        PoolState::Degraded => v1::PoolState::Degraded,
        PoolState::Deleting => v1::PoolState::Deleting,
        PoolState::Unreachable => v1::PoolState::Unreachable,
    }
}

fn stats(figures: &PoolFigures) -> v1::PoolStats {
    let (counts, totals) = (&figures.counts, &figures.totals);
    v1::PoolStats {
        idle: counts.idle,
        starting: counts.starting,
        leased: counts.leased,
        stopping: counts.stopping,
        waiting: counts.waiting,
        total_leases: totals.leases,
        total_expired_leases: totals.expired,
        total_broken_leases: totals.broken,
        total_created: totals.created,
        total_failed: totals.failed,
        total_unhealthy: totals.unhealthy,
        total_aged: totals.aged,
        total_rejected: totals.rejected,
        total_abandoned: totals.abandoned,
        median_wait: figures.waits.map(|(median, _)| duration(median)),
        p99_wait: figures.waits.map(|(_, high)| duration(high)),
    }
}

/// A container on loan.
pub fn lease(found: &Container) -> v1::LeaseContainerResponse {
    let pool = found.belonging.as_ref().map(|home| home.pool.clone()).unwrap_or_default();
    let lease = found.loan().map(|loan| v1::Lease {
        id: loan.lease.to_string(),
        pool,
        container: Some(container::container(found)),
        principal: loan.principal.to_string(),
        request_id: loan.request_id.map(|id| id.to_string()).unwrap_or_default(),
        labels: loan.labels.clone(),
        create_time: Some(timestamp(loan.created)),
        expire_time: Some(timestamp(loan.expires)),
    });
    v1::LeaseContainerResponse { lease, wait_time: found.loan().map(|loan| duration(loan.waited)) }
}

/// A pool somebody asks for.
pub fn order(sent: Option<v1::Pool>) -> Result<PoolOrder> {
    let sent = sent.ok_or_else(|| Error::invalid("pool", "is required"))?;
    let name = sent.name.clone();
    let settings = PoolSettings {
        description: sent.description.clone(),
        target_size: sent.target_size,
        max_size: sent.max_size,
        max_waiting: sent.max_waiting,
        max_lease_time: time("pool.max_lease_time", &sent.max_lease_time)?,
        max_idle_age: time("pool.max_idle_age", &sent.max_idle_age)?,
        labels: sent.labels.clone(),
    };
    let spec = sent.container.ok_or_else(|| Error::invalid("pool.container", "is required"))?;
    Ok(PoolOrder { name, wish: wish(spec)?, settings })
}

/// What somebody changes.
pub fn change(sent: v1::Pool, mask: Option<prost_types::FieldMask>) -> Result<PoolChange> {
    let named = mask.map(|mask| mask.paths).unwrap_or_default();
    let unknown: Vec<Violation> = named
        .iter()
        .filter(|path| !FIELDS.contains(&path.as_str()))
        .map(|path| {
            let shown: String = path.chars().take(80).collect();
            Violation::new("update_mask", format!("{shown:?} cannot be changed; expected {}", FIELDS.join(", ")))
        })
        .collect();
    if !unknown.is_empty() {
        return Err(Error::InvalidArgument(unknown));
    }
    let masked = !named.is_empty();
    // Without a mask, what is set; with one, what it names, set or not.
    let wanted = |field: &str, set: bool| if masked { named.iter().any(|path| path == field) } else { set };
    let lease_time = time("pool.max_lease_time", &sent.max_lease_time)?;
    let idle_age = time("pool.max_idle_age", &sent.max_idle_age)?;
    Ok(PoolChange {
        wish: match wanted("container", sent.container.is_some()) {
            true => Some(wish(sent.container.unwrap_or_default())?),
            false => None,
        },
        description: wanted("description", !sent.description.is_empty()).then_some(sent.description),
        target_size: wanted("target_size", sent.target_size > 0).then_some(sent.target_size),
        max_size: wanted("max_size", sent.max_size > 0).then_some(sent.max_size),
        max_waiting: wanted("max_waiting", sent.max_waiting.is_some()).then_some(sent.max_waiting),
        max_lease_time: wanted("max_lease_time", lease_time.is_some()).then_some(lease_time),
        max_idle_age: wanted("max_idle_age", idle_age.is_some()).then_some(idle_age),
        labels: wanted("labels", !sent.labels.is_empty()).then_some(sent.labels),
    })
}

/// Which pools somebody wants to see.
pub fn filter(filter: Option<v1::PoolFilter>) -> Result<PoolFilter> {
    let filter = filter.unwrap_or_default();
    let states = filter.states.iter().map(|number| match v1::PoolState::try_from(*number) {
        Ok(v1::PoolState::Filling) => Ok(PoolState::Filling),
        Ok(v1::PoolState::Ready) => Ok(PoolState::Ready),
        Ok(v1::PoolState::Degraded) => Ok(PoolState::Degraded),
        Ok(v1::PoolState::Deleting) => Ok(PoolState::Deleting),
        Ok(v1::PoolState::Unreachable) => Ok(PoolState::Unreachable),
        Ok(v1::PoolState::Unspecified) | Err(_) => {
            Err(Error::invalid("filter.states", format!("{number} is not a state of this contract")))
        }
    });
    Ok(PoolFilter {
        states: states.collect::<Result<_>>()?,
        prefix: filter.name_prefix,
        labels: filter.labels,
        principal: filter.principal,
    })
}

fn time(field: &str, sent: &Option<prost_types::Duration>) -> Result<Option<Duration>> {
    sent.as_ref().map(|sent| span(field, sent)).transpose()
}

/// What a pool's containers are to be. What is said of the fields is said as a pool has them.
fn wish(spec: v1::ContainerSpec) -> Result<Wish> {
    let published = spec.ports.iter().enumerate().filter(|(_, port)| port.host_port != 0);
    let violations: Vec<Violation> = published
        .map(|(at, _)| {
            let text = "one port of the host is not for many containers; leave it 0";
            Violation::new(format!("pool.container.ports[{at}].host_port"), text)
        })
        .collect();
    if !violations.is_empty() {
        return Err(Error::InvalidArgument(violations));
    }
    container::wish(Some(spec)).map_err(crate::pool::in_a_pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
        Some(prost_types::FieldMask { paths: paths.iter().map(|path| path.to_string()).collect() })
    }

    #[test]
    fn a_mask_says_what_changes_and_without_one_what_is_set() {
        let sent = v1::Pool { target_size: 3, max_waiting: Some(0), ..Default::default() };
        let found = change(sent.clone(), None).unwrap();
        assert_eq!((found.target_size, found.max_waiting, found.max_size), (Some(3), Some(Some(0)), None));
        assert!(found.labels.is_none() && found.wish.is_none() && found.description.is_none());
        let found = change(sent, mask(&["max_size", "max_waiting", "max_lease_time", "labels"])).unwrap();
        assert_eq!((found.target_size, found.max_size), (None, Some(0)));
        assert_eq!((found.max_waiting, found.max_lease_time), (Some(Some(0)), Some(None)));
        assert_eq!(found.labels, Some(Default::default()));
        let found = change(v1::Pool::default(), mask(&["max_waiting"])).unwrap();
        assert_eq!(found.max_waiting, Some(None));
    }

    #[test]
    fn what_cannot_be_changed_is_told() {
        for path in ["state", "name", "principal", "etag", "stats", "no_such", "container.image"] {
            let refused = change(v1::Pool::default(), mask(&[path]));
            assert!(matches!(refused, Err(Error::InvalidArgument(all)) if all[0].field == "update_mask"), "{path}");
        }
    }

    #[test]
    fn a_port_of_the_host_is_refused_by_its_field() {
        let port = v1::ContainerPort { container_port: 1, host_port: 2, ..Default::default() };
        let spec = v1::ContainerSpec { ports: vec![port], ..Default::default() };
        let sent = v1::Pool { container: Some(spec), ..Default::default() };
        let refused = order(Some(sent));
        assert!(
            matches!(refused, Err(Error::InvalidArgument(all)) if all[0].field == "pool.container.ports[0].host_port")
        );
    }
}
