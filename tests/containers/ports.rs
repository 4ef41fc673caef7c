//! Connections to ports of containers.

use crate::harness::reason;
use crate::kit::{House, PYTHON, docker, image};
use casemate::proto::v1;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use v1::ForwardResetReason as Why;
use v1::forward_port_request::Message as Ask;
use v1::forward_port_response::Message as Told;

/// A server inside: answers each line in capitals, and `flood N` with so many bytes; closes hard on `reset`.
const SERVER: &str = r#"
import socket, struct, threading
def serve(c):
    f = c.makefile('rb')
    for line in f:
        word = line.split()
        if word[0] == b'flood':
            left = int(word[1])
            while left:
                n = min(left, 65536)
                c.sendall(b'x' * n)
                left -= n
        elif word[0] == b'count':
            left = int(word[1])
            while left:
                left -= len(f.read(min(left, 65536)))
            c.sendall(b'counted\n')
        elif word[0] == b'reset':
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            f.close()
            c.close()
            return
        else:
            c.sendall(line.upper())
    c.sendall(b'bye\n')
    f.close()
    c.close()
s = socket.create_server(('127.0.0.1', 8000))
print('up', flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],)).start()
"#;

struct Forward {
    ask: mpsc::Sender<v1::ForwardPortRequest>,
    told: Streaming<v1::ForwardPortResponse>,
    data: HashMap<u64, Vec<u8>>,
    ended: Vec<u64>,
    reset: HashMap<u64, Why>,
    /// Whether what was taken is granted again.
    grants: bool,
    granted: u64,
}

impl Forward {
    async fn open(house: &House, start: v1::ForwardStart) -> Result<Forward, Status> {
        let (ask, asked) = mpsc::channel(64);
        ask.send(v1::ForwardPortRequest { message: Some(Ask::Start(start)) }).await.unwrap();
        let mut told = house.containers().await.forward_port(ReceiverStream::new(asked)).await?.into_inner();
        let Some(Told::Ready(ready)) = told.message().await?.unwrap().message else { panic!("ready comes first") };
        assert_eq!((ready.initial_window_bytes, ready.max_connections), (1 << 20, 128));
        let (data, ended, reset) = Default::default();
        Ok(Forward { ask, told, data, ended, reset, grants: true, granted: 0 })
    }

    async fn say(&self, message: Ask) {
        self.ask.send(v1::ForwardPortRequest { message: Some(message) }).await.unwrap();
    }

    async fn connect(&self, connection_id: u64, port: u32) {
        self.say(Ask::Connect(v1::ForwardConnect { connection_id, port })).await;
    }

    async fn data(&self, connection_id: u64, data: &[u8]) {
        self.say(Ask::Data(v1::ForwardData { connection_id, data: data.to_vec().into() })).await;
    }

    async fn end(&self, connection_id: u64) {
        self.say(Ask::End(v1::ForwardEnd { connection_id })).await;
    }

    /// Reads until something holds.
    async fn until(&mut self, holds: impl Fn(&Forward) -> bool) -> Result<(), Status> {
        while !holds(self) {
            match self.told.message().await?.expect("more").message.unwrap() {
                Told::Data(data) => {
                    if self.grants {
                        let more =
                            v1::ForwardWindow { connection_id: data.connection_id, bytes: data.data.len() as u32 };
                        let _ = self.ask.send(v1::ForwardPortRequest { message: Some(Ask::Window(more)) }).await;
                    }
                    self.data.entry(data.connection_id).or_default().extend_from_slice(&data.data);
                }
                Told::End(end) => self.ended.push(end.connection_id),
                Told::Reset(reset) => {
                    self.reset.insert(reset.connection_id, reset.reason());
                }
                Told::Window(window) => self.granted += u64::from(window.bytes),
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&self, id: u64) -> &str {
        self.data.get(&id).map_or("", |data| std::str::from_utf8(data).unwrap())
    }
}

async fn served() -> (House, String) {
    let house = House::open().await;
    let container = house.spawn(image(PYTHON, &["python3", "-c", SERVER])).await.unwrap();
    let request = v1::StreamLogsRequest { container_id: container.id.clone(), follow: true, ..Default::default() };
    let mut log = house.containers().await.stream_logs(request).await.unwrap().into_inner();
    while let Some(entry) = log.message().await.unwrap() {
        if matches!(entry.entry, Some(v1::stream_logs_response::Entry::Chunk(_))) {
            break;
        }
    }
    (house, container.id)
}

fn start(id: &str) -> v1::ForwardStart {
    v1::ForwardStart { container_id: id.into(), port: 8000, ..Default::default() }
}

#[tokio::test]
async fn many_connections_share_a_stream() {
    if !docker() {
        return;
    }
    let (house, id) = served().await;
    let mut forward = Forward::open(&house, start(&id)).await.unwrap();
    for number in 1..=50 {
        forward.connect(number, 0).await;
        forward.data(number, format!("hello {number}\n").as_bytes()).await;
    }
    forward.until(|all| (1..=50).all(|number| all.text(number) == format!("HELLO {number}\n"))).await.unwrap();
    // Each way ends by itself.
    forward.end(7).await;
    forward.until(|all| all.ended == [7]).await.unwrap();
    assert_eq!(forward.text(7), "HELLO 7\nbye\n");
    forward.data(8, b"again\n").await;
    forward.until(|all| all.text(8) == "HELLO 8\nAGAIN\n").await.unwrap();
    // Nobody listens there; closed hard.
    forward.connect(51, 9).await;
    forward.data(9, b"reset\n").await;
    forward.until(|all| all.reset.len() == 2).await.unwrap();
    assert_eq!((forward.reset[&51], forward.reset[&9]), (Why::Refused, Why::ResetByPeer));
    // What comes late for one that is over is nothing.
    forward.data(9, b"late\n").await;
    forward.data(10, b"last\n").await;
    forward.until(|all| all.text(10) == "HELLO 10\nLAST\n").await.unwrap();
}

#[tokio::test]
async fn a_slow_connection_does_not_hold_up_another() {
    if !docker() {
        return;
    }
    let (house, id) = served().await;
    let mut forward = Forward::open(&house, start(&id)).await.unwrap();
    forward.grants = false;
    forward.connect(1, 0).await;
    forward.data(1, b"flood 20000000\n").await;
    forward.until(|all| all.data.get(&1).is_some_and(|data| data.len() == 1 << 20)).await.unwrap();
    forward.connect(2, 0).await;
    forward.data(2, b"quick\n").await;
    forward.until(|all| all.text(2) == "QUICK\n").await.unwrap();
    assert_eq!(forward.data[&1].len(), 1 << 20, "no more than was granted");
    forward.grants = true;
    forward.say(Ask::Window(v1::ForwardWindow { connection_id: 1, bytes: 1 << 20 })).await;
    forward.until(|all| all.data[&1].len() == 20_000_000).await.unwrap();
    // And the other way: as much as is granted, and again.
    forward.connect(3, 0).await;
    forward.data(3, b"count 8000000\n").await;
    let (mut sent, before) = (14u64, forward.granted);
    let mut left = 8_000_000u64;
    while left > 0 {
        let room = (1 << 20) + forward.granted - before - sent;
        if room == 0 {
            let now = forward.granted;
            forward.until(|all| all.granted > now).await.unwrap();
            continue;
        }
        let piece = room.min(left).min(256 << 10);
        forward.data(3, &vec![b'y'; piece as usize]).await;
        (sent, left) = (sent + piece, left - piece);
    }
    forward.until(|all| all.text(3) == "counted\n").await.unwrap();
}

#[tokio::test]
async fn what_is_out_of_order_ends_the_stream() {
    if !docker() {
        return;
    }
    let (house, id) = served().await;
    let wrong = |message: Ask| message;
    for (message, code) in [
        (wrong(Ask::Data(v1::ForwardData { connection_id: 5, ..Default::default() })), Code::InvalidArgument),
        (wrong(Ask::Start(start(&id))), Code::InvalidArgument),
        (wrong(Ask::Connect(v1::ForwardConnect { connection_id: 0, port: 0 })), Code::InvalidArgument),
        (wrong(Ask::Connect(v1::ForwardConnect { connection_id: 1, port: 70_000 })), Code::InvalidArgument),
    ] {
        let mut forward = Forward::open(&house, start(&id)).await.unwrap();
        forward.say(message).await;
        assert_eq!(forward.until(|_| false).await.unwrap_err().code(), code);
    }
    // More than was granted.
    let mut forward = Forward::open(&house, start(&id)).await.unwrap();
    forward.connect(1, 0).await;
    forward.data(1, &vec![b'x'; (1 << 20) + 1]).await;
    assert_eq!(forward.until(|_| false).await.unwrap_err().code(), Code::ResourceExhausted);
    // The container ends, and its connections with it.
    let mut forward = Forward::open(&house, start(&id)).await.unwrap();
    forward.connect(1, 0).await;
    forward.data(1, b"up\n").await;
    forward.until(|all| all.text(1) == "UP\n").await.unwrap();
    house.kill(&id).await;
    forward.until(|all| all.reset.contains_key(&1)).await.unwrap();
    assert_eq!(forward.reset[&1], Why::ContainerEnded);
    let error = Forward::open(&house, start(&id)).await.err().unwrap();
    assert_eq!(&*reason(&error), "CONTAINER_NOT_READY");
    let closed = House::with("allow_forward = false\n").await;
    let container = closed.idle().await;
    let error = Forward::open(&closed, start(&container.id)).await.err().unwrap();
    assert_eq!(&*reason(&error), "POLICY_DENIED");
}
