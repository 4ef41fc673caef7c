//! Containers and their pools, as the configuration has them.

use super::observers;
use crate::config::Config;
use crate::container::docker::{Address, Docker, DockerConfig, Tls};
use crate::container::{Containers, ContainersParts, gate};
use crate::error::{Error, Result};
use crate::execution::Registry;
use crate::health::{ComponentState, Health};
use crate::pool::{Pools, PoolsParts};
use crate::store::Store;
use crate::store::shelf::Shelf;
use crate::telemetry::Metrics;
use std::sync::Arc;

/// Containers, unless the operator wants none. A backend that does not answer is no reason not to start.
pub(super) async fn containers(
    config: &Config,
    shelf: Arc<Shelf>,
    store: Arc<Store>,
    registry: Registry,
    metrics: &Arc<Metrics>,
    health: &Health,
) -> Result<Option<Arc<Containers>>> {
    let section = &config.containers;
    if !section.enabled {
        health.set("containers", ComponentState::Disabled, "turned off (containers.enabled)");
        return Ok(None);
    }
    let refused = |problem: String| Error::Internal(format!("containers cannot be set up: {problem}"));
    let tls =
        section.tls.ca.clone().map(|ca| Tls { ca, own: section.tls.certificate.clone().zip(section.tls.key.clone()) });
    let address = Address::parse(&section.host).map_err(refused)?;
    let docker = Docker::connect(DockerConfig { address, tls, ..DockerConfig::default() });
    let docker = docker.map_err(|error| refused(error.to_string()))?;
    let policy = section.policy().map_err(|(key, problem)| refused(format!("{key}: {problem}")))?;
    let output = (config.limits.default.output, config.limits.cap.output);
    let parts = ContainersParts {
        backend: Arc::new(docker),
        store,
        shelf,
        registry,
        config: section.bounds(policy, &config.store.directory, output),
        observer: Arc::new(observers::Containers::new(metrics.clone(), health.clone())),
        gate: Arc::new(gate::Closed),
    };
    let containers = Containers::open(parts).await?;
    let counted = Arc::downgrade(&containers);
    metrics.read_containers_from(move || counted.upgrade().map(|all| all.counts()).unwrap_or_default());
    Ok(Some(containers))
}

/// Pools of those containers.
pub(super) async fn pools(
    config: &Config,
    containers: &Arc<Containers>,
    store: &Arc<Store>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Pools>> {
    let parts = PoolsParts {
        containers: containers.clone(),
        store: store.clone(),
        notes: config.store.directory.join("loans"),
        observer: Arc::new(observers::Pools(metrics.clone())),
    };
    let pools = Pools::open(parts).await?;
    let counted = Arc::downgrade(&pools);
    metrics.read_pools_from(move || counted.upgrade().map(|all| all.counts()).unwrap_or_default());
    Ok(pools)
}
