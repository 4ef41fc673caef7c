//! Channels: work on the connection beside processes.

pub mod flow;
pub mod list;
pub mod task;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use casemate_guest::protocol::{Answer, CHANNELS, Failure, FromGuest, GATE_CONNECTIONS, Request, Stat};

use super::memory;
use super::table::Table;
use flow::{Flow, PIECE};

/// What a channel counts as, beside its bytes.
const CHANNEL_COST: u64 = 4 << 10;
/// Bytes after which it is worth while to give memory back.
const MUCH: u64 = 1 << 20;

/// All channels of the connection.
#[derive(Debug, Default)]
pub struct Channels {
    /// By number, until their end was said.
    open: RefCell<HashMap<u64, Rc<Channel>>>,
    /// Those that have something to say, each once.
    ready: RefCell<VecDeque<Rc<Channel>>>,
    /// Channels that the guest opened so far: none of their numbers is used twice.
    own: Cell<u64>,
    /// Bytes that passed, roughly, since memory was given back.
    passed: Cell<u64>,
    /// Wakes the gate once it may open one more.
    gate: RefCell<Option<Waker>>,
    /// Tasks that are not over. Those of a connection that is gone still clear up.
    at_work: Cell<usize>,
    /// A server is there that takes new ones.
    greeted: Cell<bool>,
}

/// A channel, as its task and the connection know it.
#[derive(Debug)]
pub struct Channel {
    /// Its number.
    pub number: u64,
    table: Rc<Table>,
    /// Never borrowed across a wait.
    flow: RefCell<Flow>,
    /// Why it is given up, if it is.
    given_up: RefCell<Option<Failure>>,
    /// The connection is gone: nobody is told anything.
    mute: Cell<bool>,
    /// It has a place in the line of those that have something to say.
    queued: Cell<bool>,
    /// Its end is in the line.
    done: Cell<bool>,
    /// Who waits for bytes, for room, and for being given up. One each.
    wakers: RefCell<[Option<Waker>; 3]>,
}

const BYTES: usize = 0;
const ROOM: usize = 1;
const GIVEN_UP: usize = 2;

/// Counts a task as over, however it ends.
struct Over(Rc<Table>);

impl Drop for Over {
    fn drop(&mut self) {
        let channels = &self.0.channels;
        channels.at_work.set(channels.at_work.get().saturating_sub(1));
        channels.rest();
    }
}

impl Channels {
    /// Opens a channel that the server asks for.
    pub fn open(&self, table: &Rc<Table>, number: u64, request: Request) {
        let known = self.open.borrow().get(&number).cloned();
        let failure = match known {
            // Its one end says so.
            Some(channel) => return channel.give_up(Failure::Channel),
            None if !number.is_multiple_of(2) => Failure::Channel,
            None if self.open.borrow().len() >= CHANNELS => Failure::TooMany("channels".into()),
            None => {
                let channel = self.add(table, number, task::takes_bytes(&request));
                self.spawn(table, task::serve(channel, request));
                return;
            }
        };
        table.answer(FromGuest::Done { channel: number, result: Err(failure) });
    }

    /// Runs the task of a channel.
    pub fn spawn(&self, table: &Rc<Table>, task: impl Future<Output = ()> + 'static) {
        self.at_work.set(self.at_work.get() + 1);
        let over = Over(Rc::clone(table));
        tokio::task::spawn_local(async move {
            task.await;
            drop(over);
        });
    }

    /// Whether any task is not over.
    pub fn is_at_work(&self) -> bool {
        self.at_work.get() > 0
    }

    fn add(&self, table: &Rc<Table>, number: u64, takes: bool) -> Rc<Channel> {
        self.pass(CHANNEL_COST);
        let channel = Rc::new(Channel {
            number,
            table: Rc::clone(table),
            flow: RefCell::new(Flow::new(takes)),
            given_up: RefCell::default(),
            mute: Cell::new(false),
            queued: Cell::new(false),
            done: Cell::new(false),
            wakers: Default::default(),
        });
        self.open.borrow_mut().insert(number, Rc::clone(&channel));
        channel
    }

    /// Waits until the gate may open a channel.
    pub async fn gate_room(&self) {
        poll_fn(|context| {
            let own = self.open.borrow().keys().filter(|number| !number.is_multiple_of(2)).count();
            if self.greeted.get() && own < GATE_CONNECTIONS && self.open.borrow().len() < CHANNELS {
                return Poll::Ready(());
            }
            *self.gate.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Opens a channel of the guest's own.
    pub fn open_own(&self, table: &Rc<Table>) -> Rc<Channel> {
        let number = self.own.get() * 2 + 1;
        self.own.set(self.own.get() + 1);
        self.add(table, number, true)
    }

    /// Passes on what the server says about a channel. One that is not there any more has ended meanwhile.
    pub fn with(&self, number: u64, act: impl FnOnce(&Rc<Channel>)) {
        let channel = self.open.borrow().get(&number).cloned();
        if let Some(channel) = channel {
            act(&channel);
        }
    }

    /// A server is there.
    pub fn greet(&self) {
        self.greeted.set(true);
        self.wake_gate();
    }

    /// The server is gone, and so are all of its channels.
    pub fn drop_all(&self) {
        self.greeted.set(false);
        self.ready.borrow_mut().clear();
        for (_, channel) in self.open.take() {
            channel.mute.set(true);
            channel.flow.borrow_mut().clear();
            channel.give_up(Failure::Dropped);
        }
        self.rest();
    }

    /// The next message, of one channel in turn.
    pub fn next(&self) -> Option<(FromGuest, Bytes)> {
        loop {
            let channel = self.ready.borrow_mut().pop_front()?;
            channel.queued.set(false);
            let next = channel.flow.borrow_mut().next();
            let Some((message, payload)) = next else { continue };
            if matches!(message, FromGuest::Done { .. }) {
                self.open.borrow_mut().remove(&channel.number);
                self.wake_gate();
                self.rest();
            } else {
                channel.tell();
                channel.wake(ROOM);
            }
            self.pass(payload.len() as u64);
            return Some((message, payload));
        }
    }

    fn wake_gate(&self) {
        let waker = self.gate.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn pass(&self, bytes: u64) {
        self.passed.set(self.passed.get().saturating_add(bytes));
    }

    /// Gives memory back once no channel is left, if it may be much: it takes as long as a small request.
    fn rest(&self) {
        if self.open.borrow().is_empty() && !self.is_at_work() && self.passed.get() >= MUCH {
            self.passed.set(0);
            self.open.borrow_mut().shrink_to_fit();
            memory::trim();
        }
    }
}

impl Channel {
    /// Takes bytes from the server.
    pub fn offer(&self, bytes: &[u8]) {
        if self.done.get() || self.given_up.borrow().is_some() {
            return;
        }
        self.table.channels.pass(bytes.len() as u64);
        let offered = self.flow.borrow_mut().offer(bytes);
        match offered {
            Ok(()) => self.wake(BYTES),
            Err(failure) => self.give_up(failure),
        }
    }

    /// The server has no more bytes.
    pub fn end_input(&self) {
        self.flow.borrow_mut().end();
        self.wake(BYTES);
    }

    /// The server grants more.
    pub fn more(&self, credit: u64) {
        self.flow.borrow_mut().more(credit);
        self.wake(ROOM);
    }

    /// Ends it as soon as its task can.
    pub fn give_up(&self, failure: Failure) {
        self.given_up.borrow_mut().get_or_insert(failure);
        self.wake(GIVEN_UP);
    }

    /// Waits until it is given up.
    pub async fn given_up(&self) -> Failure {
        self.wait(GIVEN_UP, || self.given_up.borrow().clone()).await
    }

    /// The next bytes from the server; none at their end.
    pub async fn receive(&self) -> Option<Bytes> {
        let bytes = self.wait(BYTES, || match self.flow.borrow_mut().take() {
            Some(bytes) if bytes.is_empty() => None,
            other => Some(other),
        });
        let bytes = bytes.await?;
        let granted = self.flow.borrow_mut().grant();
        if let Some(credit) = granted {
            self.say(FromGuest::More { channel: self.number, credit }, Bytes::new());
        }
        Some(bytes)
    }

    /// Waits until bytes may be sent; how many at once.
    pub async fn room(&self) -> usize {
        self.room_for(1).await
    }

    /// Waits until so many bytes may be sent at once.
    async fn room_for(&self, least: usize) -> usize {
        self.wait(ROOM, || Some(self.flow.borrow().room()).filter(|room| *room >= least.min(PIECE))).await
    }

    /// Sends bytes for which there is room.
    pub fn send(&self, bytes: Bytes) {
        self.say(FromGuest::Data { channel: self.number }, bytes);
    }

    /// Sends bytes as there is room for them.
    pub async fn send_all(&self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let room = self.room().await;
            self.send(bytes.split_to(room.min(bytes.len())));
        }
    }

    /// Says that the request has begun.
    pub fn began(&self, stat: Option<Stat>) {
        self.say(FromGuest::Began { channel: self.number, stat: stat.map(Box::new) }, Bytes::new());
    }

    /// Says that a process connected to the gate.
    pub fn connected(&self) {
        self.say(FromGuest::Connected { channel: self.number }, Bytes::new());
    }

    /// Says that there are no more bytes.
    pub fn end_output(&self) {
        self.say(FromGuest::DataEnd { channel: self.number }, Bytes::new());
    }

    /// Says how it ended. Nothing is said after that.
    pub fn finish(&self, result: Result<Answer, Failure>) {
        self.say(FromGuest::Done { channel: self.number, result }, Bytes::new());
        self.done.set(true);
        self.flow.borrow_mut().close();
    }

    fn say(&self, message: FromGuest, payload: Bytes) {
        if self.mute.get() || self.done.get() {
            return;
        }
        self.flow.borrow_mut().say(message, payload);
        self.tell();
    }

    /// Puts it in the line of those that have something to say.
    fn tell(self: &Channel) {
        let channels = &self.table.channels;
        if self.queued.get() {
            return;
        }
        let known = channels.open.borrow().get(&self.number).cloned();
        if let Some(channel) = known {
            self.queued.set(true);
            channels.ready.borrow_mut().push_back(channel);
            self.table.news.notify_one();
        }
    }

    async fn wait<T>(&self, whom: usize, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| match ready() {
            Some(value) => Poll::Ready(value),
            None => {
                self.wakers.borrow_mut()[whom] = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn wake(&self, whom: usize) {
        let waker = self.wakers.borrow_mut()[whom].take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
