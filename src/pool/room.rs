//! One pool in memory: what it has, who waits, and why it has no more.

use super::lease::{Offer, Waiter};
use super::line::Line;
use super::manager::PoolsObserver;
use super::marks::Marks;
use super::plan::{self, Situation};
use super::waits::Waits;
use crate::container::{Containers, Fitness, Wish};
use crate::domain::id::ContainerId;
use crate::domain::loan::Belonging;
use crate::domain::pool::{PoolCounts, PoolFigures, PoolOrigin, PoolState, PoolTotals};
use crate::domain::time::Timestamp;
use crate::error::{Error, PoolError};
use crate::store::Store;
use crate::store::pools::PoolRecord;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// When a caller that found the line full may try again.
const RETRY: Duration = Duration::from_secs(1);

/// A pool.
pub(super) struct Pool {
    pub(super) origin: PoolOrigin,
    pub(super) containers: Arc<Containers>,
    pub(super) store: Arc<Store>,
    pub(super) marks: Arc<Marks>,
    pub(super) observer: Arc<dyn PoolsObserver>,
    pub(super) state: Mutex<State>,
    /// Told when its keeper has something to look at.
    pub(super) wake: Arc<Notify>,
    /// Told whenever a container of it is over.
    pub(super) fewer: Notify,
    /// Changes come one after another.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// What changes about a pool.
pub(super) struct State {
    pub(super) record: PoolRecord,
    pub(super) wish: Wish,
    pub(super) closing: bool,
    /// Its deletion is on disk: only then is it told of.
    pub(super) deletion_kept: bool,
    pub(super) idle: VecDeque<Idle>,
    /// Those on loan, and when that ends.
    pub(super) leased: HashMap<ContainerId, Timestamp>,
    pub(super) starting: u32,
    pub(super) stopping: HashSet<ContainerId>,
    pub(super) line: Line<Waiter>,
    pub(super) trouble: Option<Trouble>,
    pub(super) totals: PoolTotals,
    pub(super) waits: Waits,
    /// Whether the totals changed since they were written.
    pub(super) unsaved: bool,
}

/// A container that waits for its borrower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) id: ContainerId,
    pub(super) generation: u64,
    /// When it was made.
    pub(super) since: Timestamp,
    /// Since when it does not answer.
    pub(super) silent: Option<Instant>,
}

/// Containers cannot be made.
pub(super) struct Trouble {
    pub(super) kind: TroubleKind,
    pub(super) problem: String,
    /// Failures in a row.
    pub(super) failures: u32,
    pub(super) again: Instant,
}

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TroubleKind {
    /// The server has as many containers as it may.
    Full,
    /// The backend is away.
    Away,
    /// Anything else.
    Broken,
}

impl Pool {
    pub(super) fn new(
        record: PoolRecord,
        wish: Wish,
        totals: PoolTotals,
        containers: &Arc<Containers>,
        store: &Arc<Store>,
        marks: &Arc<Marks>,
        observer: &Arc<dyn PoolsObserver>,
    ) -> Arc<Pool> {
        let state = State {
            wish,
            closing: false,
            deletion_kept: record.deleting,
            idle: VecDeque::new(),
            leased: HashMap::new(),
            starting: 0,
            stopping: HashSet::new(),
            line: Line::default(),
            trouble: None,
            totals,
            waits: Waits::default(),
            unsaved: false,
            record: record.clone(),
        };
        Arc::new(Pool {
            origin: record.origin,
            containers: containers.clone(),
            store: store.clone(),
            marks: marks.clone(),
            observer: observer.clone(),
            state: Mutex::new(state),
            wake: Arc::default(),
            fewer: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Where it stands, and why it is not ready.
    pub(super) fn standing(&self) -> (PoolState, String) {
        let state = self.state.lock();
        if state.deletion_kept {
            return (PoolState::Deleting, "it is being deleted".into());
        }
        if let Err(problem) = self.containers.facts() {
            return (PoolState::Unreachable, problem);
        }
        if let Some(trouble) = &state.trouble {
            return (PoolState::Degraded, trouble.problem.clone());
        }
        let leased = u32::try_from(state.leased.len()).unwrap_or(u32::MAX);
        let due = state.record.settings.target_size.min(self.most(&state).saturating_sub(leased));
        match state.counts().idle >= due {
            true => (PoolState::Ready, String::new()),
            false => (PoolState::Filling, String::new()),
        }
    }

    pub(super) fn figures(&self) -> PoolFigures {
        let state = self.state.lock();
        PoolFigures { counts: state.counts(), totals: state.totals, waits: state.waits.figures(Instant::now()) }
    }

    /// Containers it may have at most.
    pub(super) fn most(&self, state: &State) -> u32 {
        match state.record.settings.max_size {
            0 => self.containers.most(),
            most => most.min(self.containers.most()),
        }
    }

    /// What it has and wants.
    pub(super) fn situation(&self, state: &State, now: Timestamp) -> Situation {
        let counts = state.counts();
        let stale = state.idle.iter().filter(|idle| state.is_stale(idle, now)).count();
        let stale = u32::try_from(stale).unwrap_or(u32::MAX);
        Situation {
            fresh: counts.idle.saturating_sub(stale),
            stale,
            starting: counts.starting,
            leased: counts.leased,
            stopping: counts.stopping,
            waiting: counts.waiting,
            target: state.record.settings.target_size,
            most: self.most(state),
            troubled: state.trouble.is_some(),
        }
    }

    /// How a container of it is marked as such.
    pub(super) fn belonging(&self, generation: u64) -> Belonging {
        Belonging { pool: self.origin.name.clone(), pool_created: self.origin.created, generation, loan: None }
    }

    /// The first container that can be lent: of the present specification, if there is one.
    pub(super) fn first_fit(&self, state: &State) -> Option<ContainerId> {
        let now = Timestamp::now();
        let (stale, fresh): (Vec<&Idle>, Vec<&Idle>) = state.idle.iter().partition(|idle| state.is_stale(idle, now));
        let fit = |idle: &&Idle| self.containers.fitness(idle.id) == Fitness::Fit;
        fresh.into_iter().chain(stale).find(fit).map(|idle| idle.id)
    }

    /// Ends a container of it. Whoever minds it tells when it is over.
    pub(super) fn end(&self, state: &mut State, id: ContainerId, message: &str) {
        state.idle.retain(|idle| idle.id != id);
        state.leased.remove(&id);
        state.stopping.insert(id);
        self.containers.dismiss(id, message);
    }

    /// Why somebody who finds nothing gets no place in line.
    pub(super) fn closed(&self, state: &State) -> Option<Error> {
        let name = || self.origin.name.clone();
        if state.closing {
            return Some(Error::ShuttingDown);
        }
        if state.record.deleting {
            return Some(PoolError::NotReady { name: name(), problem: "is being deleted; use another".into() }.into());
        }
        None
    }

    /// Why somebody who finds nothing would wait in vain.
    pub(super) fn barren(&self, state: &State) -> Option<Error> {
        if let Err(problem) = self.containers.facts() {
            return Some(Error::BackendUnavailable { problem });
        }
        let trouble = state.trouble.as_ref().filter(|_| state.starting == 0)?;
        let (name, problem) = (self.origin.name.clone(), trouble.problem.clone());
        Some(match trouble.kind {
            TroubleKind::Away => Error::BackendUnavailable { problem },
            TroubleKind::Full => {
                let problem = format!("has no container left and may make none now: {problem}");
                PoolError::Exhausted { name, problem, retry_after: RETRY }.into()
            }
            TroubleKind::Broken => {
                let problem = format!("has no container left and can make none now: {problem}");
                PoolError::NotReady { name, problem }.into()
            }
        })
    }

    /// Why the line is too long for one more.
    pub(super) fn full(&self, state: &State) -> Option<Error> {
        /// Callers in line where the pool does not say.
        const MAX_WAITING: u32 = 1000;
        let most = state.record.settings.max_waiting.unwrap_or(MAX_WAITING);
        (state.line.len() >= most as usize).then(|| {
            let problem = format!("has no container left, and as many callers wait as may: {most} (max_waiting)");
            PoolError::Exhausted { name: self.origin.name.clone(), problem, retry_after: RETRY }.into()
        })
    }

    /// Serves those in line, as far as there are containers. Answers offers that nobody took.
    #[must_use = "to be dropped when the state is not locked any more"]
    pub(super) fn serve(self: &Arc<Self>, state: &mut State) -> Vec<Offer> {
        let mut lost = Vec::new();
        while let Some(first) = state.line.first() {
            if first.is_gone() {
                state.line.serve();
                state.totals.abandoned += 1;
                state.unsaved = true;
                continue;
            }
            let (order, waited) = (first.order.clone(), first.since.elapsed());
            let Some(offer) = self.lend_one(state, &order, waited) else { break };
            if let Some(first) = state.line.serve()
                && let Some(offer) = first.give(offer)
            {
                lost.push(offer);
            }
        }
        lost
    }

    /// Sends all away that wait.
    pub(super) fn turn_away(&self, state: &mut State, why: impl Fn() -> Error) {
        while let Some(waiter) = state.line.serve() {
            state.totals.abandoned += 1;
            state.unsaved = true;
            waiter.refuse(why());
        }
    }
}

impl State {
    /// Whether an idle container is to be replaced.
    pub(super) fn is_stale(&self, idle: &Idle, now: Timestamp) -> bool {
        idle.generation != self.record.generation || now >= idle.since.after(self.record.settings.idle_age())
    }

    pub(super) fn counts(&self) -> PoolCounts {
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        PoolCounts {
            idle: small(self.idle.len()),
            starting: self.starting,
            leased: small(self.leased.len()),
            stopping: small(self.stopping.len()),
            waiting: small(self.line.len()),
        }
    }

    /// Whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        let counts = self.counts();
        counts.idle + counts.starting + counts.leased + counts.stopping == 0
    }

    /// Another container could not be made.
    pub(super) fn fail(&mut self, error: &Error) {
        let kind = match error {
            Error::QuotaReached { .. } => TroubleKind::Full,
            Error::BackendUnavailable { .. } => TroubleKind::Away,
            _ => TroubleKind::Broken,
        };
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures) + 1;
        let again = Instant::now() + plan::pause(failures);
        self.trouble = Some(Trouble { kind, problem: error.to_string(), failures, again });
        self.totals.failed += 1;
        self.unsaved = true;
    }
}
