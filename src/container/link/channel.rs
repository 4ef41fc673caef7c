//! One process on a link: what was asked for it, and what the guest said of it.

use crate::domain::event::OutputStream;
use crate::domain::id::ExecutionId;
use crate::domain::io::OutputSink;
use crate::execution::Live;
use crate::execution::stdin::Kept;
use bytes::{Bytes, BytesMut};
use casemate_guest::protocol::{Exit, FrameError, Process, ProcessId, Spec, StartFailure, Stream, ToGuest, encode};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes of output that may be on their way.
pub(super) const WINDOW: u64 = 1 << 20;
/// Bytes taken before more is granted.
const GRANT: u64 = WINDOW / 4;
/// How long output waits for readers that keep up.
const PATIENCE: Duration = Duration::from_millis(20);

/// A process on a link.
pub struct Channel {
    id: ProcessId,
    live: Arc<Live>,
    /// What the execution had said, on each stream, before this process began.
    before: [u64; 2],
    /// What starts it; none once it is known to have been started.
    start: Mutex<Option<Box<Spec>>>,
    resumed: bool,
    news: Mutex<News>,
    flow: Mutex<Flow>,
    /// Told when there is news.
    told: Notify,
}

/// What the guest said.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// It runs, or ran.
    pub started: bool,
    /// It was not started.
    pub failure: Option<StartFailure>,
    /// It is over, and all of its output is in the journal.
    pub exit: Option<Exit>,
    /// Neither it nor its guest is there any more.
    pub gone: bool,
    /// Input that its guest has, once it said so.
    pub input: Option<Kept>,
}

#[derive(Default)]
struct Flow {
    /// Bytes of output, of both streams, that are here.
    position: u64,
    /// Bytes that may still come.
    credit: u64,
    /// Bytes that came and for which nothing was granted.
    taken: u64,
    /// Somebody waits for readers, and grants more then.
    pacing: bool,
}

impl Channel {
    /// A process that is to be started, and is the execution.
    pub fn new(live: Arc<Live>, spec: Spec) -> Arc<Channel> {
        let id = *live.origin().id.as_bytes();
        Channel::with(id, live, [0; 2], Some(Box::new(spec)))
    }

    /// A process that is to be started as one of several in an execution, one after the other.
    pub fn step(live: Arc<Live>, spec: Spec) -> Arc<Channel> {
        let before = live.journal().offsets();
        Channel::with(*ExecutionId::new().as_bytes(), live, before, Some(Box::new(spec)))
    }

    /// A process that an earlier server started.
    pub fn resumed(live: Arc<Live>) -> Arc<Channel> {
        let id = *live.origin().id.as_bytes();
        Channel::with(id, live, [0; 2], None)
    }

    fn with(id: ProcessId, live: Arc<Live>, before: [u64; 2], start: Option<Box<Spec>>) -> Arc<Channel> {
        let ((news, flow), resumed) = (Default::default(), start.is_none());
        Arc::new(Channel { id, live, before, resumed, start: Mutex::new(start), news, flow, told: Notify::new() })
    }

    /// Bytes of its output that are here, on each stream.
    fn offsets(&self) -> [u64; 2] {
        let [stdout, stderr] = self.live.journal().offsets();
        [stdout - self.before[0], stderr - self.before[1]]
    }

    /// Whether an earlier server started it.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Its name: the id of its execution, where it is all of that.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// What is known.
    pub fn news(&self) -> News {
        self.news.lock().clone()
    }

    /// Waits until something is new. One at a time may wait, and then look at all there is.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock());
        self.told.notify_one();
    }

    /// Neither it nor its guest is there any more.
    pub(super) fn gone(&self) {
        self.tell(|news| news.gone = true);
    }

    /// What starts it and asks for its output, as it is sent.
    pub(super) fn opening(&self) -> Result<BytesMut, FrameError> {
        let mut messages = BytesMut::new();
        if let Some(spec) = self.start.lock().as_ref() {
            encode(&ToGuest::Start { id: self.id(), spec: spec.clone() }, &[], &mut messages)?;
        }
        let [stdout, stderr] = self.offsets();
        let position = stdout + stderr;
        *self.flow.lock() = Flow { position, credit: WINDOW, ..Flow::default() };
        encode(&ToGuest::Attach { id: self.id(), position, credit: WINDOW }, &[], &mut messages)?;
        Ok(messages)
    }

    /// A guest connected that knows it, or does not. Answers what to say then; none if it is gone.
    pub(super) fn met(&self, known: Option<&Process>) -> Option<BytesMut> {
        match known {
            None if self.start.lock().is_none() => {
                self.gone();
                return None;
            }
            None => {}
            Some(process) => {
                self.start.lock().take();
                if let Some(pid) = process.pid.or(process.exit.map(|_| 0)) {
                    self.started(pid);
                }
                let taken = process.stdin_taken.min(process.stdin);
                self.input(Kept { taken, held: process.stdin, closed: process.stdin_closed });
            }
        }
        self.opening().ok()
    }

    pub(super) fn started(&self, pid: u32) {
        self.start.lock().take();
        self.live.journal().start(pid.cast_signed());
        self.tell(|news| news.started = true);
    }

    pub(super) fn failed(&self, failure: StartFailure) {
        self.start.lock().take();
        self.tell(|news| news.failure = Some(failure));
    }

    /// Word of its input.
    pub(super) fn input(&self, kept: Kept) {
        self.live.stdin().confirm(kept);
        self.tell(|news| news.input = Some(kept));
    }

    /// Takes output; an error says how it does not fit.
    pub(super) fn output(
        self: &Arc<Self>,
        link: &Arc<super::Shared>,
        stream: Stream,
        position: u64,
        offset: u64,
        data: Bytes,
    ) -> Result<(), String> {
        let length = data.len() as u64;
        let stream = match stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
        };
        let expected = self.offsets()[stream as usize];
        {
            let mut flow = self.flow.lock();
            if position != flow.position || offset != expected {
                let found = flow.position;
                return Err(format!("output at {position} (offset {offset}), expected {found} (offset {expected})"));
            }
            flow.credit = flow.credit.checked_sub(length).ok_or("more output than it was granted")?;
            flow.position += length;
            flow.taken += length;
        }
        self.live.write(stream, data);
        self.grant(link);
        Ok(())
    }

    /// Takes word of output that is lost.
    pub(super) fn lost(&self, position: u64, stdout: u64, stderr: u64) -> Result<(), String> {
        let [before_out, before_err] = self.offsets();
        let after = stdout.checked_add(stderr).ok_or("a gap beyond all numbers")?;
        let beyond = |offset: u64, before: u64| offset.checked_add(before).ok_or("a gap beyond all numbers");
        let (whole_out, whole_err) = (beyond(stdout, self.before[0])?, beyond(stderr, self.before[1])?);
        let mut flow = self.flow.lock();
        if position != flow.position || stdout < before_out || stderr < before_err || after <= position {
            return Err(format!("a gap at {position} to {stdout} and {stderr}, expected one at {}", flow.position));
        }
        flow.position = after;
        drop(flow);
        self.live.journal().lose(whole_out, whole_err);
        Ok(())
    }

    /// Takes its end; an error says how it does not fit.
    pub(super) fn exited(&self, exit: Exit, position: u64) -> Result<(), String> {
        let here = self.flow.lock().position;
        if position != here {
            return Err(format!("an end at {position}, and output up to {here}"));
        }
        self.tell(|news| {
            news.started = true;
            news.exit = news.exit.or(Some(exit));
        });
        Ok(())
    }

    /// Grants more output once enough was taken, and readers that keep up have room.
    fn grant(self: &Arc<Self>, link: &Arc<super::Shared>) {
        let mut flow = self.flow.lock();
        if flow.pacing || flow.taken < GRANT {
            return;
        }
        flow.pacing = true;
        drop(flow);
        let mut here = std::task::Context::from_waker(std::task::Waker::noop());
        if self.live.poll_room(&mut here).is_ready() {
            return self.granted(link);
        }
        let (channel, link) = (Arc::clone(self), Arc::clone(link));
        tokio::spawn(async move {
            let room = poll_fn(|cx| channel.live.poll_room(cx));
            if tokio::time::timeout(PATIENCE, room).await.is_err() {
                channel.live.go_on();
            }
            channel.granted(&link);
        });
    }

    fn granted(&self, link: &super::Shared) {
        let credit = {
            let mut flow = self.flow.lock();
            flow.pacing = false;
            let credit = std::mem::take(&mut flow.taken);
            flow.credit += credit;
            credit
        };
        link.say(&ToGuest::Credit { id: self.id(), credit }, &[]);
    }
}
