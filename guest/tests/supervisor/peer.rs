//! A server for the guest under test: a listener that speaks the protocol.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use casemate_guest::protocol::{
    Decoder, Exit, FromGuest, Process, ProcessId, Settings, Spec, Stream, ToGuest, VERSION, encode,
};

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const PLENTY: u64 = u64::MAX;

/// The binary, its listener, and the connection between them.
pub struct Peer {
    pub guest: Child,
    listener: UnixListener,
    stream: UnixStream,
    decoder: Decoder,
    pub known: Vec<Process>,
    pub settings: Settings,
    seen: VecDeque<(FromGuest, Bytes)>,
    _folder: tempfile::TempDir,
}

/// All that was told of a process up to its end.
#[derive(Debug, Default)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub lost: u64,
    pub first: Option<u64>,
    pub exit: Option<Exit>,
    pub position: u64,
}

pub fn id(number: u32) -> ProcessId {
    u128::from(number).to_le_bytes()
}

pub fn sh(script: &str) -> Spec {
    Spec {
        command: ["/bin/sh", "-c", script].map(|part| part.as_bytes().to_vec()).to_vec(),
        environment: vec![b"PATH=/usr/bin:/bin".to_vec()],
        ..Spec::default()
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::yield_now();
    }
}

impl Peer {
    pub fn new() -> Self {
        Self::with(Settings { processes: 4000, ..Settings::default() })
    }

    pub fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let named = std::env::var_os("CASEMATE_GUEST_UNDER_TEST");
        let binary = named.unwrap_or_else(|| env!("CARGO_BIN_EXE_casemate-guest").into());
        let guest = Command::new(binary).arg("--connect").arg(&path).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut peer = Self {
            guest,
            listener,
            stream,
            decoder: Decoder::default(),
            known: Vec::new(),
            settings,
            seen: VecDeque::new(),
            _folder: folder,
        };
        peer.greet();
        peer
    }

    fn greet(&mut self) {
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        match self.next().0 {
            FromGuest::Hello { version, processes, .. } => {
                assert_eq!(version, VERSION);
                self.known = processes;
            }
            other => panic!("{other:?}"),
        }
        self.say(ToGuest::Hello { version: VERSION, settings: self.settings.clone() }, b"");
    }

    /// Drops the connection and takes the next one.
    pub fn reconnect(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
        self.decoder = Decoder::default();
        self.seen.clear();
        self.stream = self.listener.accept().unwrap().0;
        self.greet();
    }

    pub fn say(&mut self, message: ToGuest, payload: &[u8]) {
        let mut bytes = BytesMut::new();
        encode(&message, payload, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    pub fn write_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn start(&mut self, number: u32, spec: Spec, payload: &[u8]) {
        self.say(ToGuest::Start { id: id(number), spec: Box::new(spec) }, payload);
    }

    pub fn attach(&mut self, number: u32, position: u64, credit: u64) {
        self.say(ToGuest::Attach { id: id(number), position, credit }, b"");
    }

    /// The next message that was not looked at yet.
    pub fn next(&mut self) -> (FromGuest, Bytes) {
        loop {
            if let Some(found) = self.decoder.take().unwrap() {
                return found;
            }
            let mut bytes = [0; 64 << 10];
            let length = self.stream.read(&mut bytes).expect("the guest says nothing");
            assert_ne!(length, 0, "the guest is gone");
            self.decoder.buffer().extend_from_slice(&bytes[..length]);
        }
    }

    /// The first message that fits; the others are kept.
    pub fn find<T>(&mut self, mut fits: impl FnMut(&FromGuest, &Bytes) -> Option<T>) -> T {
        for at in 0..self.seen.len() {
            let (message, payload) = &self.seen[at];
            if let Some(found) = fits(message, payload) {
                self.seen.remove(at);
                return found;
            }
        }
        loop {
            let (message, payload) = self.next();
            if let Some(found) = fits(&message, &payload) {
                return found;
            }
            self.seen.push_back((message, payload));
        }
    }

    /// The first of the messages that are here already that fits.
    pub fn try_find<T>(&mut self, mut fits: impl FnMut(&FromGuest, &Bytes) -> Option<T>) -> Option<T> {
        while let Some(found) = self.decoder.take().unwrap() {
            self.seen.push_back(found);
        }
        let (at, found) = self
            .seen
            .iter()
            .enumerate()
            .find_map(|(at, (message, payload))| fits(message, payload).map(|found| (at, found)))?;
        self.seen.remove(at);
        Some(found)
    }

    pub fn started(&mut self, number: u32) -> u32 {
        self.find(|message, _| match message {
            FromGuest::Started { id: of, pid } if *of == id(number) => Some(*pid),
            FromGuest::NotStarted { id: of, failure } if *of == id(number) => panic!("{failure:?}"),
            _ => None,
        })
    }

    /// Takes output up to the end, and checks that it has no gaps but those that are told.
    pub fn outcome(&mut self, number: u32) -> Outcome {
        let (mut outcome, mut at) = (Outcome::default(), None);
        self.find(|message, payload| gather(&mut outcome, &mut at, number, message, payload));
        outcome
    }

    /// Output until it has a text in it.
    pub fn output_with(&mut self, number: u32, text: &str) -> String {
        let mut all = String::new();
        self.find(|message, payload| match message {
            FromGuest::Output { id: of, .. } if *of == id(number) => {
                all.push_str(&String::from_utf8_lossy(payload));
                all.contains(text).then_some(())
            }
            FromGuest::Exited { id: of, .. } if *of == id(number) => panic!("ended with {all:?}"),
            _ => None,
        });
        all
    }

    pub fn run(&mut self, number: u32, spec: Spec, payload: &[u8]) -> Outcome {
        self.start(number, spec, payload);
        self.attach(number, 0, PLENTY);
        self.outcome(number)
    }

    pub fn release(&mut self, number: u32) {
        self.say(ToGuest::Release { id: id(number) }, b"");
    }

    /// Waits until all before was handled.
    pub fn ping(&mut self, number: u64) {
        self.say(ToGuest::Ping { number }, b"");
        self.find(|message, _| (*message == FromGuest::Pong { number }).then_some(()));
    }

    /// Kibibytes of memory that the guest has now.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.guest.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Adds one message; the unit once it was the last.
pub fn gather(
    outcome: &mut Outcome,
    at: &mut Option<u64>,
    number: u32,
    message: &FromGuest,
    payload: &Bytes,
) -> Option<()> {
    match message {
        FromGuest::Output { id: of, stream, position, offset } if *of == id(number) => {
            outcome.first.get_or_insert(*position);
            assert_eq!(at.unwrap_or(*position), *position);
            assert!(!payload.is_empty() && payload.len() <= 64 << 10);
            let into = if *stream == Stream::Stdout { &mut outcome.stdout } else { &mut outcome.stderr };
            if outcome.first == Some(0) && outcome.lost == 0 {
                assert_eq!(*offset, into.len() as u64);
            }
            into.extend_from_slice(payload);
            *at = Some(position + payload.len() as u64);
            None
        }
        FromGuest::Truncated { id: of, position, stdout, stderr } if *of == id(number) => {
            assert_eq!(at.unwrap_or(*position), *position);
            outcome.lost += stdout + stderr - position;
            *at = Some(stdout + stderr);
            None
        }
        FromGuest::Exited { id: of, exit, position } if *of == id(number) => {
            assert_eq!(at.unwrap_or(*position), *position);
            outcome.exit = Some(*exit);
            outcome.position = *position;
            Some(())
        }
        FromGuest::NotStarted { id: of, failure } if *of == id(number) => panic!("{failure:?}"),
        _ => None,
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Asks first, so that what it started goes with it.
        let mut bytes = BytesMut::new();
        encode(&ToGuest::Shutdown, b"", &mut bytes).unwrap();
        let _ = self.stream.write_all(&bytes);
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && !matches!(self.guest.try_wait(), Ok(Some(_)) | Err(_)) {
            std::thread::yield_now();
        }
        let _ = self.guest.kill();
        let _ = self.guest.wait();
    }
}
