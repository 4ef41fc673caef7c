//! What records of containers held before containers could start from snapshots: read, never written.

use crate::domain::container::{ContainerOrigin, ContainerSpec};
use crate::domain::id::{ContainerId, ExecutionId, RequestId};
use crate::domain::time::Timestamp;
use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was known of a container from the start.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct OriginBefore {
    id: ContainerId,
    name: String,
    spec: ContainerSpec,
    image_id: String,
    main: Vec<String>,
    main_execution: ExecutionId,
    stop_signal: i32,
    environment: BTreeMap<String, String>,
    principal: Arc<str>,
    request_id: Option<RequestId>,
    fingerprint: Option<[u8; 32]>,
    created: Timestamp,
}

impl From<OriginBefore> for ContainerOrigin {
    fn from(old: OriginBefore) -> Self {
        ContainerOrigin {
            id: old.id,
            name: old.name,
            spec: old.spec,
            image_id: old.image_id,
            snapshot: None,
            health_check: None,
            main: old.main,
            main_execution: old.main_execution,
            stop_signal: old.stop_signal,
            environment: old.environment,
            principal: old.principal,
            request_id: old.request_id,
            fingerprint: old.fingerprint,
            created: old.created,
        }
    }
}

#[cfg(test)]
impl From<ContainerOrigin> for OriginBefore {
    fn from(new: ContainerOrigin) -> Self {
        OriginBefore {
            id: new.id,
            name: new.name,
            spec: new.spec,
            image_id: new.image_id,
            main: new.main,
            main_execution: new.main_execution,
            stop_signal: new.stop_signal,
            environment: new.environment,
            principal: new.principal,
            request_id: new.request_id,
            fingerprint: new.fingerprint,
            created: new.created,
        }
    }
}
