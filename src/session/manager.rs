//! All sessions of a server: how they are made, found, brought back to memory and closed.

use super::checkpoint::{Files, Heading};
use super::config::SessionsConfig;
use super::entry::{Entry, Standing};
use super::kernel::{Kernel, Kernels, Thaw};
use super::room::{Bytes, Rooms};
use super::snapshots::Snapshots;
use crate::domain::id::{ContainerId, RequestId, SessionId};
use crate::domain::session::{
    ClosureReason, Durability, Home, HomeWish, Session, SessionLimitsRequest, SessionOrigin, SessionState,
};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::execution::Registry;
use crate::store::{Store, sessions};
use dashmap::DashMap;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio::sync::Notify;

/// Hears how the state of sessions is kept; health does.
pub trait SessionObserver: Send + Sync + 'static {
    /// Checkpoints of so many sessions fail at present, the last one for this reason; `None` when all is well.
    fn durability(&self, problem: Option<(usize, &str)>);
}

/// Hears nothing.
pub struct NoObserver;

impl SessionObserver for NoObserver {
    fn durability(&self, _: Option<(usize, &str)>) {}
}

/// Who asks for a session.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Name of the principal.
    pub name: Arc<str>,
    /// Whether it may see and close the sessions of others.
    pub administers: bool,
}

/// What a new session is to be.
pub struct NewSession {
    /// Name of the tool whose kernel it holds.
    pub tool: Arc<str>,
    /// Id or name of the snapshot to start from; `None` for the built-in image.
    pub snapshot: Option<String>,
    /// The container, by id or name, or the pool in which its kernel is to live.
    pub home: Option<HomeWish>,
    /// Limits asked for.
    pub limits: SessionLimitsRequest,
    /// When its state is made durable; `None` takes the server's default.
    pub durability: Option<Durability>,
    /// What the tool takes at the start, as the text of a JSON object.
    pub parameters: String,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Who asks.
    pub principal: Arc<str>,
    /// The request id, and a fingerprint of what is asked.
    pub request: Option<(RequestId, [u8; 32])>,
}

/// What a listing selects; empty fields select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionSelection {
    /// Any of these states; none means every state but closed.
    pub states: Vec<SessionState>,
    /// Sessions of this tool.
    pub tool: Option<String>,
    /// Sessions in this container.
    pub container: Option<ContainerId>,
    /// Sessions that were forked from this one.
    pub forked_from: Option<SessionId>,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
    /// Sessions of this principal.
    pub principal: Option<String>,
}

/// The sessions.
pub struct Sessions {
    pub(super) config: SessionsConfig,
    pub(super) entries: DashMap<SessionId, Arc<Entry>>,
    pub(super) store: Arc<Store>,
    pub(super) files: Files,
    pub(super) kernels: Arc<HashMap<String, Arc<dyn Kernels>>>,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) rooms: Rooms,
    pub(super) disk: Bytes,
    /// Sessions whose checkpoints fail.
    pub(super) failing: Mutex<HashMap<SessionId, String>>,
    pub(super) observer: Arc<dyn SessionObserver>,
    pub(super) once: crate::store::once::Once,
    /// Told when memory is short.
    pub(super) pressed: Notify,
    pub(super) closing: AtomicBool,
    pub(super) registry: Registry,
    pub(super) memory: AtomicI64,
}

impl Sessions {
    /// Where calls become executions.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The snapshots.
    pub fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }

    /// Whether a tool keeps state.
    pub fn keeps_state(&self, tool: &str) -> bool {
        self.kernels.contains_key(tool)
    }

    /// Open sessions, and bytes of memory, of checkpoints.
    pub fn load(&self) -> (u64, u64, u64) {
        (self.rooms.total(), self.memory_used(), self.disk.used())
    }

    pub(super) fn kernels(&self, tool: &str) -> Result<&Arc<dyn Kernels>> {
        self.kernels.get(tool).ok_or_else(|| Error::ToolBroken {
            name: tool.into(),
            problem: "no interpreter of it is installed that keeps state between calls".into(),
        })
    }

    pub(super) fn memory_used(&self) -> u64 {
        u64::try_from(self.memory.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn count_memory(&self, change: i64) {
        let before = self.memory.fetch_add(change, Ordering::Relaxed);
        if before.saturating_add(change) > i64::try_from(self.config.max_memory).unwrap_or(i64::MAX) {
            self.pressed.notify_one();
        }
    }

    /// Makes a session and answers when calls can run in it.
    pub async fn create(self: &Arc<Self>, new: NewSession) -> Result<Session> {
        let Some((request_id, fingerprint)) = new.request else { return self.start(new).await };
        let principal = new.principal.clone();
        let owner = &principal;
        let make = |again: bool| async move {
            if again && let Some(known) = self.of_request(owner, request_id).into_iter().next() {
                return Ok(known);
            }
            self.start(new).await
        };
        let made = self.once.run(&self.store, owner.clone(), request_id, "CreateSession", fingerprint, make);
        match made.await? {
            Some(session) => Ok(session),
            None => self.of_request(&principal, request_id).into_iter().next().ok_or(Error::RequestIdReused {
                request_id,
                first: "a session that was closed and is forgotten".into(),
            }),
        }
    }

    async fn start(self: &Arc<Self>, new: NewSession) -> Result<Session> {
        self.accepts()?;
        let kernels = self.kernels(&new.tool)?.clone();
        let home = kernels.home(new.home, &new.principal)?;
        let durability = match (&home, new.durability) {
            (None, wanted) => wanted.unwrap_or(self.config.durability),
            (Some(_), None | Some(Durability::None)) => Durability::None,
            (Some(_), Some(_)) => {
                let text =
                    "is none for a kernel in a container: it is not frozen, and lives on while the server is gone";
                return Err(Error::invalid("durability", text));
            }
        };
        let room = self.take_rooms(&new.principal, 1)?.pop();
        let image = match &new.snapshot {
            Some(name) => Some(self.snapshots.start_from(name, &new.tool).await?),
            None => None,
        };
        self.make_room().await?;
        let origin = SessionOrigin {
            id: SessionId::new(),
            snapshot: image.as_ref().map(|image| image.id()),
            tool: new.tool,
            principal: new.principal,
            request_id: new.request.map(|(id, _)| id),
            labels: new.labels,
            limits: self.config.defaults.resolve(&new.limits, &self.config.caps),
            durability,
            environment: new.environment,
            parameters: new.parameters,
            created: Timestamp::now(),
            forked_from: None,
            first_turn: 0,
            home,
        };
        let entry = Arc::new(Entry::new(origin, image, room));
        entry.standing.lock().starting = true;
        let pass = entry.line.try_pass();
        let added = Added { sessions: self, entries: vec![entry.clone()] };
        self.entries.insert(entry.id(), entry.clone());
        let kernel = kernels.start(entry.spec()).await?;
        self.watch(&entry, &*kernel);
        self.count_memory(entry.put_kernel(kernel));
        entry.standing.lock().starting = false;
        added.settle().await?;
        drop(pass);
        Ok(entry.view())
    }

    /// One session.
    pub fn get(&self, id: SessionId, caller: &Caller) -> Result<Session> {
        Ok(self.visible(id, caller)?.view())
    }

    /// Sessions that a selection names, newest first, from the one before `before`.
    pub fn list(
        &self,
        selection: &SessionSelection,
        caller: &Caller,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>> {
        let principal = match &selection.principal {
            Some(other) if **other != *caller.name && !caller.administers => {
                return Err(Error::PermissionDenied {
                    principal: caller.name.to_string(),
                    method: "ListSessions for another principal".into(),
                    permission: "administer",
                });
            }
            Some(principal) => Some(&**principal),
            None if caller.administers => None,
            None => Some(&*caller.name),
        };
        let mut entries: Vec<Arc<Entry>> = self
            .entries
            .iter()
            .filter(|entry| {
                let origin = &entry.origin;
                before.is_none_or(|before| origin.id < before)
                    && principal.is_none_or(|principal| *origin.principal == *principal)
                    && selection.tool.as_ref().is_none_or(|tool| *origin.tool == **tool)
                    && selection.container.is_none_or(|id| origin.home == Some(Home::Container(id)))
                    && (selection.forked_from.is_none() || origin.forked_from == selection.forked_from)
                    && selection.labels.iter().all(|(key, value)| origin.labels.get(key) == Some(value))
            })
            .map(|entry| entry.value().clone())
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.id()));
        let wanted = |session: &Session| match selection.states.as_slice() {
            [] => session.state != SessionState::Closed,
            states => states.contains(&session.state),
        };
        Ok(entries.iter().map(|entry| entry.view()).filter(wanted).take(limit).collect())
    }

    /// Ends a session and deletes its state. Answers when its running call is over and the end is on disk.
    pub async fn close(self: &Arc<Self>, id: SessionId, caller: &Caller) -> Result<Session> {
        let entry = self.visible(id, caller)?;
        let calls = entry.standing.lock().calls.clone();
        let message = format!("{} closed it; create a new session", caller.name);
        if let Some(written) = self.close_entry(&entry, ClosureReason::Closed, message) {
            written.await?;
        }
        for live in calls {
            live.journal().ended().await;
        }
        Ok(entry.view())
    }

    pub(super) fn accepts(&self) -> Result<()> {
        if self.closing.load(Ordering::Acquire) { Err(Error::ShuttingDown) } else { Ok(()) }
    }

    pub(super) fn take_rooms(&self, principal: &Arc<str>, count: u64) -> Result<Vec<super::room::Room>> {
        self.rooms.take(principal, count, self.config.max_sessions, self.config.max_per_principal)
    }

    /// The session, for its owner alone.
    pub(super) fn owned(&self, id: SessionId, principal: &Arc<str>) -> Result<Arc<Entry>> {
        let entry = self.entries.get(&id).map(|entry| entry.value().clone());
        entry.filter(|entry| entry.origin.principal == *principal).ok_or(Error::SessionNotFound { id })
    }

    fn visible(&self, id: SessionId, caller: &Caller) -> Result<Arc<Entry>> {
        let entry = self.entries.get(&id).map(|entry| entry.value().clone());
        entry
            .filter(|entry| caller.administers || entry.origin.principal == caller.name)
            .ok_or(Error::SessionNotFound { id })
    }

    /// The sessions that a request made, in the order they were made.
    pub(super) fn of_request(&self, principal: &Arc<str>, request_id: RequestId) -> Vec<Session> {
        let made = |entry: &Entry| entry.origin.request_id == Some(request_id) && entry.origin.principal == *principal;
        let mut found: Vec<Arc<Entry>> =
            self.entries.iter().filter(|entry| made(entry)).map(|entry| entry.value().clone()).collect();
        found.sort_by_key(|entry| entry.id());
        found.iter().map(|entry| entry.view()).collect()
    }

    /// Brings the kernel of a session back to memory. Only for who has its pass.
    pub(super) async fn wake(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Box<dyn Kernel>> {
        let kernels = self.kernels(&entry.origin.tool)?.clone();
        if entry.is_housed() {
            return match kernels.resume(entry.spec()).await {
                Ok(kernel) => {
                    self.watch(entry, &*kernel);
                    Ok(kernel)
                }
                Err(Thaw::Failed(error)) => Err(error),
                Err(Thaw::Unusable(why)) => {
                    let message = format!("its kernel is gone: {why}; create a new session");
                    self.close_behind(entry, ClosureReason::Interrupted, message);
                    entry.open()?;
                    Err(Error::Internal("a session without a kernel is still open".into()))
                }
            };
        }
        self.make_room().await?;
        // What is being written is what it comes back from.
        let _saving = entry.saving.lock().await;
        let chain = entry.standing.lock().chain.clone();
        let kernel = match chain {
            None => kernels.start(entry.spec()).await?,
            Some(chain) => {
                let heading = Heading { fingerprint: kernels.fingerprint(), session: entry.id(), turn: chain.turn };
                let files = self.files.clone();
                let read = move || files.read(&heading, &chain.files);
                let layers = tokio::task::spawn_blocking(read).await.map_err(panicked)?;
                let thawed = match layers {
                    Ok(layers) => kernels.thaw(entry.spec(), layers).await,
                    Err(why) => Err(Thaw::Unusable(why)),
                };
                match thawed {
                    Ok(kernel) => kernel,
                    Err(Thaw::Failed(error)) => return Err(error),
                    Err(Thaw::Unusable(why)) => {
                        tracing::error!(session = %entry.id(), problem = %why, "the checkpoint of a session cannot be used");
                        let message = format!("its checkpoint cannot be used: {why}; create a new session");
                        self.close_behind(entry, ClosureReason::CheckpointUnusable, message);
                        entry.open()?;
                        return Err(Error::Internal("a session with an unusable checkpoint is still open".into()));
                    }
                }
            }
        };
        Ok(kernel)
    }

    /// Closes the session when its kernel ends by itself.
    fn watch(self: &Arc<Self>, entry: &Arc<Entry>, kernel: &dyn Kernel) {
        let Some(ending) = kernel.ending() else { return };
        let (sessions, entry) = (Arc::downgrade(self), Arc::downgrade(entry));
        tokio::spawn(async move {
            let (reason, why) = ending.await;
            let (Some(sessions), Some(entry)) = (sessions.upgrade(), entry.upgrade()) else { return };
            // A call that runs tells of it itself.
            let _pass = entry.line.enter_uncounted().pass().await;
            sessions.close_behind(&entry, reason, format!("{why}; create a new session"));
        });
    }

    /// Has the store learn how a session stands, in the order of these calls.
    pub(super) fn write_row(
        &self,
        entry: &Entry,
        standing: &mut Standing,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let record = entry.record(standing);
        standing.row_unsaved = record.unsaved;
        standing.row_old = false;
        // Handed over here and now; only the answer is waited for.
        self.store.write(move |db| sessions::put(db, &record))
    }
}

/// Sessions that are being made; taken back unless they settle.
pub(super) struct Added<'a> {
    pub sessions: &'a Arc<Sessions>,
    pub entries: Vec<Arc<Entry>>,
}

impl Added<'_> {
    /// Has the store know them: first, if the call had a request id.
    pub async fn settle(mut self) -> Result<()> {
        let mut written = Vec::new();
        for entry in &self.entries {
            written.push(self.sessions.write_row(entry, &mut entry.standing.lock()));
        }
        if self.entries.first().is_some_and(|entry| entry.origin.request_id.is_some()) {
            for written in written {
                written.await?;
            }
        }
        self.entries.clear();
        Ok(())
    }
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        for entry in self.entries.drain(..) {
            self.sessions.entries.remove(&entry.id());
            entry.release_room();
            if let Some(kernel) = entry.take_kernel() {
                kernel.end();
            }
            let change = entry.standing.lock().forget_kernel();
            self.sessions.count_memory(change);
            let id = entry.id();
            // Its row may be on its way; a row that is not there is no error.
            drop(self.sessions.store.write(move |db| sessions::delete(db, id)));
        }
    }
}

pub(super) fn panicked(error: tokio::task::JoinError) -> Error {
    Error::Internal(format!("work for a session panicked: {error}"))
}
