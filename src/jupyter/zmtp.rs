//! ZeroMQ's transport protocol, version 3.0 without security, as far as a client of kernels needs it.

use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

/// Bytes of one message that are kept; what is beyond is read and thrown away.
pub(super) const LARGEST: u64 = 32 << 20;
/// Parts of one message that are kept.
const PARTS: usize = 64;
/// Bytes of a command, of which only short ones are known.
const COMMAND: u64 = 4 << 10;
/// Bytes taken from the stream at once.
const BUFFER: usize = 64 << 10;

const MORE: u8 = 1;
const LONG: u8 = 2;
const IS_COMMAND: u8 = 4;

/// What a socket does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Says and hears, to and from one peer.
    Dealer,
    /// Hears all that is published.
    Subscriber,
}

/// A message: its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub parts: Vec<Bytes>,
    /// Bytes that were thrown away, because there were too many.
    pub lost: u64,
}

/// The side that hears.
pub(super) struct Reader<S> {
    stream: ReadHalf<S>,
    buffer: BytesMut,
}

/// The side that says.
pub(super) struct Writer<S> {
    stream: WriteHalf<S>,
}

/// Greets the peer. Both sides of a socket of the same identity are one to a peer with several sockets.
pub(super) async fn open<S>(stream: S, kind: Kind, identity: &str) -> io::Result<(Reader<S>, Writer<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, mut writer) = (Reader { stream: reader, buffer: BytesMut::new() }, Writer { stream: writer });
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    writer.stream.write_all(&greeting).await?;
    let theirs = reader.exactly(64).await?;
    if theirs[0] != 0xff || theirs[9] & 1 == 0 || theirs[10] < 3 {
        return Err(wrong("it does not speak ZeroMQ's protocol of version 3"));
    }
    if &theirs[12..17] != b"NULL\0" {
        return Err(wrong("it wants security that kernels do not have"));
    }
    writer.stream.write_all(&ready(kind, identity)).await?;
    let (flags, length) = reader.head().await?;
    if flags & IS_COMMAND == 0 || length > COMMAND {
        return Err(wrong("its first word is no greeting"));
    }
    let command = reader.exactly(length as usize).await?;
    if !command.starts_with(b"\x05READY") {
        return Err(wrong("it refuses the connection"));
    }
    if kind == Kind::Subscriber {
        // To everything.
        writer.send(&[Bytes::from_static(&[1])]).await?;
    }
    Ok((reader, writer))
}

/// The side that hears, of a stream without a greeting.
#[cfg(any(test, fuzzing))]
pub(super) fn reader<S: AsyncRead + AsyncWrite>(stream: S) -> Reader<S> {
    Reader { stream: tokio::io::split(stream).0, buffer: BytesMut::new() }
}

/// The side that says, of a stream without a greeting.
#[cfg(fuzzing)]
pub(super) fn writer<S: AsyncRead + AsyncWrite>(stream: S) -> Writer<S> {
    Writer { stream: tokio::io::split(stream).1 }
}

fn ready(kind: Kind, identity: &str) -> Bytes {
    let kind: &[u8] = match kind {
        Kind::Dealer => b"DEALER",
        Kind::Subscriber => b"SUB",
    };
    let mut body = BytesMut::from(&b"\x05READY"[..]);
    for (name, value) in [("Socket-Type", kind), ("Identity", identity.as_bytes())] {
        body.put_u8(name.len() as u8);
        body.put_slice(name.as_bytes());
        body.put_u32(value.len() as u32);
        body.put_slice(value);
    }
    let mut frame = BytesMut::new();
    frame.put_u8(IS_COMMAND);
    frame.put_u8(body.len() as u8);
    frame.put_slice(&body);
    frame.freeze()
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl<S: AsyncWrite> Writer<S> {
    /// Sends a message.
    pub async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let mut words = BytesMut::new();
        for (at, part) in parts.iter().enumerate() {
            let more = if at + 1 < parts.len() { MORE } else { 0 };
            match u8::try_from(part.len()) {
                Ok(length) => words.put_slice(&[more, length]),
                Err(_) => {
                    words.put_u8(more | LONG);
                    words.put_u64(part.len() as u64);
                }
            }
            words.put_slice(part);
        }
        self.stream.write_all(&words).await
    }
}

impl<S: AsyncRead> Reader<S> {
    /// The next message. To be called to its end: half a message that was read is lost with the call.
    pub async fn next(&mut self) -> io::Result<Parts> {
        let mut message = Parts::default();
        let mut kept = 0;
        loop {
            let (flags, length) = self.head().await?;
            if flags & IS_COMMAND != 0 {
                // All but the greeting are hints that nobody has to heed.
                self.skip(length).await?;
                continue;
            }
            if length > LARGEST - kept || message.parts.len() >= PARTS {
                self.skip(length).await?;
                message.lost = message.lost.saturating_add(length);
                if message.parts.len() < PARTS {
                    message.parts.push(Bytes::new());
                }
            } else {
                kept += length;
                message.parts.push(self.exactly(length as usize).await?);
            }
            if flags & MORE == 0 {
                return Ok(message);
            }
        }
    }

    async fn head(&mut self) -> io::Result<(u8, u64)> {
        let flags = self.exactly(1).await?[0];
        if flags & !(MORE | LONG | IS_COMMAND) != 0 {
            return Err(wrong("a frame of an unknown kind"));
        }
        let length = match flags & LONG {
            0 => u64::from(self.exactly(1).await?[0]),
            _ => self.exactly(8).await?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        Ok((flags, length))
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let here = self.buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let _ = self.buffer.split_to(here);
            length -= here as u64;
        }
        Ok(())
    }

    /// Makes room for what is there, never for what is announced.
    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(BUFFER);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{DuplexStream, duplex};

    async fn pair() -> ((Reader<DuplexStream>, Writer<DuplexStream>), (Reader<DuplexStream>, Writer<DuplexStream>)) {
        let (ours, theirs) = duplex(1 << 20);
        let (ours, theirs) = tokio::join!(open(ours, Kind::Dealer, "me"), open(theirs, Kind::Dealer, "you"));
        (ours.unwrap(), theirs.unwrap())
    }

    #[tokio::test]
    async fn messages_arrive_as_they_were_sent() {
        let ((_, mut writer), (mut reader, _)) = pair().await;
        for parts in [vec![""], vec!["a", "", "b"], vec![&*"x".repeat(255), &*"y".repeat(256), &*"z".repeat(70_000)]] {
            let parts: Vec<Bytes> = parts.into_iter().map(|part| Bytes::copy_from_slice(part.as_bytes())).collect();
            writer.send(&parts).await.unwrap();
            assert_eq!(reader.next().await.unwrap(), Parts { parts, lost: 0 });
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_thrown_away_and_the_next_is_heard() {
        let ((_, mut writer), (mut reader, _)) = pair().await;
        let large = Bytes::from(vec![7; LARGEST as usize]);
        let sent = tokio::spawn(async move {
            writer.send(&[Bytes::from_static(b"one"), large, Bytes::from_static(b"two")]).await.unwrap();
            writer.send(&vec![Bytes::from_static(b"p"); PARTS + 3]).await.unwrap();
            writer.send(&[Bytes::from_static(b"next")]).await.unwrap();
        });
        let message = reader.next().await.unwrap();
        assert_eq!((message.lost, message.parts.len()), (LARGEST, 3));
        assert_eq!((&*message.parts[0], &*message.parts[1], &*message.parts[2]), (&b"one"[..], &b""[..], &b"two"[..]));
        let message = reader.next().await.unwrap();
        assert_eq!((message.lost, message.parts.len()), (3, PARTS));
        assert_eq!(reader.next().await.unwrap().parts, [Bytes::from_static(b"next")]);
        sent.await.unwrap();
    }

    #[tokio::test]
    async fn a_length_that_is_announced_takes_no_room() {
        let ((_, mut writer), (mut reader, _)) = pair().await;
        writer.stream.write_all(&[LONG, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]).await.unwrap();
        drop(writer);
        assert_eq!(reader.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(reader.buffer.capacity() <= 2 * BUFFER);
    }

    #[tokio::test]
    async fn who_speaks_something_else_is_told_apart() {
        for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n-------------------------------------------"[..], &[0xff; 64]] {
            let (ours, mut theirs) = duplex(1 << 20);
            theirs.write_all(said).await.unwrap();
            assert!(open(ours, Kind::Subscriber, "").await.is_err());
        }
    }

    proptest! {
        /// Whatever comes is heard or refused, without a panic.
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (ours, mut theirs) = duplex(1 << 20);
                theirs.write_all(&bytes).await.unwrap();
                drop(theirs);
                let mut reader = reader(ours);
                while reader.next().await.is_ok() {}
            });
        }
    }
}
