//! Copies of a session: forks, which live at once, and snapshots, from which others start later.

use super::entry::Entry;
use super::kernel::{Frozen, Kernel};
use super::line::Pass;
use super::manager::{Added, Sessions, panicked};
use super::snapshot_draft::Draft;
use crate::domain::id::{RequestId, SessionId};
use crate::domain::session::{Durability, Session, SessionLimits, SessionLimitsRequest, SessionOrigin};
use crate::domain::snapshot::{SnapshotSource, SnapshotStanding};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Copies to make.
pub struct Fork {
    /// The session to copy.
    pub session: SessionId,
    /// How many copies.
    pub count: u32,
    /// Limits of each; unset ones are those of the origin.
    pub limits: SessionLimitsRequest,
    /// When their state is made durable; `None` as the origin's.
    pub durability: Option<Durability>,
    /// Their labels; none means those of the origin.
    pub labels: BTreeMap<String, String>,
    /// Who asks.
    pub principal: Arc<str>,
    /// The request id, and a fingerprint of what is asked.
    pub request: Option<(RequestId, [u8; 32])>,
}

/// A snapshot to make of a session.
pub struct SessionSnapshot {
    /// The session.
    pub session: SessionId,
    /// Name of the snapshot.
    pub name: String,
    /// What it holds, for people.
    pub description: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who asks.
    pub principal: Arc<str>,
    /// The request id, and a fingerprint of what is asked.
    pub request: Option<(RequestId, [u8; 32])>,
}

impl Sessions {
    /// Makes copies of a session, all or none, and answers with the turn they go on from.
    pub async fn fork(self: &Arc<Self>, fork: Fork) -> Result<(Vec<Session>, u64)> {
        let max = self.config.max_forks;
        if !(1..=max).contains(&fork.count) {
            let text = format!("is {}; this server makes 1 to {max} copies at once (sessions.max_forks)", fork.count);
            return Err(Error::invalid("count", text));
        }
        let Some((request_id, fingerprint)) = fork.request else { return self.copy(fork).await };
        let principal = fork.principal.clone();
        let (owner, count) = (&principal, fork.count as usize);
        let known = || {
            let sessions = self.of_request(owner, request_id);
            let turn = sessions.first().map_or(0, |session| session.origin.first_turn);
            (sessions, turn)
        };
        let make = |again: bool| async move {
            let known = known();
            if again && known.0.len() == count { Ok(known) } else { self.copy(fork).await }
        };
        let made = self.once.run(&self.store, owner.clone(), request_id, "ForkSession", fingerprint, make).await?;
        match made {
            Some(made) => Ok(made),
            None => Ok((self.of_request(owner, request_id), 0)).and_then(|(sessions, _): (Vec<Session>, u64)| {
                let turn = sessions.first().map(|session| session.origin.first_turn);
                let first = || "copies that were closed and are forgotten".to_owned();
                turn.map(|turn| (sessions, turn)).ok_or_else(|| Error::RequestIdReused { request_id, first: first() })
            }),
        }
    }

    async fn copy(self: &Arc<Self>, fork: Fork) -> Result<(Vec<Session>, u64)> {
        self.accepts()?;
        let entry = self.owned(fork.session, &fork.principal)?;
        entry.open()?;
        entry.is_copied()?;
        let rooms = self.take_rooms(&fork.principal, u64::from(fork.count))?;
        self.make_room().await?;
        let mut held = self.hold(&entry).await?;
        let turn = entry.standing.lock().turn;
        let mut added = Added { sessions: self, entries: Vec::with_capacity(rooms.len()) };
        for room in rooms {
            let kernel = held.kernel().fork().await?;
            let own = &entry.origin;
            let origin = SessionOrigin {
                id: SessionId::new(),
                request_id: fork.request.map(|(id, _)| id),
                labels: if fork.labels.is_empty() { own.labels.clone() } else { fork.labels.clone() },
                limits: inherit(&own.limits, &fork.limits, &self.config.caps),
                durability: fork.durability.unwrap_or(own.durability),
                created: Timestamp::now(),
                forked_from: Some(own.id),
                first_turn: turn,
                ..(**own).clone()
            };
            let copy = Arc::new(Entry::new(origin, entry.image.clone(), Some(room)));
            self.count_memory(copy.put_kernel(kernel));
            {
                let mut standing = copy.standing.lock();
                standing.turn = turn;
                // Its state is nowhere else.
                standing.unsaved = Some(Instant::now());
            }
            added.entries.push(copy);
        }
        drop(held);
        let copies = added.entries.clone();
        for copy in &copies {
            self.entries.insert(copy.id(), copy.clone());
        }
        added.settle().await?;
        copies.iter().for_each(|copy| self.schedule(copy));
        Ok((copies.iter().map(|copy| copy.view()).collect(), turn))
    }

    /// Freezes a session under a name.
    pub async fn snapshot(self: &Arc<Self>, wanted: SessionSnapshot) -> Result<SnapshotStanding> {
        let name = wanted.name.clone();
        let Some((request_id, fingerprint)) = wanted.request else { return self.freeze(wanted).await };
        let principal = wanted.principal.clone();
        let known = || self.snapshots.of_request(&wanted.principal, request_id);
        let first = known();
        let make = |again: bool| async move {
            match first {
                Some(known) if again => Ok(known),
                _ => self.freeze(wanted).await,
            }
        };
        let once = self.once.run(&self.store, principal.clone(), request_id, "SnapshotSession", fingerprint, make);
        match once.await? {
            Some(made) => Ok(made),
            None => self.snapshots.of_request(&principal, request_id).ok_or(Error::SnapshotNotFound { name }),
        }
    }

    async fn freeze(self: &Arc<Self>, wanted: SessionSnapshot) -> Result<SnapshotStanding> {
        self.accepts()?;
        let entry = self.owned(wanted.session, &wanted.principal)?;
        entry.is_copied()?;
        entry.open()?;
        let kernels = self.kernels(&entry.origin.tool)?.clone();
        // The name first: a state is not copied for a name that is taken.
        let name = self.snapshots.reserve(&wanted.name)?;
        let held = self.hold(&entry).await?;
        let turn = entry.standing.lock().turn;
        let (held, image) = tokio::task::spawn_blocking(move || held.image()).await.map_err(panicked)?;
        drop(held);
        let image = image?;
        let draft = Draft {
            description: wanted.description,
            labels: wanted.labels,
            principal: wanted.principal,
            request_id: wanted.request.map(|(id, _)| id),
            source: SnapshotSource::Session(entry.id()),
            tool: entry.origin.tool.clone(),
            turn,
            runtime: kernels.fingerprint(),
        };
        self.snapshots.add(name, draft, move |directory| kernels.develop(image, directory)).await
    }

    /// The kernel of a session, once its calls so far are over.
    async fn hold(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Held> {
        let pass = entry.line.enter_uncounted().pass().await.ok_or(Error::ShuttingDown)?;
        entry.open()?;
        let kernel = match entry.take_kernel() {
            Some(kernel) => kernel,
            None => self.wake(entry).await?,
        };
        Ok(Held { sessions: self.clone(), entry: entry.clone(), kernel: Some(kernel), _pass: pass })
    }
}

/// A kernel out of its session; goes back when dropped, and then the pass is free.
struct Held {
    sessions: Arc<Sessions>,
    entry: Arc<Entry>,
    kernel: Option<Box<dyn Kernel>>,
    _pass: Pass,
}

impl Held {
    fn kernel(&mut self) -> &mut dyn Kernel {
        self.kernel.as_deref_mut().expect("a held kernel is there until it is dropped")
    }

    fn image(mut self) -> (Held, Result<Frozen>) {
        let image = self.kernel().image();
        (self, image)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(kernel) = self.kernel.take() {
            self.sessions.count_memory(self.entry.put_kernel(kernel));
        }
    }
}

/// The origin's limits where nothing else is asked for, within the server's caps.
fn inherit(own: &SessionLimits, asked: &SessionLimitsRequest, caps: &SessionLimits) -> SessionLimits {
    own.resolve(asked, caps)
}
