//! What is done now and then: the backend is asked how it is, what was kept long enough is removed, and what belongs to
//! nobody is reaped.

use super::entry::Entry;
use super::manager::Containers;
use crate::domain::container::ContainerState;
use crate::domain::id::ContainerId;
use crate::domain::time::Timestamp;
use crate::store::containers as table;
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Time between two questions to a backend that answers, and to one that does not.
const ASK: [Duration; 2] = [Duration::from_secs(5), Duration::from_millis(500)];
/// Time between two looks at what is to be removed.
const LOOK: Duration = Duration::from_secs(10);

/// Asks the backend how it is, again and again.
pub(super) async fn watch_backend(containers: Weak<Containers>) {
    loop {
        let Some(this) = containers.upgrade() else { return };
        let wait = if this.look_at_backend().await { ASK[0] } else { ASK[1] };
        drop(this);
        tokio::time::sleep(wait).await;
    }
}

/// Removes what was kept long enough, and reaps.
pub(super) async fn keep(containers: Weak<Containers>) {
    let mut suspects: HashSet<ContainerId> = HashSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(this) = containers.upgrade() else { return };
        this.remove_old().await;
        if this.facts.borrow().is_ok() {
            suspects = this.reap(suspects).await;
            this.reap_images().await;
        }
    }
}

impl Containers {
    /// Asks the backend how it is, and tells if that is news. Answers whether it answers.
    pub(super) async fn look_at_backend(&self) -> bool {
        let facts = self.backend.facts().await.map_err(|error| error.to_string());
        let answers = facts.is_ok();
        if *self.facts.borrow() != facts {
            match &facts {
                Ok(facts) => tracing::info!(backend = facts.version, "containers are available"),
                Err(problem) => tracing::warn!(%problem, "containers are not available"),
            }
            self.observer.backend(&facts);
            let _ = self.facts.send_replace(facts);
        }
        answers
    }

    async fn remove_old(&self) {
        let now = Timestamp::now();
        let mut over: Vec<Arc<Entry>> = self.entries.iter().map(|entry| entry.value().clone()).collect();
        over.retain(|entry| entry.state().is_over());
        // Newest first: beyond the bound, the oldest go.
        over.sort_by_key(|entry| std::cmp::Reverse(entry.status().ended));
        for (at, entry) in over.iter().enumerate() {
            let ended = entry.status().ended.unwrap_or_default();
            let (id, retention) = (entry.origin.id, entry.origin.spec.retention);
            if now >= ended.after(retention) {
                self.remove_sandbox(entry).await;
            }
            let keep = self.config.keep_ended.max(retention);
            if (now >= ended.after(keep) || at >= self.config.max_ended) && entry.backend_id().is_empty() {
                if self.store.write(move |db| table::delete(db, id)).await.is_err() {
                    return;
                }
                self.entries.remove(&id);
                if let Some(request_id) = entry.origin.request_id {
                    self.roster.lock().requests.remove(&(entry.origin.principal.clone(), request_id));
                }
                if let Some(loan) = entry.belonging().and_then(|home| home.loan) {
                    self.roster.lock().returned(&loan);
                }
                self.changes.removed(id);
            }
        }
    }

    /// Removes sandboxes that say they are of this installation and that it knows nothing of, once they were seen
    /// twice. Answers those that were seen now.
    async fn reap(&self, before: HashSet<ContainerId>) -> HashSet<ContainerId> {
        let Ok(found) = self.backend.find(&self.installation).await else { return before };
        let mut seen = HashSet::new();
        for sandbox in found {
            let known = self.entries.get(&sandbox.container).map(|entry| entry.value().clone());
            // One that is known may still have a second sandbox, if its own has another id; that one is not removed by
            // guess: whoever knows it, ends it.
            let orphan = known.is_none_or(|entry| entry.state().is_over() && entry.backend_id() != sandbox.id);
            if !orphan {
                continue;
            }
            if before.contains(&sandbox.container) {
                tracing::warn!(container = %sandbox.container, sandbox = sandbox.id, "reaping an orphan");
                if let Err(error) = self.backend.remove(&sandbox.id).await {
                    tracing::warn!(container = %sandbox.container, %error, "an orphan could not be reaped yet");
                }
            }
            seen.insert(sandbox.container);
        }
        for id in self.guests.all() {
            let over = |state: ContainerState| state.is_over();
            if self.entries.get(&id).is_none_or(|entry| over(entry.state())) {
                self.guests.remove(id);
            }
        }
        seen
    }
}
