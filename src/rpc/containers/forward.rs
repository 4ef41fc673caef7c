//! Connections to ports inside, many on one stream. Each has a window of its own both ways, so that one that is slow
//! does not hold up the others.

use super::{Containers, Messages, QUEUE};
use crate::container::Viewer;
use crate::container::ports::{Connection, Cut, Heard, Ports};
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::rpc::silence;
use crate::rpc::status::status;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};
use v1::ForwardResetReason as Why;
use v1::forward_port_request::Message as Asked;
use v1::forward_port_response::Message as Told;

/// Bytes that a caller may send on a connection before it is granted more.
const WINDOW: u32 = 1 << 20;
/// What the caller's window may be.
const WINDOWS: (u32, u32) = (64 << 10, 16 << 20);
/// Connections on one stream.
const CONNECTIONS: usize = 128;
/// Bytes taken before more is granted.
const GRANT: u32 = WINDOW / 4;

type Tell = mpsc::Sender<std::result::Result<v1::ForwardPortResponse, Status>>;

impl Containers {
    pub(super) async fn serve_forward_port(
        &self,
        viewer: Viewer,
        mut messages: Streaming<v1::ForwardPortRequest>,
    ) -> std::result::Result<Response<Messages<v1::ForwardPortResponse>>, Status> {
        let Some(Asked::Start(start)) = messages.message().await?.and_then(|first| first.message) else {
            return Err(status(Error::invalid("message", "the first message is `start`, and only the first")));
        };
        let (silence, port, window) = terms(&start).map_err(status)?;
        let ports = self.all().map_err(status)?.ports(&start.container_id, &viewer).await.map_err(status)?;
        let (tell, told) = mpsc::channel(QUEUE);
        let ready =
            v1::ForwardReady { initial_window_bytes: WINDOW, max_connections: u32::try_from(CONNECTIONS).unwrap_or(0) };
        let _ = tell.send(Ok(message(Told::Ready(ready)))).await;
        tokio::spawn(keep_alive(tell.clone(), silence));
        let forward = Forward { ports: Arc::new(ports), port, window, tell, open: HashMap::new(), last: 0 };
        tokio::spawn(forward.run(messages));
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// What the caller wants of the stream: a bound of silence, a port for those who name none, its window.
fn terms(start: &v1::ForwardStart) -> Result<(Duration, u16, u32)> {
    let silence = silence("start.keepalive_interval", start.keepalive_interval.as_ref())?;
    let port = u16::try_from(start.port)
        .map_err(|_| Error::invalid("start.port", format!("is {}; expected 1 to 65,535, or 0", start.port)))?;
    let window = match start.initial_window_bytes {
        0 => WINDOW,
        asked if (WINDOWS.0..=WINDOWS.1).contains(&asked) => asked,
        asked => {
            let text = format!("is {asked}; expected {} to {}, or 0", WINDOWS.0, WINDOWS.1);
            return Err(Error::invalid("start.initial_window_bytes", text));
        }
    };
    Ok((silence, port, window))
}

fn message(message: Told) -> v1::ForwardPortResponse {
    v1::ForwardPortResponse { message: Some(message) }
}

/// Says that the stream is alive, now and then, for as long as it is.
async fn keep_alive(tell: Tell, silence: Duration) {
    // Held no longer than it takes: the stream ends with its connections.
    let weak = tell.downgrade();
    drop(tell);
    loop {
        tokio::time::sleep(silence).await;
        let Some(tell) = weak.upgrade() else { return };
        if tell.capacity() == QUEUE && tell.send(Ok(message(Told::Keepalive(v1::KeepaliveEvent {})))).await.is_err() {
            return;
        }
    }
}

/// All connections of a stream.
struct Forward {
    ports: Arc<Ports>,
    port: u16,
    window: u32,
    tell: Tell,
    open: HashMap<u64, Handle>,
    /// The newest connection.
    last: u64,
}

/// What the caller's messages reach of a connection.
struct Handle {
    up: mpsc::UnboundedSender<Up>,
    room: Arc<Room>,
    task: tokio::task::AbortHandle,
}

/// From the caller.
enum Up {
    Data(Bytes),
    End,
}

/// Room in both windows of a connection.
struct Room {
    /// Bytes that the caller may send.
    up: parking_lot::Mutex<u32>,
    /// Bytes that may be sent to the caller.
    down: parking_lot::Mutex<u64>,
    /// Told when there is more of the latter.
    more: Notify,
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Without the caller's side those that it did not end go on until the process ends them, or the stream is gone.
        self.open.clear();
    }
}

impl Forward {
    async fn run(mut self, mut messages: Streaming<v1::ForwardPortRequest>) {
        loop {
            let next = tokio::select! {
                () = self.tell.closed() => break,
                next = messages.message() => next,
            };
            let problem = match next {
                Ok(Some(asked)) => match self.take(asked.message) {
                    Ok(()) => continue,
                    Err(error) => status(error),
                },
                // The caller says no more; what is open goes on.
                Ok(None) => return,
                Err(status) => status,
            };
            let _ = self.tell.send(Err(problem)).await;
            break;
        }
        for handle in self.open.values() {
            handle.task.abort();
        }
    }

    fn take(&mut self, asked: Option<Asked>) -> Result<()> {
        match asked {
            Some(Asked::Connect(connect)) => self.connect(&connect),
            Some(Asked::Data(data)) => {
                let Some(handle) = self.find(data.connection_id)? else { return Ok(()) };
                let length = u32::try_from(data.data.len()).unwrap_or(u32::MAX);
                let mut room = handle.room.up.lock();
                *room = room.checked_sub(length).ok_or_else(|| Error::QuotaReached {
                    what: format!("window of connection {}", data.connection_id),
                    limit: format!("{WINDOW} bytes"),
                    todo: "wait for `window` before more is sent",
                })?;
                drop(room);
                let _ = handle.up.send(Up::Data(data.data));
                Ok(())
            }
            Some(Asked::End(end)) => {
                if let Some(handle) = self.find(end.connection_id)? {
                    let _ = handle.up.send(Up::End);
                }
                Ok(())
            }
            Some(Asked::Reset(reset)) => {
                if self.find(reset.connection_id)?.is_some()
                    && let Some(handle) = self.open.remove(&reset.connection_id)
                {
                    handle.task.abort();
                }
                Ok(())
            }
            Some(Asked::Window(window)) => {
                if let Some(handle) = self.find(window.connection_id)? {
                    *handle.room.down.lock() += u64::from(window.bytes);
                    handle.room.more.notify_one();
                }
                Ok(())
            }
            Some(Asked::Start(_)) => Err(Error::invalid("message", "`start` comes first, and only once")),
            None => Err(Error::invalid("message", "is empty")),
        }
    }

    /// A connection that is open; none for one that is over.
    fn find(&mut self, id: u64) -> Result<Option<&Handle>> {
        if id == 0 || id > self.last {
            let text = format!("is {id}; the newest that was opened is {}", self.last);
            return Err(Error::invalid("connection_id", text));
        }
        if self.open.get(&id).is_some_and(|handle| handle.task.is_finished()) {
            self.open.remove(&id);
        }
        Ok(self.open.get(&id))
    }

    fn connect(&mut self, connect: &v1::ForwardConnect) -> Result<()> {
        let id = connect.connection_id;
        if id <= self.last {
            let text = format!("is {id}; expected more than {}, for a new one", self.last);
            return Err(Error::invalid("connect.connection_id", text));
        }
        let port = match u16::try_from(connect.port) {
            Ok(0) if self.port == 0 => {
                return Err(Error::invalid("connect.port", "is required: `start` has none either"));
            }
            Ok(0) => self.port,
            Ok(port) => port,
            Err(_) => {
                return Err(Error::invalid("connect.port", format!("is {}; expected 1 to 65,535", connect.port)));
            }
        };
        self.last = id;
        self.open.retain(|_, handle| !handle.task.is_finished());
        let room = Arc::new(Room {
            up: parking_lot::Mutex::new(WINDOW),
            down: parking_lot::Mutex::new(u64::from(self.window)),
            more: Notify::new(),
        });
        let (up, ups) = mpsc::unbounded_channel();
        let wire = Wire { id, tell: self.tell.clone(), room: room.clone() };
        let full = self.open.len() >= CONNECTIONS;
        let ports = self.ports.clone();
        let task = tokio::spawn(async move {
            let connected = if full { Err(Cut::TooMany) } else { ports.connect(port).await };
            let cut = match connected {
                Ok(connection) => wire.carry(connection, ups).await,
                Err(cut) => Some(cut),
            };
            if let Some(cut) = cut {
                wire.reset(cut).await;
            }
        });
        self.open.insert(id, Handle { up, room, task: task.abort_handle() });
        Ok(())
    }
}

/// One connection on the stream.
struct Wire {
    id: u64,
    tell: Tell,
    room: Arc<Room>,
}

impl Wire {
    /// Carries bytes both ways until both sides are done. Answers why it was cut, if it was.
    async fn carry(&self, mut connection: Connection, ups: mpsc::UnboundedReceiver<Up>) -> Option<Cut> {
        let connection_id = self.id;
        if !self.say(Told::Connected(v1::ForwardConnected { connection_id })).await {
            return None;
        }
        let speaker = connection.speaker();
        let mut up = std::pin::pin!(self.carry_up(&speaker, ups));
        let mut sending = true;
        let mut down = std::pin::pin!(self.carry_down(&mut connection));
        loop {
            tokio::select! {
                cut = &mut down => return cut,
                () = &mut up, if sending => sending = false,
            }
        }
    }

    async fn carry_up(&self, speaker: &crate::container::ports::Speaker, mut ups: mpsc::UnboundedReceiver<Up>) {
        let mut taken = 0;
        while let Some(Up::Data(data)) = ups.recv().await {
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            // Nobody takes it: why is heard on the other way.
            if !speaker.send(data).await {
                return;
            }
            taken += length;
            if taken >= GRANT {
                *self.room.up.lock() += taken;
                let window = v1::ForwardWindow { connection_id: self.id, bytes: std::mem::take(&mut taken) };
                if !self.say(Told::Window(window)).await {
                    return;
                }
            }
        }
        speaker.finish();
    }

    async fn carry_down(&self, connection: &mut Connection) -> Option<Cut> {
        let connection_id = self.id;
        let mut ended = false;
        loop {
            match connection.next().await {
                Heard::Data(mut data) => {
                    while !data.is_empty() {
                        let room = self.room_down().await;
                        let piece = data.split_to(data.len().min(room));
                        *self.room.down.lock() -= piece.len() as u64;
                        if !self.say(Told::Data(v1::ForwardData { connection_id, data: piece })).await {
                            return None;
                        }
                    }
                }
                Heard::End => {
                    ended = true;
                    self.say(Told::End(v1::ForwardEnd { connection_id })).await;
                }
                Heard::Done if ended => return None,
                Heard::Done => {
                    self.say(Told::End(v1::ForwardEnd { connection_id })).await;
                    return None;
                }
                Heard::Cut(cut) => return Some(cut),
            }
        }
    }

    async fn room_down(&self) -> usize {
        loop {
            let room = *self.room.down.lock();
            if room > 0 {
                return usize::try_from(room).unwrap_or(usize::MAX);
            }
            self.room.more.notified().await;
        }
    }

    async fn reset(&self, cut: Cut) {
        let (reason, text) = match cut {
            Cut::Refused => (Why::Refused, "nothing listens at the port"),
            Cut::Reset => (Why::ResetByPeer, "the process closed it hard, or ended"),
            Cut::TooMany => (Why::TooMany, "as many connections are open as may be"),
            Cut::Ended => (Why::ContainerEnded, "the container is over or paused, or its supervisor is away"),
        };
        let reset = v1::ForwardReset { connection_id: self.id, reason: reason.into(), message: text.into() };
        self.say(Told::Reset(reset)).await;
    }

    /// Whether the caller is still there.
    async fn say(&self, told: Told) -> bool {
        self.tell.send(Ok(message(told))).await.is_ok()
    }
}
