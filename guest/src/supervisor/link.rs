//! The connection to the server.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use casemate_guest::protocol::{Decoder, FromGuest, ToGuest, VERSION, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::journal::{Piece, offset, pass};
use super::process::{Link, Process};
use super::table::Table;

/// How long to wait before the next attempt, at first and at last.
const BACKOFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];
/// Bytes of output in one message.
const PIECE: usize = 64 << 10;
/// Bytes that wait to be sent: more is not made before some went.
const OUTBOX: usize = 128 << 10;
/// Answers that wait to be sent: nothing more is read from a server that does not take them.
const ANSWERS: usize = 256;

/// Serves the server, and the next one when it is gone. Never returns.
pub async fn serve(table: Rc<Table>, path: &Path, start: [u8; 16]) {
    let mut backoff = BACKOFF[0];
    loop {
        if let Ok(stream) = UnixStream::connect(path).await {
            let mut link = Connection { table: Rc::clone(&table), stream, outbox: BytesMut::new(), greeted: false };
            let _ = link.run(start).await;
            // One that talked as it should is expected back at once.
            if link.greeted {
                backoff = BACKOFF[0];
            }
            table.answers.borrow_mut().clear();
            table.channels.drop_all();
            for process in table.processes.borrow().values() {
                process.state.borrow_mut().link = Link::default();
                process.wake.notify_one();
            }
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF[1]);
    }
}

struct Connection {
    table: Rc<Table>,
    stream: UnixStream,
    outbox: BytesMut,
    /// The server said Hello, in this version.
    greeted: bool,
}

impl Connection {
    async fn run(&mut self, start: [u8; 16]) -> io::Result<()> {
        self.say(&self.hello(start), &[]);
        let table = Rc::clone(&self.table);
        let mut decoder = Decoder::default();
        loop {
            while let Some((message, payload)) = self.next(&mut decoder)? {
                match (&message, self.greeted) {
                    (ToGuest::Hello { version, .. }, false) if *version == VERSION => self.greeted = true,
                    (ToGuest::Hello { .. }, false) | (_, false) => return Err(ErrorKind::InvalidData.into()),
                    (_, true) => {}
                }
                table.handle(message, &payload);
            }
            if self.greeted {
                self.fill();
            }
            let takes = table.answers.borrow().len() < ANSWERS;
            let (mut reader, mut writer) = self.stream.split();
            tokio::select! {
                read = reader.read_buf(decoder.buffer()), if takes => if read? == 0 { return Ok(()) },
                written = writer.write(&self.outbox), if !self.outbox.is_empty() => self.outbox.advance(written?),
                () = table.news.notified(), if self.greeted && self.outbox.len() < OUTBOX => {}
            }
        }
    }

    fn next(&self, decoder: &mut Decoder) -> io::Result<Option<(ToGuest, bytes::Bytes)>> {
        if self.table.answers.borrow().len() >= ANSWERS {
            return Ok(None);
        }
        decoder.take().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    fn hello(&self, start: [u8; 16]) -> FromGuest {
        let processes = self.table.processes.borrow().values().map(|process| process.known()).collect();
        FromGuest::Hello { version: VERSION, build: env!("CARGO_PKG_VERSION").into(), start, processes }
    }

    fn say(&mut self, message: &FromGuest, payload: &[u8]) {
        // All messages are made to fit.
        let _ = encode(message, payload, &mut self.outbox);
    }

    /// Makes messages until enough wait: one of a process and one of a channel in turn, and so one of each of either.
    fn fill(&mut self) {
        let table = Rc::clone(&self.table);
        while self.outbox.len() < OUTBOX {
            let answer = table.answers.borrow_mut().pop_front();
            if let Some(answer) = answer {
                self.say(&answer, &[]);
                continue;
            }
            let process = table.ready.borrow_mut().pop_front();
            let channel = table.channels.next();
            if process.is_none() && channel.is_none() {
                return;
            }
            if let Some(process) = process {
                process.queued.set(false);
                if self.tell(&process) {
                    table.tell(&process);
                }
            }
            if let Some((message, payload)) = channel {
                self.say(&message, &payload);
            }
        }
    }

    /// Says one thing about a process; whether there may be more.
    fn tell(&mut self, process: &Process) -> bool {
        let mut state = process.state.borrow_mut();
        let (state, id) = (&mut *state, process.id);
        if state.link.start_due {
            if let Some(failure) = &state.failure {
                state.link.start_due = false;
                self.say(&FromGuest::NotStarted { id, failure: failure.clone() }, &[]);
                return true;
            }
            // Nothing is said before the start is: output could be there first.
            let Some(pid) = state.pid.and_then(|pid| u32::try_from(pid).ok()) else { return false };
            state.link.start_due = false;
            self.say(&FromGuest::Started { id, pid }, &[]);
            return true;
        }
        if state.link.input_due {
            state.link.input_due = false;
            let (offset, held, closed) = (state.input.taken(), state.input.held(), state.input.is_closed());
            self.say(&FromGuest::StdinAccepted { id, offset, held, closed }, &[]);
            return true;
        }
        let Some(mut place) = state.link.attached else { return false };
        let most = usize::try_from(state.link.credit).unwrap_or(PIECE).min(PIECE);
        let Some(piece) = state.journal.next(place, most) else {
            if let (true, Some(exit)) = (state.link.exit_due, state.exit) {
                state.link.exit_due = false;
                self.say(&FromGuest::Exited { id, exit, position: place.position }, &[]);
            }
            return false;
        };
        let position = place.position;
        match &piece {
            Piece::Truncated([stdout, stderr]) => {
                // Where in the gap the server is may be a guess; where the gap ends is not.
                let (stdout, stderr) = (place.offsets[0] + stdout, place.offsets[1] + stderr);
                self.say(&FromGuest::Truncated { id, position, stdout, stderr }, &[]);
            }
            // No credit.
            Piece::Output(_, []) => return false,
            Piece::Output(stream, bytes) => {
                let message = FromGuest::Output { id, stream: *stream, position, offset: offset(&place, *stream) };
                state.link.credit -= bytes.len() as u64;
                self.say(&message, bytes);
            }
        }
        pass(&mut place, &piece);
        state.link.attached = Some(place);
        process.wake.notify_one();
        true
    }
}
