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
/// How long what a kernel publishes may take after its answer, before it is asked again.
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
        loop {
            self.ask("kernel_info_request", json!({}));
            let (mut info, mut publishes) = (None, false);
            while info.is_none() {
                match self.heard.recv().await {
                    Some(Heard::Replied(message)) => info = Some(message.content),
                    Some(Heard::Published(_)) => publishes = true,
                    Some(Heard::Asked(_)) => {}
                    None => return std::future::pending().await,
                }
            }
            // A kernel does not keep what it published before anybody listened. Only once it has answered is it asked
            // again: one that is slow would otherwise answer questions that nobody remembers.
            let hears = async {
                while !publishes {
                    match self.heard.recv().await {
                        Some(Heard::Published(_)) => publishes = true,
                        Some(_) => {}
                        None => return std::future::pending().await,
                    }
                }
            };
            if let (Some(info), Ok(())) = (info, tokio::time::timeout(AGAIN, hears).await) {
                return info;
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    struct Other {
        signer: Signer,
        shell: (Reader<DuplexStream>, Writer<DuplexStream>),
        published: (Reader<DuplexStream>, Writer<DuplexStream>),
        _others: [(Reader<DuplexStream>, Writer<DuplexStream>); 2],
    }

    /// A client, and what it takes for a kernel.
    async fn pair() -> (Client, Other) {
        let signer = Signer::new("key", "s");
        let ends: Vec<_> = (0..4).map(|_| duplex(1 << 20)).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        let [shell, published, stdin, control] = ours.try_into().unwrap_or_else(|_| unreachable!("four"));
        let client = Client::open(Streams { shell, published, stdin, control }, signer.clone());
        let [shell, published, stdin, control] = theirs.try_into().unwrap_or_else(|_| unreachable!("four"));
        let open = |stream| zmtp::open(stream, Kind::Dealer, "");
        let other = async { tokio::try_join!(open(shell), open(published), open(stdin), open(control)).unwrap() };
        let (client, (shell, mut published, stdin, control)) = tokio::join!(client, other);
        assert_eq!(published.0.next().await.unwrap().parts, [Bytes::from_static(&[1])], "it listens to everything");
        (client.unwrap(), Other { signer, shell, published, _others: [stdin, control] })
    }

    impl Other {
        /// The id and the kind of the next request.
        async fn asked(&mut self) -> (String, String) {
            let parts = self.shell.0.next().await.unwrap();
            let header: Value = serde_json::from_slice(&parts.parts[2]).unwrap();
            let text = |key: &str| header[key].as_str().unwrap().to_owned();
            (text("msg_id"), text("msg_type"))
        }

        /// What a kernel says of a request.
        fn of(&self, request: &str, kind: &str, content: &Value) -> Vec<Bytes> {
            self.signer.answer(request, kind, content)
        }
    }

    #[tokio::test]
    async fn a_slow_kernel_is_waited_for_and_one_that_nobody_hears_is_asked_again() {
        let (mut client, mut other) = pair().await;
        let ready = tokio::spawn(async move {
            let info = client.ready().await;
            (client, info)
        });
        let (first, kind) = other.asked().await;
        assert_eq!(kind, "kernel_info_request");
        // It takes its time, and is asked nothing else meanwhile.
        let pressed = tokio::time::timeout(3 * AGAIN, other.asked()).await;
        assert!(pressed.is_err(), "it was asked again: {pressed:?}");
        other.shell.1.send(&other.of(&first, "kernel_info_reply", &json!({"n": 1}))).await.unwrap();
        // Nothing was published that anybody could hear.
        let (second, _) = other.asked().await;
        assert_ne!(first, second);
        other.published.1.send(&other.of(&second, "status", &json!({"execution_state": "busy"}))).await.unwrap();
        other.shell.1.send(&other.of(&second, "kernel_info_reply", &json!({"n": 2}))).await.unwrap();
        let (mut client, info) = ready.await.unwrap();
        assert_eq!(info, json!({"n": 2}));
        // What belongs to other requests, or is signed by somebody else, is not heard.
        client.execute("1");
        let (request, kind) = other.asked().await;
        assert_eq!(kind, "execute_request");
        other.published.1.send(&other.of(&second, "stream", &json!({"text": "old"}))).await.unwrap();
        let forged = Signer::new("other", "s").answer(&request, "stream", &json!({"text": "forged"}));
        other.published.1.send(&forged).await.unwrap();
        other.published.1.send(&other.of(&request, "stream", &json!({"text": "new"}))).await.unwrap();
        match client.next().await {
            Some(Heard::Published(message)) => assert_eq!(message.content, json!({"text": "new"})),
            heard => panic!("{heard:?}"),
        }
        drop(other);
        assert_eq!(client.next().await, None, "nobody is there");
    }
}
