//! Snapshots that are built: from packages and a preload rather than from a session.

use super::kernel::Build;
use super::manager::Sessions;
use super::snapshot_draft::Draft;
use crate::domain::id::RequestId;
use crate::domain::snapshot::{SnapshotSource, SnapshotStanding};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A snapshot to build.
pub struct SnapshotBuild {
    /// Its name.
    pub name: String,
    /// The tool whose interpreter it holds.
    pub tool: String,
    /// What it holds, for people.
    pub description: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What to build it from.
    pub build: Build,
    /// Who asks.
    pub principal: Arc<str>,
    /// The request id, and a fingerprint of what is asked.
    pub request: Option<(RequestId, [u8; 32])>,
}

impl Sessions {
    /// Builds a snapshot. Answers with it and with what the preload wrote; a call whose request id was used before
    /// for the same gets the snapshot that was made then.
    pub async fn build(self: &Arc<Self>, wanted: SnapshotBuild) -> Result<(SnapshotStanding, String)> {
        let Some((request_id, fingerprint)) = wanted.request else { return self.build_new(wanted).await };
        let (principal, name) = (wanted.principal.clone(), wanted.name.clone());
        let first = self.snapshots.of_request(&principal, request_id);
        let make = |again: bool| async move {
            match first {
                Some(known) if again => Ok((known, String::new())),
                _ => self.build_new(wanted).await,
            }
        };
        let once = self.once.run(&self.store, principal.clone(), request_id, "BuildSnapshot", fingerprint, make);
        match once.await? {
            Some(made) => Ok(made),
            None => {
                let known = self.snapshots.of_request(&principal, request_id);
                known.map(|known| (known, String::new())).ok_or(Error::SnapshotNotFound { name })
            }
        }
    }

    async fn build_new(self: &Arc<Self>, wanted: SnapshotBuild) -> Result<(SnapshotStanding, String)> {
        self.accepts()?;
        let kernels = self.kernels(&wanted.tool)?.clone();
        // The name first: nothing is built for a name that is taken.
        let name = self.snapshots.reserve(&wanted.name)?;
        let built = kernels.build(wanted.build).await?;
        let draft = Draft {
            description: wanted.description,
            labels: wanted.labels,
            principal: wanted.principal,
            request_id: wanted.request.map(|(id, _)| id),
            source: SnapshotSource::Build { base: None, packages: built.packages, preloaded_modules: built.modules },
            tool: wanted.tool.into(),
            turn: 0,
            runtime: kernels.fingerprint(),
        };
        let standing = self.snapshots.add(name, draft, built.write).await?;
        Ok((standing, built.output))
    }
}
