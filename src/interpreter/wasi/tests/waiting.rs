//! Streams, time and the channel, as a guest sees them.

use super::super::Channel;
use super::super::errno::Errno;
use super::harness::*;
use super::{base, config};
use crate::domain::event::{LogLevel, OutputStream, Progress};
use crate::domain::io::{InputRead, InputSource, OutputSink};
use bytes::Bytes;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Input that a test hands over piece by piece; an empty piece is its end.
#[derive(Default)]
struct Pieces(Mutex<(Vec<Bytes>, Option<Waker>)>);

impl Pieces {
    fn give(&self, bytes: &'static [u8]) {
        let mut held = self.0.lock();
        held.0.push(Bytes::from_static(bytes));
        if let Some(waker) = held.1.take() {
            waker.wake();
        }
    }
}

impl InputSource for Pieces {
    fn read(&self, max: usize) -> InputRead {
        let mut held = self.0.lock();
        match held.0.first_mut() {
            None => InputRead::Pending,
            Some(piece) if piece.is_empty() => InputRead::Eof,
            Some(piece) => {
                let data = piece.split_to(max.min(piece.len()));
                if piece.is_empty() {
                    held.0.remove(0);
                }
                InputRead::Data(data)
            }
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut held = self.0.lock();
        if held.0.is_empty() {
            held.1 = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<(OutputStream, Bytes)>>);

impl OutputSink for Heard {
    fn write(&self, stream: OutputStream, data: Bytes) {
        self.0.lock().push((stream, data));
    }
    fn log(&self, _: LogLevel, _: String) {}
    fn progress(&self, _: Progress) {}
}

struct Upper;

impl Channel for Upper {
    fn call(&self, request: Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send + '_>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            request.to_ascii_uppercase().into()
        })
    }
}

async fn guest() -> (Guest, Arc<Pieces>, Arc<Heard>) {
    let mut guest = Guest::new(config(base(), 1 << 20)).await;
    let (input, output) = (Arc::new(Pieces::default()), Arc::new(Heard::default()));
    guest.store.data_mut().connect(Some(input.clone()), Some(output.clone()), Some(Arc::new(Upper)));
    (guest, input, output)
}

/// Subscriptions of a poll: to a time in milliseconds, or to a descriptor.
fn subscription(user: u64, kind: u8, clock_or_fd: u32, milliseconds: u64) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(&user.to_le_bytes());
    bytes[8] = kind;
    bytes[16..20].copy_from_slice(&clock_or_fd.to_le_bytes());
    bytes[24..32].copy_from_slice(&(milliseconds * 1_000_000).to_le_bytes());
    bytes
}

/// What happened: user data, error and kind.
async fn poll(guest: &mut Guest, subscriptions: &[[u8; 48]]) -> Result<Vec<(u64, u16, u8)>, u16> {
    guest.set(BUFFER, &subscriptions.concat());
    let events = BUFFER + 8192;
    let arguments = [BUFFER.into(), events.into(), subscriptions.len() as u64, RESULT.into()];
    guest.call("poll_oneoff", &arguments).await?;
    let count = guest.u32(RESULT);
    let at = |index: u32| events + index * 32;
    let kind = |at: u32| u16::from_le_bytes(guest.get(at + 8, 2).try_into().unwrap());
    Ok((0..count).map(|index| (guest.u64(at(index)), kind(at(index)), guest.get(at(index) + 10, 1)[0])).collect())
}

#[tokio::test]
async fn streams_go_to_their_ports() {
    let (mut guest, input, output) = guest().await;
    assert_eq!(guest.write(1, b"to stdout").await, Ok(9));
    assert_eq!(guest.write(2, b"to stderr").await, Ok(9));
    let long = vec![b'x'; 100_000];
    assert_eq!(guest.write(1, &long).await, Ok(65_536));
    {
        let heard = output.0.lock();
        assert_eq!(heard[0], (OutputStream::Stdout, Bytes::from_static(b"to stdout")));
        assert_eq!(heard[1], (OutputStream::Stderr, Bytes::from_static(b"to stderr")));
        assert_eq!(heard[2].1.len(), 65_536);
    }
    input.give(b"some input");
    assert_eq!(guest.read(0, 4).await.unwrap(), b"some");
    assert_eq!(guest.read(0, 100).await.unwrap(), b" input");
    let (read, ()) = tokio::join!(guest.read(0, 100), async { input.give(b"late") });
    assert_eq!(read.unwrap(), b"late");
    input.give(b"");
    assert_eq!(guest.read(0, 100).await.unwrap(), b"");
    assert_eq!(guest.write(0, b"x").await, Err(Errno::NOTCAPABLE.0));
    assert_eq!(guest.read(1, 1).await, Err(Errno::NOTCAPABLE.0));
    assert_eq!(guest.seek(1, 0, 1).await, Err(Errno::SPIPE.0));
}

#[tokio::test]
async fn the_first_of_several_events_ends_a_poll() {
    let (mut guest, input, _) = guest().await;
    let begun = tokio::time::Instant::now();
    let late = subscription(1, 0, 1, 60_000);
    let early = subscription(2, 0, 1, 50);
    let stdin = subscription(3, 1, 0, 0);
    assert_eq!(poll(&mut guest, &[late, early, stdin]).await.unwrap(), [(2, 0, 0)]);
    assert!((50..30_000).contains(&begun.elapsed().as_millis()));
    let both = [late, stdin];
    let (events, ()) = tokio::join!(poll(&mut guest, &both), async { input.give(b"x") });
    assert_eq!(events.unwrap(), [(3, 0, 1)]);
    let (file, closed) = (subscription(4, 2, 1, 0), subscription(5, 1, 77, 0));
    assert_eq!(poll(&mut guest, &[late, file, closed]).await.unwrap(), [(4, 0, 2), (5, Errno::BADF.0, 1)]);
    assert_eq!(poll(&mut guest, &[]).await, Err(Errno::INVAL.0));
    assert_eq!(poll(&mut guest, &[subscription(6, 9, 0, 0)]).await, Err(Errno::INVAL.0));
    assert!(begun.elapsed().as_secs() < 60);
    guest.call("sched_yield", &[]).await.unwrap();
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes(), message].concat()
}

#[tokio::test]
async fn the_channel_answers_whole_messages() {
    let (mut guest, _, _) = guest().await;
    let fd = guest.open("dev/host", 0, READ | WRITE, 0).await.unwrap();
    let request = framed(b"hello");
    guest.write(fd, &request[..6]).await.unwrap();
    guest.write(fd, &request[6..]).await.unwrap();
    assert_eq!(guest.read(fd, 4).await.unwrap(), 5_u32.to_le_bytes());
    assert_eq!(guest.read(fd, 100).await.unwrap(), b"HELLO");
    // Half a message is forgotten once it was to be answered.
    guest.write(fd, &request[..6]).await.unwrap();
    assert_eq!(guest.read(fd, 4).await, Err(Errno::INVAL.0));
    guest.write(fd, &request).await.unwrap();
    assert_eq!(guest.read(fd, 100).await.unwrap(), framed(b"HELLO"));
    guest.write(fd, &framed(b"")).await.unwrap();
    assert_eq!(guest.read(fd, 100).await.unwrap(), framed(b""));
    // What they hold in memory is bounded.
    let mut open = 1;
    while guest.open("dev/host", 0, READ | WRITE, 0).await.is_ok() {
        open += 1;
    }
    assert_eq!(open, 4);
    let long = vec![0; 200_000];
    let mut written = 0;
    let refused = loop {
        match guest.write(fd, &long).await {
            Ok(more) => written += more,
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, Errno::FBIG.0);
    assert!(written as usize <= super::super::MAX_FRAME + 4);
    guest.store.data_mut().connect(None, None, None);
    let other = guest.open("dev/host", 0, READ | WRITE, 0).await;
    assert_eq!(other, Err(Errno::BUSY.0));
}
