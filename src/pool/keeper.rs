//! What a pool does by itself: it makes containers, replaces them, ends leases whose time has passed.

use super::room::{Idle, Pool, State, TroubleKind};
use super::shape;
use crate::container::{Fitness, Order};
use crate::domain::container::Container;
use crate::domain::id::ContainerId;
use crate::domain::time::Timestamp;
use crate::error::Error;
use crate::store::pools as table;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long an idle container may not answer before it is replaced.
const SILENCE: Duration = Duration::from_secs(10);
/// Time between two looks at what nobody tells of: a backend that is away, containers that do not answer.
const LOOK: Duration = Duration::from_millis(250);
/// Time between two looks at a pool in which nothing happens.
const CALM: Duration = Duration::from_secs(30);

/// Keeps a pool until it is gone.
pub(super) async fn keep(pool: Weak<Pool>) {
    loop {
        let Some(this) = pool.upgrade() else { return };
        let next = this.pass();
        let wake = this.wake.clone();
        drop(this);
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(next) => {}
        }
    }
}

impl Pool {
    /// Looks at everything once. Answers when to look again, if nothing happens before.
    fn pass(self: &Arc<Self>) -> Duration {
        let reachable = self.containers.facts().is_ok();
        let (now, mut state) = (Timestamp::now(), self.state.lock());
        let state = &mut *state;
        self.expire(state, now);
        let silent = self.replace_silent(state, reachable);
        let lost = match state.record.deleting || state.closing {
            true => Vec::new(),
            false => self.serve(state),
        };
        if !lost.is_empty() {
            // Not to be dropped while the state is locked.
            tokio::spawn(async move { drop(lost) });
        }
        if !state.record.deleting && !state.closing {
            self.follow_plan(state, now, reachable);
        }
        if std::mem::take(&mut state.unsaved) {
            self.save_totals(state);
        }
        let ends = state.leased.values().map(|end| end.since(now));
        let ages = state.idle.iter().map(|idle| idle.since.after(state.record.settings.idle_age()).since(now));
        let ages = ages.filter(|left| !left.is_zero());
        let again = state.trouble.as_ref().map(|trouble| trouble.again.saturating_duration_since(Instant::now()));
        let look = (silent || !reachable).then_some(LOOK);
        let next = ends.chain(ages).chain(again.filter(|left| !left.is_zero())).chain(look).min();
        next.unwrap_or(CALM).clamp(Duration::from_millis(1), CALM)
    }

    fn expire(&self, state: &mut State, now: Timestamp) {
        let over = state.leased.iter().filter(|(_, end)| **end <= now).map(|(id, _)| *id);
        for id in over.collect::<Vec<_>>() {
            self.end(state, id, "the time of its lease had passed (lease_time)");
            state.totals.expired += 1;
            state.unsaved = true;
        }
    }

    /// Lets go of what has not answered for a while. Answers whether something does not.
    fn replace_silent(&self, state: &mut State, reachable: bool) -> bool {
        let (mut gone, mut unwell) = (Vec::new(), Vec::new());
        for idle in &mut state.idle {
            match self.containers.fitness(idle.id) {
                Fitness::Unwell => unwell.push(idle.id),
                Fitness::Silent if reachable => {
                    if idle.silent.get_or_insert_with(Instant::now).elapsed() >= SILENCE {
                        gone.push(idle.id);
                    }
                }
                _ => idle.silent = None,
            }
        }
        let why = |words: &'static str| move |id| (id, words);
        let silent = gone.into_iter().map(why("it did not answer any more"));
        for (id, words) in silent.chain(unwell.into_iter().map(why("its health check failed"))) {
            self.end(state, id, words);
            state.totals.unhealthy += 1;
            state.unsaved = true;
        }
        state.idle.iter().any(|idle| idle.silent.is_some())
    }

    fn follow_plan(self: &Arc<Self>, state: &mut State, now: Timestamp, reachable: bool) {
        let plan = self.situation(state, now).plan();
        for (stale, count) in [(true, plan.drop_stale), (false, plan.drop_fresh)] {
            let these = state.idle.iter().filter(|idle| state.is_stale(idle, now) == stale);
            for idle in these.copied().take(count as usize).collect::<Vec<_>>() {
                let old = idle.generation == state.record.generation && stale;
                state.totals.aged += u64::from(old);
                state.unsaved |= old;
                self.end(state, idle.id, if stale { "its pool replaced it" } else { "its pool became smaller" });
            }
        }
        let due = state.trouble.as_ref().is_none_or(|trouble| trouble.again <= Instant::now());
        if !reachable || !due {
            return;
        }
        for _ in 0..plan.start {
            state.starting += 1;
            tokio::spawn(self.clone().make(state.record.generation));
        }
    }

    /// Makes a container.
    async fn make(self: Arc<Self>, generation: u64) {
        let (wish, labels) = {
            let state = self.state.lock();
            (state.wish.clone(), state.record.settings.labels.clone())
        };
        // Templates and what the operator allows may be others than when the pool was made.
        let made = match shape::examine(&self.containers, wish.clone(), &self.origin.principal).await {
            Ok(()) => {
                let order = Order {
                    wish: shape::wish_of_one(&self.containers, &wish, &labels),
                    name: String::new(),
                    principal: self.origin.principal.clone(),
                    administers: false,
                    request: None,
                    belonging: Some(self.belonging(generation)),
                };
                self.containers.spawn(order).await.map_err(shape::in_a_pool)
            }
            Err(error) => Err(error),
        };
        match made {
            Ok(container) => {
                {
                    let mut state = self.state.lock();
                    state.totals.created += 1;
                    state.unsaved = true;
                }
                // Nobody gets one that is not well.
                if let Fitness::Unwell = self.containers.answers(container.origin.id).await {
                    let found = self.containers.health(container.origin.id);
                    return self.unwell(&container, &found.map(|health| health.message).unwrap_or_default());
                }
                self.state.lock().trouble = None;
                self.arrived(&container);
            }
            Err(error) => self.failed(&error),
        }
    }

    /// One that was being made is not well.
    pub(super) fn unwell(self: &Arc<Self>, container: &Container, why: &str) {
        let id = container.origin.id;
        {
            let mut state = self.state.lock();
            state.totals.unhealthy += 1;
            state.unsaved = true;
            self.end(&mut state, id, "its health check failed");
        }
        tokio::spawn(mind(self.clone(), id));
        self.failed(&Error::ContainerFailed { id, problem: format!("its health check failed: {why}") });
    }

    /// One that was being made is ready.
    pub(super) fn arrived(self: &Arc<Self>, container: &Container) {
        let id = container.origin.id;
        let lost = {
            let mut state = self.state.lock();
            state.starting = state.starting.saturating_sub(1);
            let generation = container.belonging.as_ref().map_or(0, |home| home.generation);
            let since = container.status.started.unwrap_or(container.origin.created);
            state.idle.push_back(Idle { id, generation, since, silent: None });
            if state.record.deleting {
                self.end(&mut state, id, "its pool is being deleted");
                Vec::new()
            } else {
                self.serve(&mut state)
            }
        };
        drop(lost);
        tokio::spawn(mind(self.clone(), id));
        if container.origin.health_check.is_some() {
            let (pool, unwell) = (self.clone(), self.containers.unwell(id));
            tokio::spawn(async move {
                unwell.await;
                pool.wake.notify_one();
            });
        }
        self.wake.notify_one();
    }

    /// One that was being made is not to be.
    fn failed(self: &Arc<Self>, error: &Error) {
        let mut state = self.state.lock();
        state.starting = state.starting.saturating_sub(1);
        if !matches!(error, Error::ShuttingDown) {
            tracing::warn!(pool = self.origin.name, %error, "a pool could not make a container");
            state.fail(error);
        }
        // Those in line would wait for nothing.
        if state.starting == 0
            && self.first_fit(&state).is_none()
            && self.barren(&state).is_some()
            && !state.record.deleting
        {
            // The same for all: it only depends on what the pool is like.
            let state = &mut *state;
            while let Some(why) = self.barren(state).filter(|_| !state.line.is_empty()) {
                if let Some(waiter) = state.line.serve() {
                    state.totals.abandoned += 1;
                    waiter.refuse(why);
                }
            }
        }
        drop(state);
        self.fewer.notify_waiters();
        self.wake.notify_one();
    }

    /// The end of a container of it began.
    pub(super) fn leaving(self: &Arc<Self>, id: ContainerId) {
        let mut state = self.state.lock();
        if state.stopping.contains(&id) {
            return;
        }
        let idle = state.idle.len();
        state.idle.retain(|idle| idle.id != id);
        if state.idle.len() < idle {
            state.totals.unhealthy += 1;
        } else if state.leased.remove(&id).is_some() {
            state.totals.broken += 1;
        }
        state.stopping.insert(id);
        state.unsaved = true;
        drop(state);
        self.wake.notify_one();
    }

    /// A container of it is over.
    pub(super) fn gone(self: &Arc<Self>, id: ContainerId) {
        let mut state = self.state.lock();
        state.stopping.remove(&id);
        // There is a place now.
        if let Some(trouble) = state.trouble.as_mut().filter(|trouble| trouble.kind == TroubleKind::Full) {
            trouble.again = Instant::now();
        }
        drop(state);
        self.fewer.notify_waiters();
        self.wake.notify_one();
    }

    fn save_totals(&self, state: &State) {
        let (name, totals) = (self.origin.name.clone(), state.totals);
        let saved = self.store.write(move |db| table::put_totals(db, &name, &totals));
        let name = self.origin.name.clone();
        tokio::spawn(async move {
            if let Err(error) = saved.await {
                tracing::error!(pool = name, %error, "the figures of a pool could not be recorded");
            }
        });
    }

    /// Waits until nothing is left of it.
    pub(super) async fn emptied(&self) {
        let mut told = std::pin::pin!(self.fewer.notified());
        loop {
            told.as_mut().enable();
            if self.state.lock().is_empty() {
                return;
            }
            told.as_mut().await;
            told.set(self.fewer.notified());
        }
    }
}

/// Watches over a container of a pool until it is over, whoever ends it.
pub(super) async fn mind(pool: Arc<Pool>, id: ContainerId) {
    let (leaves, left) = (pool.containers.leaves(id), pool.containers.left(id));
    let weak = Arc::downgrade(&pool);
    drop(pool);
    leaves.await;
    if let Some(pool) = weak.upgrade() {
        pool.leaving(id);
    }
    left.await;
    if let Some(pool) = weak.upgrade() {
        pool.gone(id);
    }
}
