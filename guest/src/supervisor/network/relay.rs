//! Bytes between a connection and a channel.

use std::cell::RefCell;
use std::io::{self, ErrorKind};

use bytes::Bytes;
use casemate_guest::protocol::{Answer, Failure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::supervisor::channel::Channel;

const BUFFER: usize = 64 << 10;

thread_local! {
    /// Where bytes are read before they are sent: one for all connections.
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Passes bytes on both ways until each has ended. A connection that does not end well is cut, so that who is at its
/// other end can tell.
///
/// # Errors
/// It was cut.
pub async fn relay(channel: &Channel, stream: TcpStream) -> Result<Answer, Failure> {
    let mut cut = Cut { stream, whole: false };
    let (reader, mut writer) = cut.stream.split();
    let out = async {
        loop {
            let room = channel.room().await;
            // Waits without a buffer: most connections are idle most of the time.
            reader.readable().await.map_err(named)?;
            let read = READ.with_borrow_mut(|buffer| {
                buffer.resize(BUFFER, 0);
                let buffer = &mut buffer[..room.min(BUFFER)];
                reader.try_read(buffer).map(|length| Bytes::copy_from_slice(&buffer[..length]))
            });
            match read {
                Ok(bytes) if bytes.is_empty() => {
                    channel.end_output();
                    return Ok(());
                }
                Ok(bytes) => channel.send(bytes),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                Err(error) => return Err(named(error)),
            }
            tokio::task::yield_now().await;
        }
    };
    let into = async {
        while let Some(bytes) = channel.receive().await {
            writer.write_all(&bytes).await.map_err(named)?;
        }
        match writer.shutdown().await {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            ended => ended.map_err(named),
        }
    };
    tokio::try_join!(out, into)?;
    cut.whole = true;
    Ok(Answer::Done)
}

/// The name of an error of a connection.
pub fn named(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Failure::Reset,
        _ => Failure::Other(error.to_string()),
    }
}

/// A connection that is reset unless it ended well.
struct Cut {
    stream: TcpStream,
    whole: bool,
}

impl Drop for Cut {
    fn drop(&mut self) {
        if !self.whole {
            let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(std::time::Duration::ZERO));
        }
    }
}
