//! All pools of this server.

use super::adopt;
use super::keeper;
use super::lease::LeaseOrder;
use super::marks::Marks;
use super::room::Pool;
use super::shape;
use super::word::{PoolChange, PoolFilter, PoolOrder, PoolView};
use crate::container::{Containers, Viewer, Wish};
use crate::domain::container::Container;
use crate::domain::id::{LeaseId, RequestId};
use crate::domain::pool::{PoolCounts, PoolOrigin, PoolTotals};
use crate::domain::time::Timestamp;
use crate::error::{Error, PoolError, Result};
use crate::store::Store;
use crate::store::once::Once;
use crate::store::pools::{self as table, PoolRecord};
use dashmap::DashMap;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Pools of one server.
const MAX_POOLS: usize = 1000;

/// Hears of leases; the metrics do.
pub trait PoolsObserver: Send + Sync + 'static {
    /// Somebody got a container after so much time in line.
    fn leased(&self, waited: Duration);
}

/// What pools are made of.
pub struct PoolsParts {
    /// What makes their containers.
    pub containers: Arc<Containers>,
    /// Where they are recorded.
    pub store: Arc<Store>,
    /// Where leases are noted until they are on record.
    pub notes: PathBuf,
    /// Who hears of leases.
    pub observer: Arc<dyn PoolsObserver>,
}

/// Who asks, with what he marked the call.
pub type Asked = (RequestId, [u8; 32]);

/// All pools.
pub struct Pools {
    pub(super) containers: Arc<Containers>,
    pub(super) store: Arc<Store>,
    pub(super) marks: Arc<Marks>,
    pub(super) observer: Arc<dyn PoolsObserver>,
    pub(super) pools: RwLock<BTreeMap<String, Arc<Pool>>>,
    once: Once,
    /// Leases with a request id that are under way.
    gates: DashMap<(Arc<str>, RequestId), Arc<tokio::sync::Mutex<()>>>,
    this: Weak<Pools>,
}

impl Pools {
    /// Opens what there is; containers that are there already are found again.
    pub async fn open(parts: PoolsParts) -> Result<Arc<Pools>> {
        let PoolsParts { containers, store, notes, observer } = parts;
        let marks = Marks::open(&notes).map_err(|error| Error::StoreUnavailable {
            problem: format!("cannot write in {}: {error}", notes.display()),
        })?;
        let pools = Arc::new_cyclic(|this| Pools {
            containers,
            store,
            marks: Arc::new(marks),
            observer,
            pools: RwLock::default(),
            once: Once::default(),
            gates: DashMap::new(),
            this: this.clone(),
        });
        adopt::all(&pools).await?;
        Ok(pools)
    }

    /// Makes a pool, and begins to fill it.
    pub async fn create(&self, order: PoolOrder, viewer: &Viewer, asked: Option<Asked>) -> Result<PoolView> {
        shape::check_name(&order.name)?;
        shape::check(&order.settings)?;
        let name = order.name.clone();
        let request_id = asked.map(|(id, _)| id);
        let make = async |again: bool| {
            // What was made before a retry could be told of it.
            let there = self.pools.read().get(&order.name).cloned();
            if let Some(there) = there {
                let own = again && there.origin.request_id == request_id && there.origin.principal == viewer.name;
                return if own { Ok(()) } else { Err(PoolError::Exists { name: order.name.clone() }.into()) };
            }
            self.make(order.clone(), &viewer.name, request_id).await
        };
        self.once("CreatePool", viewer, asked, make).await?;
        self.get(&name, viewer)
    }

    async fn make(&self, order: PoolOrder, principal: &Arc<str>, request_id: Option<RequestId>) -> Result<()> {
        shape::examine(&self.containers, order.wish.clone(), principal).await?;
        let now = Timestamp::now();
        let record = PoolRecord {
            origin: PoolOrigin { name: order.name.clone(), principal: principal.clone(), request_id, created: now },
            settings: order.settings,
            specification: specification(&order.wish)?,
            generation: 1,
            updated: now,
            etag: fresh_etag(),
            changed_by: None,
            deleting: false,
        };
        let pool = self.pool(record.clone(), order.wish, PoolTotals::default());
        {
            let mut pools = self.pools.write();
            if pools.contains_key(&order.name) {
                return Err(PoolError::Exists { name: order.name }.into());
            }
            if pools.len() >= MAX_POOLS {
                let (limit, todo) = (MAX_POOLS.to_string(), "delete one (DeletePool)");
                return Err(Error::QuotaReached { what: "pools".into(), limit, todo });
            }
            pools.insert(order.name.clone(), pool.clone());
        }
        if let Err(error) = self.store.write(move |db| table::put(db, &record)).await {
            self.pools.write().remove(&order.name);
            return Err(error);
        }
        tokio::spawn(keeper::keep(Arc::downgrade(&pool)));
        Ok(())
    }

    pub(super) fn pool(&self, record: PoolRecord, wish: Wish, totals: PoolTotals) -> Arc<Pool> {
        Pool::new(record, wish, totals, &self.containers, &self.store, &self.marks, &self.observer)
    }

    /// One pool.
    pub fn get(&self, name: &str, viewer: &Viewer) -> Result<PoolView> {
        self.find(name, viewer).map(|pool| view(&pool))
    }

    /// Pools that a filter selects, by name, from the one after `after`.
    pub fn list(&self, filter: &PoolFilter, viewer: &Viewer, after: Option<&str>, limit: usize) -> Vec<PoolView> {
        let pools: Vec<Arc<Pool>> = self.pools.read().values().cloned().collect();
        let later = pools.iter().filter(|pool| after.is_none_or(|after| pool.origin.name.as_str() > after));
        let visible = later.filter(|pool| may_use(pool, viewer));
        visible.map(view).filter(|found| filter.selects(found)).take(limit).collect()
    }

    /// Changes a pool.
    pub async fn update(
        &self,
        name: &str,
        change: PoolChange,
        etag: &str,
        viewer: &Viewer,
        asked: Option<Asked>,
    ) -> Result<PoolView> {
        let pool = self.find(name, viewer)?;
        let request_id = asked.map(|(id, _)| id);
        self.once("UpdatePool", viewer, asked, async |again: bool| {
            let _turn = pool.turn.lock().await;
            let (mut record, mut wish) = {
                let state = pool.state.lock();
                (state.record.clone(), state.wish.clone())
            };
            if again && request_id.is_some() && record.changed_by == request_id {
                return Ok(());
            }
            check_etag(&record, etag)?;
            if let Some(why) = pool.closed(&pool.state.lock()) {
                return Err(why);
            }
            let before = (wish.clone(), record.settings.labels.clone());
            change.clone().apply(&mut record.settings, &mut wish);
            shape::check(&record.settings)?;
            if change.wish.is_some() {
                shape::examine(&self.containers, wish.clone(), &pool.origin.principal).await?;
            }
            if before != (wish.clone(), record.settings.labels.clone()) {
                record.generation += 1;
            }
            record.specification = specification(&wish)?;
            (record.updated, record.etag, record.changed_by) = (Timestamp::now(), fresh_etag(), request_id);
            let saved = record.clone();
            self.store.write(move |db| table::put(db, &saved)).await?;
            let mut state = pool.state.lock();
            (state.record, state.wish) = (PoolRecord { deleting: state.record.deleting, ..record }, wish);
            // With another specification it may do better.
            state.trouble = None;
            drop(state);
            pool.wake.notify_one();
            Ok(())
        })
        .await?;
        self.get(name, viewer)
    }

    /// Deletes a pool with its containers; answers when they are gone.
    pub async fn delete(
        &self,
        name: &str,
        force: bool,
        etag: &str,
        viewer: &Viewer,
        asked: Option<Asked>,
    ) -> Result<()> {
        let found = self.find(name, viewer);
        self.once("DeletePool", viewer, asked, async |again: bool| {
            let pool = match found {
                Err(Error::Pool(PoolError::NotFound { .. })) if again => return Ok(()),
                found => found?,
            };
            let turn = pool.turn.lock().await;
            let record = {
                let mut state = pool.state.lock();
                check_etag(&state.record, etag)?;
                if !force && !state.leased.is_empty() && !state.record.deleting {
                    let problem = format!(
                        "has {} containers on loan; release them (ReleaseContainer), or end them with it (force)",
                        state.leased.len()
                    );
                    return Err(PoolError::NotReady { name: name.to_owned(), problem }.into());
                }
                state.record.deleting = true;
                state.record.clone()
            };
            if let Err(error) = self.store.write(move |db| table::put(db, &record)).await {
                pool.state.lock().record.deleting = false;
                pool.wake.notify_one();
                return Err(error);
            }
            pool.state.lock().deletion_kept = true;
            drop(turn);
            self.finish(pool).await
        })
        .await
    }

    /// Destroys what a pool has, then forgets it. Goes on without whoever asked for it.
    pub(super) async fn finish(&self, pool: Arc<Pool>) -> Result<()> {
        let this = self.this.upgrade().ok_or(Error::ShuttingDown)?;
        let done = tokio::spawn(async move {
            let name = pool.origin.name.clone();
            {
                let mut state = pool.state.lock();
                pool.turn_away(&mut state, || PoolError::NotFound { name: name.clone() }.into());
                let own: Vec<_> = state.idle.iter().map(|idle| idle.id).chain(state.leased.keys().copied()).collect();
                for id in own {
                    pool.end(&mut state, id, "its pool is being deleted");
                }
            }
            pool.emptied().await;
            let forgotten = name.clone();
            this.store.write(move |db| table::delete(db, &forgotten)).await?;
            let mut pools = this.pools.write();
            if pools.get(&name).is_some_and(|there| Arc::ptr_eq(there, &pool)) {
                pools.remove(&name);
            }
            Ok(())
        });
        done.await.map_err(|error| Error::Internal(format!("deleting a pool failed: {error}")))?
    }

    /// Lends a container.
    pub async fn lease(&self, name: &str, order: LeaseOrder, viewer: &Viewer) -> Result<Container> {
        let Some((request_id, fingerprint)) = order.request else {
            return self.find(name, viewer)?.lease(order).await;
        };
        let key = (order.principal.clone(), request_id);
        let gate = self.gates.entry(key.clone()).or_default().clone();
        let result = {
            let _turn = gate.lock().await;
            match self.containers.requested(&order.principal, request_id) {
                Some(known) => self.known(known, request_id, fingerprint).await,
                None => match self.find(name, viewer) {
                    Ok(pool) => pool.lease(order).await,
                    Err(error) => Err(error),
                },
            }
        };
        drop(gate);
        // Who waits for the gate holds it too, and then it stays.
        self.gates.remove_if(&key, |_, gate| Arc::strong_count(gate) == 1);
        result
    }

    /// What an earlier call with this request id led to.
    async fn known(&self, container: Container, request_id: RequestId, fingerprint: [u8; 32]) -> Result<Container> {
        let id = container.origin.id;
        let Some(loan) = container.loan().filter(|loan| loan.fingerprint == Some(fingerprint)) else {
            return Err(Error::RequestIdReused { request_id, first: format!("a different call, container {id}") });
        };
        if container.status.state.is_over() || container.status.ending.is_some() {
            return Err(PoolError::LeaseOver { id: loan.lease.to_string() }.into());
        }
        // The first caller may have left before it was on disk.
        self.containers.keep_record(id).await?;
        Ok(container)
    }

    /// Ends a lease and destroys its container; nothing for one that has ended.
    pub async fn release(&self, lease: LeaseId, viewer: &Viewer, asked: Option<Asked>) -> Result<()> {
        self.once("ReleaseContainer", viewer, asked, async |_: bool| {
            let found = self.containers.lent_as(lease);
            let own = |container: &Container| {
                viewer.administers || container.loan().is_some_and(|loan| loan.principal == viewer.name)
            };
            let Some(container) = found.filter(own) else {
                return Err(PoolError::LeaseNotFound { id: lease.to_string() }.into());
            };
            let id = container.origin.id;
            if container.status.state.is_over() || container.status.ending.is_some() {
                return Ok(());
            }
            let pool = container.belonging.as_ref().and_then(|home| self.pools.read().get(&home.pool).cloned());
            let ended = pool.is_some_and(|pool| pool.end_lease(id, "its lease was released"));
            if !ended {
                self.containers.dismiss(id, "its lease was released");
            }
            // So that no server after this one takes it for one on loan.
            self.containers.keep_record(id).await
        })
        .await
    }

    /// A pool whose containers start from a snapshot, by its name or id.
    pub fn of_snapshot(&self, name: &str, id: &str) -> Option<String> {
        let pools: Vec<Arc<Pool>> = self.pools.read().values().cloned().collect();
        let starts = |pool: &&Arc<Pool>| {
            let named = &pool.state.lock().wish.snapshot;
            !named.is_empty() && (named == name || named == id)
        };
        pools.iter().find(starts).map(|pool| pool.origin.name.clone())
    }

    /// What all pools have, for the metrics.
    pub fn counts(&self) -> PoolCounts {
        let pools: Vec<Arc<Pool>> = self.pools.read().values().cloned().collect();
        pools.iter().map(|pool| pool.state.lock().counts()).fold(PoolCounts::default(), |sum, one| PoolCounts {
            idle: sum.idle + one.idle,
            starting: sum.starting + one.starting,
            leased: sum.leased + one.leased,
            stopping: sum.stopping + one.stopping,
            waiting: sum.waiting + one.waiting,
        })
    }

    /// Sends all away that wait, and makes no more containers. Those that are there are left as containers are.
    pub fn shut_down(&self) {
        for pool in self.pools.read().values() {
            let mut state = pool.state.lock();
            state.closing = true;
            pool.turn_away(&mut state, || Error::ShuttingDown);
        }
    }

    fn find(&self, name: &str, viewer: &Viewer) -> Result<Arc<Pool>> {
        if name.is_empty() {
            return Err(Error::invalid("name", "is required: the name of a pool"));
        }
        let pool = self.pools.read().get(name).cloned();
        let shown = || name.chars().take(80).collect();
        pool.filter(|pool| may_use(pool, viewer)).ok_or_else(|| PoolError::NotFound { name: shown() }.into())
    }

    /// Does something once for a request id; without one, does it.
    async fn once(
        &self,
        method: &'static str,
        viewer: &Viewer,
        asked: Option<Asked>,
        act: impl AsyncFnOnce(bool) -> Result<()>,
    ) -> Result<()> {
        match asked {
            None => act(false).await,
            Some((id, fingerprint)) => {
                let act = |again| act(again);
                self.once.run(&self.store, viewer.name.clone(), id, method, fingerprint, act).await.map(drop)
            }
        }
    }
}

fn may_use(pool: &Pool, viewer: &Viewer) -> bool {
    viewer.administers || pool.origin.principal == viewer.name
}

fn view(pool: &Arc<Pool>) -> PoolView {
    let ((state, problem), figures) = (pool.standing(), pool.figures());
    let inner = pool.state.lock();
    PoolView { record: inner.record.clone(), wish: inner.wish.clone(), state, problem, figures }
}

fn check_etag(record: &PoolRecord, etag: &str) -> Result<()> {
    if etag.is_empty() || etag == record.etag {
        return Ok(());
    }
    let (name, etag) = (record.origin.name.clone(), record.etag.clone());
    Err(PoolError::EtagMismatch { name, etag }.into())
}

fn fresh_etag() -> String {
    LeaseId::new().to_string()
}

fn specification(wish: &Wish) -> Result<Vec<u8>> {
    postcard::to_allocvec(wish).map_err(|error| Error::Internal(format!("a specification cannot be kept: {error}")))
}
