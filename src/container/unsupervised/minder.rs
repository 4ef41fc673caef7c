//! A process that the backend runs, as an execution: its streams, its end, and whoever wants it to end before.

use super::{Handle, LOOKS, sweep};
use crate::container::backend::{Backend, BackendError, BackendProcess, ProcessOutput, Standing};
use crate::container::entry::Entry;
use crate::container::manager::Containers;
use crate::container::signal;
use crate::domain::container::EndReason;
use crate::domain::execution::{Exit, Subject};
use crate::domain::io::{InputRead, InputSource, OutputSink};
use crate::execution::{Ended, Live};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_stream::StreamExt;

/// Bytes of input sent in one go.
const PIECE: usize = 64 << 10;
/// What ends the input of a terminal.
const END_OF_TRANSMISSION: u8 = 4;
/// How long output waits for readers that keep up.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long a process that was killed may take to be over.
const DYING: Duration = Duration::from_secs(5);
/// Longer than any container.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// One process, and all that is needed to mind it.
pub(super) struct Minder {
    pub(super) live: Arc<Live>,
    pub(super) entry: Arc<Entry>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) containers: Weak<Containers>,
    pub(super) handle: Handle,
    /// Longest time; none for the container to mind.
    pub(super) wall_time: Option<Duration>,
}

impl Minder {
    /// Minds the main process.
    pub(super) async fn follow(self, output: ProcessOutput) -> Ended {
        self.drive(None, output).await
    }

    /// Minds any other.
    pub(super) async fn mind(self, process: BackendProcess) -> Ended {
        self.drive(Some(process.input), process.output).await
    }

    async fn drive(&self, input: Option<Pin<Box<dyn AsyncWrite + Send>>>, mut output: ProcessOutput) -> Ended {
        let mut feeding = std::pin::pin!(feed(&self.live, input));
        let mut fed = false;
        let mut wish: Option<Ended> = None;
        let far = Instant::now() + self.wall_time.unwrap_or(FOREVER);
        let mut last = std::pin::pin!(tokio::time::sleep_until(far));
        let mut flowing = true;
        let mut pause = LOOKS.0;
        loop {
            tokio::select! {
                biased;
                reason = self.live.end_wished(), if wish.is_none() => {
                    self.end(&reason).await;
                    last.as_mut().reset(Instant::now() + DYING);
                    pause = LOOKS.0;
                    wish = Some(reason);
                }
                () = &mut last => match wish.take() {
                    Some(wish) => return wish,
                    None => self.live.end(Ended::new(
                        Exit::TimedOut,
                        "its wall time passed, and it was killed with all that it had started (limits.wall_time)",
                    )),
                },
                piece = output.next(), if flowing => match piece {
                    Some(Ok((stream, data))) => {
                        pause = LOOKS.0;
                        self.live.write(stream, data);
                        self.pace().await;
                    }
                    Some(Err(error)) => {
                        tracing::warn!(execution = %self.live.origin().id, %error, "the output of a process ends early");
                        flowing = false;
                    }
                    None => flowing = false,
                },
                () = &mut feeding, if !fed => fed = true,
                // Something that it started may hold its output for ever, and it may close its output and go on.
                () = tokio::time::sleep(pause), if self.handle.process.is_some() || !flowing => {
                    if let Some(ended) = self.over(wish.as_ref()).await {
                        self.rest(output, flowing).await;
                        return ended;
                    }
                    if wish.is_some() {
                        self.end_again().await;
                    }
                    pause = (pause * 2).min(LOOKS.1);
                }
            }
        }
    }

    /// Output waits a moment for readers that keep up.
    async fn pace(&self) {
        if tokio::time::timeout(PATIENCE, poll_fn(|cx| self.live.poll_room(cx))).await.is_err() {
            self.live.go_on();
        }
    }

    /// What an ended process wrote last, as far as it comes without a pause.
    async fn rest(&self, mut output: ProcessOutput, flowing: bool) {
        while flowing && let Ok(Some(Ok((stream, data)))) = tokio::time::timeout(PATIENCE, output.next()).await {
            self.live.write(stream, data);
        }
    }

    /// How it ended, if it did.
    async fn over(&self, wish: Option<&Ended>) -> Option<Ended> {
        let sandbox = self.entry.backend_id();
        let (code, out_of_memory) = match &self.handle.process {
            Some(process) => match self.backend.exec_exit(process).await {
                Ok(None) => return None,
                Ok(Some(code)) => (Some(code), false),
                Err(BackendError::NotFound(_)) => match self.backend.look(&sandbox).await {
                    Ok(Standing::Running { .. }) => return Some(self.forgotten(wish).await),
                    Ok(_) | Err(BackendError::NotFound(_)) => (None, false),
                    Err(_) => return None,
                },
                Err(_) => return None,
            },
            None => match self.backend.look(&sandbox).await {
                Ok(Standing::Over(ending)) => (Some(ending.code), ending.out_of_memory),
                Ok(Standing::Running { .. } | Standing::Made) => return None,
                Err(BackendError::NotFound(_)) => (None, false),
                Err(_) => return None,
            },
        };
        let stopped = || Ended::new(Exit::ContainerStopped, "its container stopped, and so did it");
        Some(match (code, wish) {
            (None, wish) => wish.cloned().unwrap_or_else(stopped),
            (Some(_), None) if out_of_memory => Ended::new(
                Exit::OutOfMemory,
                "the kernel killed it because its container had no memory left; give the container more (resources.memory_bytes)",
            ),
            // It was killed because somebody wished it.
            (Some(137), Some(wish)) => wish.clone(),
            (Some(code), _) => Ended::new(Exit::Exited { code }, ""),
        })
    }

    /// The backend was started anew, and left the sandbox running, but knows no process in it any more: nobody will ever
    /// hear of this one, so it is not left behind either.
    async fn forgotten(&self, wish: Option<&Ended>) -> Ended {
        let lost = || {
            Ended::new(
                Exit::ServerLost,
                "the container backend was started anew and lost it; what was left of it was killed",
            )
        };
        let ended = wish.cloned().unwrap_or_else(lost);
        self.end(&ended).await;
        ended
    }

    /// Ends what was not there yet when all of it was ended: the backend may have been about to start it.
    async fn end_again(&self) {
        if self.handle.process.is_none() {
            return;
        }
        let id = self.live.origin().id;
        if let Err(error) = sweep::end(&*self.backend, &self.entry.backend_id(), &self.handle.user, id).await {
            tracing::debug!(execution = %id, %error, "what may be left of a process could not be ended");
        }
    }

    /// Ends it with all that it started.
    async fn end(&self, reason: &Ended) {
        let sandbox = self.entry.backend_id();
        let id = self.live.origin().id;
        let killed = match &self.handle.process {
            // The container goes on without the server.
            None if reason.exit == Exit::ServerShutdown => return,
            None => self.backend.signal(&sandbox, signal::KILL).await,
            Some(_) => sweep::end(&*self.backend, &sandbox, &self.handle.user, id).await,
        };
        let Err(error) = killed else { return };
        tracing::warn!(execution = %id, %error, "a process could not be ended by itself; its container is");
        if let Some(containers) = self.containers.upgrade() {
            let message = format!("execution {id} was to end, which was only possible with its container: {error}");
            containers.begin_end(&self.entry, EndReason::Killed, message, Duration::ZERO);
        }
    }
}

/// Brings input to a process for as long as both want it.
async fn feed(live: &Live, input: Option<Pin<Box<dyn AsyncWrite + Send>>>) {
    let Some(mut input) = input else { return };
    loop {
        poll_fn(|cx| live.poll_ready(cx)).await;
        let sent = match live.read(PIECE) {
            InputRead::Data(data) => input.write_all(&data).await,
            InputRead::Eof if matches!(live.origin().subject, Subject::Process { tty: true, .. }) => {
                // A terminal is told by a character; closed, it would hang up.
                let _ = input.write_all(&[END_OF_TRANSMISSION]).await;
                return std::future::pending().await;
            }
            InputRead::Eof => {
                // One that ended has closed it already.
                let _ = input.shutdown().await;
                // Dropped, it would end the output as well.
                return std::future::pending().await;
            }
            InputRead::Pending => Ok(()),
        };
        if sent.is_err() {
            return std::future::pending().await;
        }
    }
}
