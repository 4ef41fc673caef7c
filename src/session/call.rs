//! Calls: how they wait for their turn, run, and what their end does to the session.

use super::entry::Entry;
use super::kernel::{Kernel, Turn, Turned};
use super::line::Ticket;
use super::manager::Sessions;
use crate::domain::execution::Exit;
use crate::domain::id::{ExecutionId, SessionId};
use crate::domain::input::Inputs;
use crate::domain::interruption::{Interruption, InterruptionReason};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::execution::{Begun, Ended, Live, Run, Start, Turnstile};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a call that finds the line full is told to wait, for each call before it.
const TYPICAL_TURN: Duration = Duration::from_millis(100);

/// A call in a session.
pub struct SessionCall {
    /// The session.
    pub session: SessionId,
    /// The turn it must be at when the call begins.
    pub expected_turn: Option<u64>,
    /// Wall time asked for; `None` takes the session's.
    pub wall_time: Option<Duration>,
    /// The parameters, valid by the tool's schema.
    pub parameters: Value,
    /// Files, arguments, environment, and which files to give back.
    pub inputs: Inputs,
    /// The execution to begin. The session's limits take the place of those for memory.
    pub start: Start,
    /// Name of the tool that is called.
    pub tool: Arc<str>,
}

/// A call that was accepted.
pub enum SessionCalled {
    /// A new one, to be driven.
    New(Box<SessionRun>),
    /// An earlier one with the same request id.
    Existing(Arc<Live>),
}

/// Drives a call. Dropping it before the end leaves the line or, once it runs, ends the run.
pub struct SessionRun {
    sessions: Arc<Sessions>,
    listed: Listed,
    run: Run,
    ticket: Ticket,
    expected_turn: Option<u64>,
    given: Given,
}

/// What the kernel is given.
struct Given {
    parameters: Value,
    inputs: Inputs,
}

/// Keeps a call in its session's list until it is over.
struct Listed {
    entry: Arc<Entry>,
    execution: ExecutionId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut standing = self.entry.standing.lock();
        standing.calls.retain(|live| live.origin().id != self.execution);
        standing.last_active = Timestamp::now();
        standing.row_old = true;
    }
}

impl Sessions {
    /// Accepts a call, gives it its place in the session's line and begins its execution.
    pub async fn call(self: &Arc<Self>, mut call: SessionCall) -> Result<SessionCalled> {
        let entry = self.owned(call.session, &call.start.principal)?;
        if let Some((request_id, fingerprint)) = &call.start.request
            && let Some(live) = self.registry().earlier(&call.start.principal, *request_id, fingerprint).await?
        {
            return Ok(SessionCalled::Existing(live));
        }
        entry.open()?;
        if entry.origin.tool != call.tool {
            return Err(Error::TargetMismatch {
                target: format!("session {}", call.session),
                tool: call.tool.to_string(),
                problem: format!("it holds {:?}; call that tool, or create a session of this one", entry.origin.tool),
            });
        }
        let limits = entry.origin.limits;
        call.start.limits.wall_time = call.wall_time.unwrap_or(limits.turn_wall_time);
        call.start.limits.memory_bytes = limits.memory_bytes;
        call.start.limits.scratch_bytes = limits.scratch_bytes;
        call.start.session = Some(call.session);
        call.start.target = call.session.to_string().into();
        // The place in the line comes before anything that waits, so that calls run in the order they came.
        let ticket = entry.line.enter(limits.queue_length).ok_or_else(|| Error::Overloaded {
            scope: format!("session {}", call.session),
            limit: u64::from(limits.queue_length),
            retry_after: TYPICAL_TURN * limits.queue_length.clamp(1, 100),
        })?;
        if ticket.is_first() {
            check_turn(&entry, call.expected_turn)?;
        }
        // What runs in a container takes none of the slots of what runs here.
        let begun = match entry.is_housed() {
            true => self.registry().begin_beside(call.start).await?,
            false => self.registry().begin_later(call.start).await?,
        };
        let run = match begun {
            Begun::New(run) => run,
            Begun::Existing(live) => return Ok(SessionCalled::Existing(live)),
        };
        let live = run.live().clone();
        let listed = Listed { entry: entry.clone(), execution: live.origin().id };
        {
            let mut standing = entry.standing.lock();
            if let Some(closure) = &standing.closure {
                return Err(entry.closed_error(closure));
            }
            standing.last_active = Timestamp::now();
            standing.calls.push(live);
        }
        Ok(SessionCalled::New(Box::new(SessionRun {
            sessions: self.clone(),
            listed,
            run,
            ticket,
            expected_turn: call.expected_turn,
            given: Given { parameters: call.parameters, inputs: call.inputs },
        })))
    }

    /// The execution of an earlier call once it is over; an error if it never began.
    pub async fn answer(&self, live: Arc<Live>) -> Result<Arc<Live>> {
        live.journal().ended().await;
        match live.execution().outcome {
            Some(outcome) if outcome.exit == Exit::NotStarted => {
                Err(Error::NotStarted { id: live.origin().id, message: outcome.message.clone() })
            }
            _ => Ok(live),
        }
    }

    /// The state that a kernel held is lost: the session goes on from its checkpoint, or is over.
    pub(super) fn lose(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        reason: InterruptionReason,
        execution: Option<ExecutionId>,
    ) -> Option<Interruption> {
        let mut standing = entry.standing.lock();
        standing.running = None;
        standing.incarnation += 1;
        let change = standing.forget_kernel();
        self.count_memory(change);
        if standing.closure.is_some() {
            return None;
        }
        let (last_turn, first_turn) = (standing.turn, entry.origin.first_turn);
        let resumed_turn = match &standing.chain {
            Some(chain) => chain.turn,
            // Nothing was there to lose: it begins anew.
            None if last_turn == first_turn && entry.origin.forked_from.is_none() => first_turn,
            None => {
                drop(standing);
                let message = format!(
                    "its state was lost because {}, and it had no checkpoint to go on from; create a new session",
                    reason.words()
                );
                self.close_behind(entry, crate::domain::session::ClosureReason::Interrupted, message);
                return None;
            }
        };
        let interruption = Interruption { reason, time: Timestamp::now(), execution, last_turn, resumed_turn };
        tracing::info!(session = %entry.id(), reason = reason.words(), last_turn, resumed_turn, "a session fell back to its checkpoint");
        standing.turn = resumed_turn;
        standing.unsaved = None;
        standing.extent = match standing.chain {
            Some(_) => super::kernel::Extent::Changed,
            None => super::kernel::Extent::Whole,
        };
        standing.interruption = Some(interruption.clone());
        drop(self.write_row(entry, &mut standing));
        Some(interruption)
    }
}

fn check_turn(entry: &Entry, expected: Option<u64>) -> Result<()> {
    let turn = entry.standing.lock().turn;
    match expected {
        Some(expected) if expected != turn => Err(Error::TurnMismatch { id: entry.id(), expected, turn }),
        _ => Ok(()),
    }
}

impl SessionRun {
    /// The execution.
    pub fn live(&self) -> &Arc<Live> {
        self.run.live()
    }

    /// Waits for its turn and a slot, runs the call, and records how it ended. A call that never began is an
    /// error as well.
    pub async fn drive(self: Box<Self>) -> Result<Arc<Live>> {
        if !self.listed.entry.is_housed() {
            return self.go().await;
        }
        // A task of its own: the kernel is interrupted, and not lost, when whoever waits for this leaves.
        let leaves = Leaves(Some(self.live().clone()));
        let done = tokio::spawn(self.go()).await;
        leaves.stays();
        done.map_err(|error| Error::Internal(format!("a call in a session was lost: {error}")))?
    }

    async fn go(self: Box<Self>) -> Result<Arc<Live>> {
        let SessionRun { sessions, listed, run, ticket, expected_turn, given } = *self;
        let refusal = Mutex::new(None);
        let entry = listed.entry.clone();
        let (sessions, entry, refused) = (&sessions, &entry, &refusal);
        let guest = |live: Arc<Live>, turnstile: Turnstile| async move {
            let waits = Waits { sessions, entry, live: &live };
            let ended = match waits.turn(ticket, turnstile, expected_turn, given).await {
                Ok(ended) => ended,
                Err(error) => {
                    let ended = Ended::new(Exit::NotStarted, error.to_string());
                    *refused.lock() = Some(error);
                    ended
                }
            };
            // Before readers see the end, so that whoever saw it finds the session without the call.
            drop(listed);
            ended
        };
        let live = run.conduct(guest).await?;
        match refusal.into_inner() {
            Some(error) => Err(error),
            None => Ok(live),
        }
    }
}

/// Ends a run whose caller leaves.
struct Leaves(Option<Arc<Live>>);

impl Leaves {
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        if let Some(live) = self.0.take() {
            live.end(Ended::new(Exit::Cancelled, "the call that ran it ended early, and so did the run"));
        }
    }
}

struct Waits<'a> {
    sessions: &'a Arc<Sessions>,
    entry: &'a Arc<Entry>,
    live: &'a Arc<Live>,
}

impl Waits<'_> {
    async fn turn(
        &self,
        ticket: Ticket,
        turnstile: Turnstile,
        expected_turn: Option<u64>,
        given: Given,
    ) -> Result<Ended> {
        let Waits { sessions, entry, live } = *self;
        let ready = async {
            let pass = ticket.pass().await.ok_or(Error::ShuttingDown)?;
            entry.open()?;
            check_turn(entry, expected_turn)?;
            let slot = match entry.is_housed() {
                true => None,
                false => Some(turnstile.slot().await?),
            };
            let kernel = match entry.take_kernel() {
                Some(kernel) => kernel,
                None => sessions.wake(entry).await?,
            };
            Ok::<_, Error>((pass, slot, kernel))
        };
        let (pass, _slot, mut kernel) = tokio::select! {
            biased;
            ended = live.end_wished() => return self.left(ended),
            ready = ready => ready?,
        };
        let number = {
            let mut standing = entry.standing.lock();
            if let Some(closure) = &standing.closure {
                return Err(entry.closed_error(closure));
            }
            standing.running = Some(live.origin().id);
            if (entry.is_durable() || entry.is_housed()) && !standing.row_unsaved {
                // So that a kill is noticed as a loss, even when nothing else gets to the disk.
                drop(sessions.write_row(entry, &mut standing));
            }
            standing.turn + 1
        };
        let mut cut = Cut { sessions, entry, live, armed: true };
        live.set_session_turn(number);
        live.journal().start(0);
        let Given { parameters, inputs } = given;
        let turn = Turn { number, live: live.clone(), parameters, inputs };
        let heeds = kernel.heeds();
        let turned = tokio::select! {
            biased;
            ended = live.end_wished(), if !heeds => {
                let reason = match ended.exit {
                    Exit::TimedOut => InterruptionReason::TimedOut,
                    _ => InterruptionReason::Cancelled,
                };
                Turned::Dead(ended, reason)
            }
            turned = kernel.turn(turn) => turned,
        };
        match turned {
            Turned::Alive(ended) => {
                cut.armed = false;
                self.completed(kernel, number);
                drop(pass);
                Ok(ended)
            }
            Turned::Dead(ended, reason) => {
                drop(kernel);
                // A checkpoint that is being written counts, if it gets to its end.
                let saving = entry.saving.lock().await;
                cut.armed = false;
                let interruption = sessions.lose(entry, reason, Some(live.origin().id));
                drop((saving, pass));
                Ok(with_interruption(ended, interruption))
            }
            Turned::Over(ended, reason, message) => {
                cut.armed = false;
                kernel.end();
                {
                    let mut standing = entry.standing.lock();
                    standing.running = None;
                    let change = standing.forget_kernel();
                    sessions.count_memory(change);
                    // The run has its end, and needs none from the session.
                    standing.calls.retain(|call| call.origin().id != live.origin().id);
                }
                sessions.close_behind(entry, reason, message);
                drop(pass);
                Ok(ended)
            }
        }
    }

    /// It was ended before it began.
    fn left(&self, ended: Ended) -> Result<Ended> {
        if ended.exit == Exit::NotStarted {
            // Whoever closes a session ends its waiting calls so.
            self.entry.open()?;
        }
        Ok(ended)
    }

    fn completed(&self, kernel: Box<dyn Kernel>, number: u64) {
        let Waits { sessions, entry, .. } = *self;
        let now = Instant::now();
        {
            let mut standing = entry.standing.lock();
            standing.running = None;
            if standing.closure.is_none() {
                standing.turn = number;
                standing.last_active = Timestamp::now();
                standing.last_end = now;
                standing.row_old = true;
                if entry.is_housed() {
                    // All that a later server has to know.
                    drop(sessions.write_row(entry, &mut standing));
                } else {
                    standing.unsaved.get_or_insert(now);
                }
            }
        }
        sessions.count_memory(entry.put_kernel(kernel));
        sessions.schedule(entry);
    }
}

/// Notices that a run was cut off: its future was dropped in the middle.
struct Cut<'a> {
    sessions: &'a Arc<Sessions>,
    entry: &'a Arc<Entry>,
    live: &'a Arc<Live>,
    armed: bool,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if self.armed && self.entry.is_housed() {
            // Only the end of the server cuts those off, and their kernels live on.
            self.live.end(Ended::new(Exit::ServerShutdown, "the server went down"));
        } else if self.armed {
            let id = Some(self.live.origin().id);
            let interruption = self.sessions.lose(self.entry, InterruptionReason::Cancelled, id);
            let ended = Ended::new(Exit::Cancelled, "the call that ran it ended early, and so did the run");
            self.live.end(with_interruption(ended, interruption));
        }
    }
}

fn with_interruption(ended: Ended, interruption: Option<Interruption>) -> Ended {
    Ended { session_interruption: interruption, ..ended }
}
