//! Kernels that speak Jupyter's messaging protocol (version 5), as a client.
//!
//! A kernel runs where its code may run, so what it says is data: its messages are bounded in size before any of it is
//! kept, signed with the key that it was started with, and worth nothing beyond the call that they answer. That is why
//! the frames of ZeroMQ are read here and not by a library: those at hand make room for as many bytes as a peer
//! announces. Nothing in this room knows where a kernel is; it is handed streams.

mod client;
mod message;
mod zmtp;

pub use client::{Client, Heard, Streams};
pub use message::{Message, Signer};

/// What the fuzz target needs: what is heard of bytes.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{Message, Signer, zmtp};
    use bytes::Bytes;
    use tokio::io::{empty, join, sink};

    /// Bytes of one message that are kept at most.
    pub const LARGEST: u64 = zmtp::LARGEST;

    /// Every message of a stream: its parts, and the bytes that were thrown away.
    pub async fn messages(stream: &[u8]) -> Vec<(Vec<Bytes>, u64)> {
        let mut reader = zmtp::reader(join(stream, sink()));
        let mut all = Vec::new();
        while let Ok(zmtp::Parts { parts, lost }) = reader.next().await {
            all.push((parts, lost));
        }
        all
    }

    /// A message as it is sent.
    pub async fn sent(parts: &[Bytes]) -> Vec<u8> {
        let mut out = Vec::new();
        zmtp::writer(join(empty(), &mut out)).send(parts).await.expect("a vector takes everything");
        out
    }

    /// Reads a message; an error says how it is none.
    pub fn read(signer: &Signer, parts: Vec<Bytes>, lost: u64) -> Result<Message, &'static str> {
        signer.read(zmtp::Parts { parts, lost })
    }

    /// A request as it is sent.
    pub fn request(signer: &Signer, kind: &str, content: &serde_json::Value) -> Vec<Bytes> {
        signer.request(kind, "1", content)
    }
}
