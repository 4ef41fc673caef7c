//! A kernel as its client sees it: requests, and what comes of them.

use super::message::{Message, Signer};
use super::zmtp::{self, Kind, Reader, Writer};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Messages of a request that wait to be taken; the kernel waits then.
const WAITING: usize = 64;
/// Time between two questions whether a kernel is ready.
const AGAIN: Duration = Duration::from_millis(100);

/// Connections to one kernel.
pub struct Streams<S> {
    /// Where requests go and are answered.
    pub shell: S,
    /// Where it publishes output.
    pub published: S,
    /// Where it asks for input.
    pub stdin: S,
    /// Where it can be reached while it is busy.
    pub control: S,
}

/// What is heard of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Output, and how the kernel stands.
    Published(Message),
    /// The answer.
    Replied(Message),
    /// The kernel asks for input.
    Asked(Message),
}

/// A kernel.
pub struct Client {
    signer: Signer,
    shell: mpsc::UnboundedSender<Vec<Bytes>>,
    stdin: mpsc::UnboundedSender<Vec<Bytes>>,
    control: mpsc::UnboundedSender<Vec<Bytes>>,
    listening: Listening,
    heard: mpsc::Receiver<Heard>,
    _at_work: JoinSet<()>,
}

/// The request whose answers are wanted, and where they go. All others are thrown away.
type Listening = Arc<Mutex<Option<(String, mpsc::Sender<Heard>)>>>;

impl Client {
    /// Greets a kernel. An error says what is wrong with it.
    pub async fn open<S>(streams: Streams<S>, signer: Signer) -> Result<Client, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let identity = signer.session().to_owned();
        let open = |stream, kind| zmtp::open(stream, kind, &identity);
        let opened = tokio::try_join!(
            open(streams.shell, Kind::Dealer),
            open(streams.published, Kind::Subscriber),
            open(streams.stdin, Kind::Dealer),
            open(streams.control, Kind::Dealer),
        );
        let (shell, published, stdin, control) = opened.map_err(|error| error.to_string())?;
        let (listening, mut at_work) = (Listening::default(), JoinSet::new());
        let mut hear = |reader: Reader<S>, as_what: fn(Message) -> Heard| {
            at_work.spawn(hear(reader, signer.clone(), listening.clone(), as_what));
        };
        hear(shell.0, Heard::Replied);
        hear(published.0, Heard::Published);
        hear(stdin.0, Heard::Asked);
        hear(control.0, Heard::Replied);
        let mut say = |writer: Writer<S>| {
            let (send, words) = mpsc::unbounded_channel();
            at_work.spawn(say(writer, words));
            send
        };
        let (shell, stdin, control) = (say(shell.1), say(stdin.1), say(control.1));
        let (_, heard) = mpsc::channel(1);
        Ok(Client { signer, shell, stdin, control, listening, heard, _at_work: at_work })
    }

    /// Waits until the kernel answers, and until what it publishes arrives. Answers what it says of itself.
    pub async fn ready(&mut self) -> Value {
        let (mut info, mut publishes) = (None, false);
        loop {
            // A kernel does not keep what it published before anybody listened.
            self.ask("kernel_info_request", json!({}));
            let again = tokio::time::sleep(AGAIN);
            let mut again = std::pin::pin!(again);
            loop {
                if publishes && let Some(info) = info.take() {
                    return info;
                }
                tokio::select! {
                    heard = self.heard.recv() => match heard {
                        Some(Heard::Replied(message)) => info = Some(message.content),
                        Some(Heard::Published(_)) => publishes = true,
                        Some(Heard::Asked(_)) => {}
                        None => return std::future::pending().await,
                    },
                    () = &mut again => break,
                }
            }
        }
    }

    /// Begins to run code. What was asked before is not listened to any more.
    pub fn execute(&mut self, code: &str) {
        let content = json!({
            "code": code, "silent": false, "store_history": true, "user_expressions": {}, "allow_stdin": true,
            "stop_on_error": false,
        });
        self.ask("execute_request", content);
    }

    fn ask(&mut self, kind: &str, content: Value) {
        let id = Uuid::now_v7().to_string();
        let (send, heard) = mpsc::channel(WAITING);
        self.heard = heard;
        *self.listening.lock() = Some((id.clone(), send));
        let _ = self.shell.send(self.signer.request(kind, &id, &content));
    }

    /// What is heard next of what was asked last. None once the kernel says nothing any more.
    pub async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// Answers the kernel's question.
    pub fn answer(&self, line: &str) {
        let id = Uuid::now_v7().to_string();
        let _ = self.stdin.send(self.signer.request("input_reply", &id, &json!({ "value": line })));
    }

    /// Asks a kernel to leave what it is at; for those that heed messages rather than signals.
    pub fn interrupt(&self) {
        let id = Uuid::now_v7().to_string();
        let _ = self.control.send(self.signer.request("interrupt_request", &id, &json!({})));
    }
}

/// Passes on what belongs to the request that is listened to.
async fn hear<S: AsyncRead>(
    mut reader: Reader<S>,
    signer: Signer,
    listening: Listening,
    as_what: fn(Message) -> Heard,
) {
    while let Ok(parts) = reader.next().await {
        let message = match signer.read(parts) {
            Ok(message) => message,
            Err(problem) => {
                tracing::debug!(problem, "a kernel said what is no message");
                continue;
            }
        };
        let to = match &*listening.lock() {
            Some((id, to)) if *id == message.parent => to.clone(),
            _ => continue,
        };
        let _ = to.send(as_what(message)).await;
    }
    // Nobody is told more: what is awaited will not come.
    *listening.lock() = None;
}

async fn say<S: AsyncWrite>(mut writer: Writer<S>, mut words: mpsc::UnboundedReceiver<Vec<Bytes>>) {
    while let Some(parts) = words.recv().await {
        if writer.send(&parts).await.is_err() {
            return;
        }
    }
}
