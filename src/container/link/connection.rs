//! One connection of the guest.

use super::conversation::Conversation;
use super::{LinkState, Shared};
use crate::container::ports::Connection;
use crate::execution::stdin::Kept;
use bytes::{Bytes, BytesMut};
use casemate_guest::protocol::{Decoder, FromGuest, Process, ToGuest, VERSION, encode};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// How long a guest may take for its first word.
const GREETING: Duration = Duration::from_secs(5);

/// Why a connection ends.
enum Fault {
    /// It is gone; the guest will connect again.
    Lost,
    /// The guest said what it may not say.
    Lie(String),
}

/// Serves one connection until it is gone. Closes the outbox however it ends.
pub(super) async fn serve(shared: Arc<Shared>, stream: UnixStream) {
    let _closes = Closes(&shared);
    if let Err(Fault::Lie(problem)) = talk(&shared, stream).await {
        tracing::error!(container = %shared.container, %problem, "a guest broke the protocol");
        shared.finish(LinkState::Broken(problem));
    }
}

struct Closes<'a>(&'a Shared);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        let mut outbox = self.0.outbox.lock();
        outbox.open = false;
        outbox.bytes = BytesMut::new();
        drop(outbox);
        self.0.talks.end();
        self.0.state.send_if_modified(|state| {
            let connected = matches!(state, LinkState::Connected { .. });
            if connected {
                *state = LinkState::Waiting;
            }
            connected
        });
    }
}

async fn talk(shared: &Arc<Shared>, stream: UnixStream) -> Result<(), Fault> {
    let (mut reader, writer) = stream.into_split();
    let mut decoder = Decoder::default();
    let first = tokio::time::timeout(GREETING, next(&mut reader, &mut decoder)).await.map_err(|_| Fault::Lost)??;
    let (FromGuest::Hello { version, build, processes, .. }, _) = first else {
        return Err(Fault::Lie("its first word is no greeting".into()));
    };
    if version != VERSION {
        return Err(Fault::Lie(format!("it speaks version {version} of the protocol, this server {VERSION}")));
    }
    greet(shared, &processes)?;
    let epoch = EPOCHS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut build = build;
    build.truncate(build.floor_char_boundary(64));
    shared.state.send_if_modified(|state| {
        let waiting = matches!(state, LinkState::Waiting);
        if waiting {
            *state = LinkState::Connected { build, epoch };
        }
        waiting
    });
    tokio::select! {
        ended = listen(shared, &mut reader, &mut decoder) => ended,
        lost = write(shared, writer) => Err(lost),
    }
}

static EPOCHS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

/// Says all there is to say to a guest that knows these processes.
fn greet(shared: &Shared, processes: &[Process]) -> Result<(), Fault> {
    let known: HashMap<_, _> = processes.iter().map(|process| (process.id, process)).collect();
    let mut words = BytesMut::new();
    let mut say = |message: &ToGuest| {
        encode(message, &[], &mut words).map_err(|error| Fault::Lie(format!("it cannot be greeted: {error}")))
    };
    say(&ToGuest::Hello { version: VERSION, settings: shared.settings.clone() })?;
    // Held until the outbox is open, so that whoever starts a process is either greeted for or sends it himself.
    let channels = shared.channels.lock();
    for process in processes.iter().filter(|process| !channels.contains_key(&process.id)) {
        // Its end was recorded before, or nobody ever heard of it.
        say(&ToGuest::Release { id: process.id })?;
    }
    for (id, channel) in channels.iter() {
        if let Some(opening) = channel.met(known.get(id).copied()) {
            words.extend_from_slice(&opening);
        }
    }
    let mut outbox = shared.outbox.lock();
    outbox.open = true;
    outbox.bytes = words;
    shared.wake.notify_one();
    Ok(())
}

async fn next(reader: &mut OwnedReadHalf, decoder: &mut Decoder) -> Result<(FromGuest, Bytes), Fault> {
    loop {
        if let Some(message) = decoder.take().map_err(|error| Fault::Lie(error.to_string()))? {
            return Ok(message);
        }
        match reader.read_buf(decoder.buffer()).await {
            Ok(0) | Err(_) => return Err(Fault::Lost),
            Ok(_) => {}
        }
    }
}

async fn listen(shared: &Arc<Shared>, reader: &mut OwnedReadHalf, decoder: &mut Decoder) -> Result<(), Fault> {
    loop {
        let (message, payload) = next(reader, decoder).await?;
        hear(shared, message, payload).map_err(Fault::Lie)?;
    }
}

/// Passes one message on. What is said of a process that nobody knows is about one that was just released.
fn hear(shared: &Arc<Shared>, message: FromGuest, payload: Bytes) -> Result<(), String> {
    match message {
        FromGuest::Hello { .. } => return Err("it greets twice".into()),
        FromGuest::Started { id, pid } => {
            if let Some(channel) = shared.channel(&id) {
                channel.started(pid);
            }
        }
        FromGuest::NotStarted { id, failure } => {
            if let Some(channel) = shared.channel(&id) {
                channel.failed(failure);
            }
        }
        FromGuest::Output { id, stream, position, offset } => {
            if let Some(channel) = shared.channel(&id) {
                channel.output(shared, stream, position, offset, payload)?;
            }
        }
        FromGuest::Truncated { id, position, stdout, stderr } => {
            if let Some(channel) = shared.channel(&id) {
                channel.lost(position, stdout, stderr)?;
            }
        }
        FromGuest::StdinAccepted { id, offset, held, closed } => {
            if let Some(channel) = shared.channel(&id) {
                channel.input(Kept { taken: offset.min(held), held, closed });
            }
        }
        FromGuest::Exited { id, exit, position } => {
            if let Some(channel) = shared.channel(&id) {
                channel.exited(exit, position)?;
            }
        }
        FromGuest::Refused { problem, .. } => {
            // Something was asked of a process that ended meanwhile.
            tracing::debug!(container = %shared.container, %problem, "a guest refused");
        }
        FromGuest::Pong { .. } => {}
        FromGuest::Connected { .. } | FromGuest::NoGate { .. } if shared.settings.gate.is_none() => {
            return Err("it speaks of a gate, and there is none".into());
        }
        FromGuest::Connected { channel } => {
            let connection = Connection::from(Conversation::opened(shared, channel)?);
            tokio::spawn(shared.gate.serve(shared.container, connection));
        }
        FromGuest::NoGate { port, mut problem } => {
            problem.truncate(problem.floor_char_boundary(200));
            tracing::warn!(container = %shared.container, port, %problem, "its processes do not reach the gate");
        }
        FromGuest::Began { .. }
        | FromGuest::Data { .. }
        | FromGuest::DataEnd { .. }
        | FromGuest::More { .. }
        | FromGuest::Entries { .. }
        | FromGuest::Events { .. }
        | FromGuest::Done { .. } => shared.talks.hear(message, payload)?,
    }
    Ok(())
}

async fn write(shared: &Shared, mut writer: OwnedWriteHalf) -> Fault {
    loop {
        let bytes = std::mem::take(&mut shared.outbox.lock().bytes);
        if bytes.is_empty() {
            shared.wake.notified().await;
        } else if writer.write_all(&bytes).await.is_err() {
            return Fault::Lost;
        }
    }
}
