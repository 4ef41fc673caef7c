//! Connections to TCP ports inside containers, through the supervisor.

use super::files::Place;
use super::link::{Conversation, Said};

pub use super::link::Speaker;

use super::manager::{Containers, Viewer};
use crate::error::{Error, Result};
use bytes::{Bytes, BytesMut};
use casemate_guest::protocol::{Failure, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// The way to the ports of a container.
pub struct Ports {
    place: Place,
}

/// Why a connection is over, or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing listens at the port.
    Refused,
    /// The process closed it hard, or ended.
    Reset,
    /// As many connections are open as may be.
    TooMany,
    /// The container is over or paused.
    Ended,
}

/// A connection: what is heard of it.
pub struct Connection {
    conversation: Conversation,
}

/// What is heard of a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Bytes.
    Data(Bytes),
    /// The process sends no more; it may still receive.
    End,
    /// Both sides are done.
    Done,
    /// It is cut.
    Cut(Cut),
}

impl Containers {
    /// The way to the ports of a container that runs.
    pub async fn ports(&self, container: &str, viewer: &Viewer) -> Result<Ports> {
        if !self.config.forward {
            let problem = "the operator forwards no ports of containers (containers.allow_forward)".to_owned();
            return Err(Error::PolicyDenied { field: "port".into(), problem });
        }
        Ok(Ports { place: self.place(container, viewer, "container_id", "/").await? })
    }
}

impl Ports {
    /// Connects to a port on the loopback interface.
    pub async fn connect(&self, port: u16) -> std::result::Result<Connection, Cut> {
        match self.place.ask(Request::Connect { port }).await {
            Ok(conversation) => Connection::begun(conversation).await,
            Err(Error::Overloaded { .. }) => Err(Cut::TooMany),
            Err(_) => Err(Cut::Ended),
        }
    }
}

impl Connection {
    /// Once it stands.
    pub(super) async fn begun(mut conversation: Conversation) -> std::result::Result<Connection, Cut> {
        match conversation.next().await {
            Some(Said::Began(_)) => {
                conversation.widen();
                Ok(Connection { conversation })
            }
            Some(Said::Done(Err(failure))) => Err(cut(&failure)),
            _ => Err(Cut::Ended),
        }
    }

    /// What sends on it, while somebody listens.
    pub fn speaker(&self) -> Speaker {
        self.conversation.speaker().clone()
    }

    /// What is heard next.
    pub async fn next(&mut self) -> Heard {
        loop {
            return match self.conversation.next().await {
                Some(Said::Data(data)) => Heard::Data(data),
                Some(Said::End) => Heard::End,
                Some(Said::Done(Ok(_))) => Heard::Done,
                Some(Said::Done(Err(failure))) => Heard::Cut(cut(&failure)),
                Some(_) => continue,
                None => Heard::Cut(Cut::Ended),
            };
        }
    }

    /// Passes bytes on both ways until each has ended, or one is cut.
    pub async fn relay(mut self, stream: impl AsyncRead + AsyncWrite) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let speaker = self.speaker();
        let into = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(BUFFER);
                match reader.read_buf(&mut buffer).await {
                    Ok(0) => {
                        speaker.finish();
                        // The guest says when both ways are done.
                        std::future::pending::<()>().await;
                    }
                    Ok(_) if speaker.send(buffer.split().freeze()).await => {}
                    _ => return,
                }
            }
        };
        let out = async {
            // What nobody takes any more is thrown away: a connection that is cut for it would lose the last words.
            loop {
                let _ = match self.next().await {
                    Heard::Data(data) => writer.write_all(&data).await,
                    Heard::End => writer.shutdown().await,
                    Heard::Done | Heard::Cut(_) => return,
                };
            }
        };
        tokio::select! {
            () = out => {}
            () = into => {}
        }
    }
}

impl From<Conversation> for Connection {
    fn from(conversation: Conversation) -> Connection {
        Connection { conversation }
    }
}

fn cut(failure: &Failure) -> Cut {
    match failure {
        Failure::Refused | Failure::NotPermitted => Cut::Refused,
        Failure::TooMany(_) => Cut::TooMany,
        Failure::Dropped => Cut::Ended,
        _ => Cut::Reset,
    }
}
