//! A guest that lies, word by word.

mod conversations;

use super::*;
use crate::container::ports::{Connection, Heard};
use crate::domain::event::OutputStream;
use crate::domain::execution::Subject;
use crate::domain::limits::LimitsPolicy;
use crate::execution::{Begun, Lane, Live, NoObserver, Registry, RegistryConfig, Run, Start};
use crate::store::Store;
use bytes::Bytes;
use casemate_guest::protocol::{Decoder, Exit, FromGuest, Process, Spec, Stream, VERSION};
use futures_core::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

struct World {
    folder: tempfile::TempDir,
    link: Link,
    run: Run,
}

/// A gate that says what it hears.
struct Echo;

impl Gate for Echo {
    fn serve(&self, _: ContainerId, mut connection: Connection) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let speaker = connection.speaker();
            while let Heard::Data(data) = connection.next().await {
                speaker.send(data).await;
            }
            speaker.finish();
            connection.next().await;
        })
    }
}

async fn world() -> World {
    with(Settings { gate: Some(3128), ..Settings::default() }).await
}

async fn with(settings: Settings) -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::in_memory().unwrap());
    let config = RegistryConfig { ledgers: Some(folder.path().join("ledgers")), ..RegistryConfig::default() };
    let registry = Registry::open(store, config, Arc::new(NoObserver)).await.unwrap();
    let container = ContainerId::new();
    let start = Start {
        id: None,
        subject: Subject::Process { container: container.to_string().into(), command: vec!["x".into()], tty: false },
        principal: "p".into(),
        request: None,
        labels: Default::default(),
        limits: LimitsPolicy::default().defaults,
        stdin: Bytes::new(),
        stdin_given: Bytes::new(),
        stdin_open: false,
        session: None,
        parent: None,
        target: "".into(),
        lane: Lane::new("l", 1),
    };
    let Begun::New(run) = registry.begin_outside(start).await.unwrap() else { unreachable!("it is new") };
    let link = Link::listen(&folder.path().join("s"), container, settings, Arc::new(Echo)).unwrap();
    World { folder, link, run }
}

impl World {
    fn live(&self) -> &Arc<Live> {
        self.run.live()
    }

    /// Starts a process, and connects as its guest.
    async fn guest(&self) -> Guest {
        self.link.expect(std::process::id());
        self.link.start(Channel::new(self.live().clone(), Spec::default())).unwrap();
        let stream = UnixStream::connect(self.folder.path().join("s")).await.unwrap();
        Guest { stream, decoder: Decoder::default(), id: *self.live().origin().id.as_bytes() }
    }

    async fn broken(&self) -> String {
        self.link.connected().await.ok();
        let mut state = self.link.state();
        let found = state.wait_for(|state| matches!(state, LinkState::Broken(_))).await.unwrap();
        let LinkState::Broken(problem) = &*found else { unreachable!("waited for it") };
        problem.clone()
    }
}

struct Guest {
    stream: UnixStream,
    decoder: Decoder,
    id: ProcessId,
}

impl Guest {
    async fn say(&mut self, message: FromGuest, payload: &[u8]) {
        let mut bytes = BytesMut::new();
        encode(&message, payload, &mut bytes).unwrap();
        // A link that is broken already does not listen.
        let _ = self.stream.write_all(&bytes).await;
    }

    async fn hello(&mut self, version: u16, processes: Vec<Process>) {
        self.say(FromGuest::Hello { version, build: "test".into(), start: [0; 16], processes }, b"").await;
    }

    async fn output(&mut self, position: u64, offset: u64, data: &[u8]) {
        self.say(FromGuest::Output { id: self.id, stream: Stream::Stdout, position, offset }, data).await;
    }

    /// Reads until the server says this.
    async fn until(&mut self, wanted: impl Fn(&ToGuest) -> bool) {
        self.find(wanted).await;
    }

    /// As [`Guest::until`], with what came.
    async fn find(&mut self, wanted: impl Fn(&ToGuest) -> bool) -> (ToGuest, Bytes) {
        loop {
            let said = self.next().await;
            if wanted(&said.0) {
                return said;
            }
        }
    }

    /// What the server says next.
    async fn next(&mut self) -> (ToGuest, Bytes) {
        loop {
            if let Some(said) = self.decoder.take().unwrap() {
                return said;
            }
            assert_ne!(self.stream.read_buf(self.decoder.buffer()).await.unwrap(), 0, "the server left");
        }
    }
}

#[tokio::test]
async fn an_honest_guest_is_heard() {
    let world = world().await;
    let mut guest = world.guest().await;
    let stranger = [7; 16];
    let known = Process {
        id: stranger,
        pid: Some(1),
        exit: None,
        failure: None,
        position: 0,
        stdin: 0,
        stdin_taken: 0,
        stdin_closed: false,
    };
    guest.hello(VERSION, vec![known]).await;
    // What nobody knows is given up; what is to be started is started, and asked for from its beginning.
    guest.until(|message| matches!(message, ToGuest::Release { id } if *id == stranger)).await;
    guest.until(|message| matches!(message, ToGuest::Start { .. })).await;
    guest.until(|message| matches!(message, ToGuest::Attach { position: 0, .. })).await;
    guest.say(FromGuest::Started { id: guest.id, pid: 5 }, b"").await;
    guest.output(0, 0, b"hello ").await;
    // Of others it may say what it likes.
    guest.say(FromGuest::Output { id: [9; 16], stream: Stream::Stderr, position: 77, offset: 99 }, b"?").await;
    guest.output(6, 6, b"world").await;
    guest.say(FromGuest::Exited { id: guest.id, exit: Exit::Code(3), position: 11 }, b"").await;
    let channel = world.link.shared.channel(&guest.id).unwrap();
    while channel.news().exit.is_none() {
        channel.told().await;
    }
    assert_eq!(channel.news().exit, Some(Exit::Code(3)));
    assert_eq!(&*world.live().journal().collect(OutputStream::Stdout).0, b"hello world");
    world.link.close();
}

#[tokio::test]
async fn a_guest_that_comes_back_is_asked_for_the_rest() {
    let world = world().await;
    let mut guest = world.guest().await;
    guest.hello(VERSION, Vec::new()).await;
    guest.until(|message| matches!(message, ToGuest::Attach { position: 0, .. })).await;
    guest.say(FromGuest::Started { id: guest.id, pid: 5 }, b"").await;
    guest.output(0, 0, b"abc").await;
    while world.live().journal().offsets()[0] < 3 {
        tokio::task::yield_now().await;
    }
    drop(guest);
    let stream = UnixStream::connect(world.folder.path().join("s")).await.unwrap();
    let mut guest = Guest { stream, decoder: Decoder::default(), id: *world.live().origin().id.as_bytes() };
    let (id, position) = (guest.id, 3);
    let known =
        Process { id, pid: Some(5), exit: None, failure: None, position, stdin: 0, stdin_taken: 0, stdin_closed: true };
    guest.hello(VERSION, vec![known]).await;
    guest.until(|message| matches!(message, ToGuest::Attach { position: 3, .. })).await;
    world.link.close();
}

#[tokio::test]
async fn every_lie_ends_the_link() {
    type Say = fn(&mut Guest) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>>;
    let lies: [(&str, Say); 9] = [
        ("version", |guest| Box::pin(guest.hello(VERSION + 1, Vec::new()))),
        ("greeting", |guest| Box::pin(guest.say(FromGuest::Pong { number: 1 }, b""))),
        ("twice", |guest| {
            Box::pin(async {
                guest.hello(VERSION, Vec::new()).await;
                guest.hello(VERSION, Vec::new()).await;
            })
        }),
        ("output at 5", |guest| {
            Box::pin(async {
                guest.hello(VERSION, Vec::new()).await;
                guest.output(5, 5, b"x").await;
            })
        }),
        ("offset 1", |guest| {
            Box::pin(async {
                guest.hello(VERSION, Vec::new()).await;
                guest.output(0, 1, b"x").await;
            })
        }),
        ("an end at 9", |guest| {
            Box::pin(async {
                guest.hello(VERSION, Vec::new()).await;
                guest.say(FromGuest::Exited { id: guest.id, exit: Exit::Code(0), position: 9 }, b"").await;
            })
        }),
        ("a gap", |guest| {
            Box::pin(async {
                guest.hello(VERSION, Vec::new()).await;
                let id = guest.id;
                guest.say(FromGuest::Truncated { id, position: 0, stdout: u64::MAX, stderr: 1 }, b"").await;
                guest.say(FromGuest::Truncated { id, position: 4, stdout: 5, stderr: 0 }, b"").await;
            })
        }),
        ("frame", |guest| {
            Box::pin(async {
                guest.hello(VERSION, Vec::new()).await;
                let _ = guest.stream.write_all(&u32::MAX.to_le_bytes()).await;
            })
        }),
        ("channel", |guest| {
            Box::pin(async {
                guest.hello(VERSION, Vec::new()).await;
                guest.say(FromGuest::DataEnd { channel: 2 }, b"").await;
            })
        }),
    ];
    for (expected, lie) in lies {
        let world = world().await;
        let mut guest = world.guest().await;
        lie(&mut guest).await;
        let problem = world.broken().await;
        assert!(problem.contains(expected) || expected == "a gap", "{expected}: {problem}");
        assert!(world.link.shared.channel(&guest.id).unwrap().news().gone, "who waits is told");
    }
}

#[tokio::test]
async fn endless_output_without_credit_ends_the_link() {
    let world = world().await;
    let mut guest = world.guest().await;
    guest.hello(VERSION, Vec::new()).await;
    guest.say(FromGuest::Started { id: guest.id, pid: 5 }, b"").await;
    let piece = vec![b'x'; 512 << 10];
    // A reader that takes nothing, so that nothing is granted for a moment.
    let _reader = world.live().journal().reader(0);
    let mut position = 0;
    for _ in 0..40 {
        guest.output(position, position, &piece).await;
        position += piece.len() as u64;
    }
    assert!(world.broken().await.contains("granted"));
}
