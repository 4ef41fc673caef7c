//! Servers that are killed at any moment, and a client that goes on where it was.

use super::*;
use crate::domain::event::Truncated;
use crate::domain::execution::{Exit, Origin, Subject, Usage};
use crate::domain::id::ExecutionId;
use crate::domain::limits::LimitsPolicy;
use crate::execution::ledger::Ledgers;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::task::Waker;

#[derive(Clone, Debug)]
enum Step {
    /// The process writes.
    Write(OutputStream, usize),
    /// The client reads what there is; at most so many events.
    Read(usize),
    /// The store is told.
    Flush(usize),
    /// The server is killed. Of what it had not kept, a part may be gone when the next one asks.
    Kill(Option<(u8, u8)>),
    /// A second client reads from this number on.
    Jump(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let stream = prop_oneof![Just(OutputStream::Stdout), Just(OutputStream::Stderr)];
    prop_oneof![
        4 => (stream, 1usize..400).prop_map(|(stream, length)| Step::Write(stream, length)),
        3 => (1usize..6).prop_map(Step::Read),
        1 => (1usize..900).prop_map(Step::Flush),
        1 => Just(Step::Kill(None)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|range| Step::Kill(Some(range))),
        1 => (1u64..40).prop_map(Step::Jump),
    ]
}

/// A process, whoever keeps its output, the store, and the server of the moment.
struct World {
    directory: tempfile::TempDir,
    journal: Journal,
    /// Everything written, in order.
    all: Vec<(OutputStream, u8)>,
    stored: Vec<Event>,
    budget: u64,
}

impl World {
    fn new(budget: u64) -> World {
        let directory = tempfile::tempdir().unwrap();
        let origin = Origin {
            id: ExecutionId::new(),
            subject: Subject::Process { container: "c".into(), command: vec!["x".into()], tty: false },
            principal: "p".into(),
            request_id: None,
            labels: BTreeMap::new(),
            limits: LimitsPolicy::default().defaults,
            created: Timestamp(1),
            session: None,
            parent: None,
            target: "".into(),
        };
        let ledger = Ledgers::open(directory.path().into()).unwrap().begin(&origin, None).unwrap();
        let journal = Journal::noted(budget, 0, Arc::new(ledger));
        journal.start(7);
        World { directory, journal, all: Vec::new(), stored: Vec::new(), budget }
    }

    fn feed(&self, bytes: &[(OutputStream, u8)]) {
        for run in bytes.chunk_by(|one, other| one.0 == other.0) {
            let data: Vec<u8> = run.iter().map(|(_, byte)| *byte).collect();
            self.journal.write(run[0].0, data.into());
        }
    }

    fn write(&mut self, stream: OutputStream, length: usize) {
        let from = self.all.len();
        self.all.extend((from..from + length).map(|at| (stream, (at * 7 % 251) as u8)));
        self.feed(&self.all[from..]);
    }

    fn offsets(&self, position: usize) -> [u64; 2] {
        let stdout = self.all[..position].iter().filter(|(stream, _)| *stream == OutputStream::Stdout).count() as u64;
        [stdout, position as u64 - stdout]
    }

    fn kill(&mut self, lost: Option<(u8, u8)>) {
        let ledgers = Ledgers::open(self.directory.path().into()).unwrap();
        let entry = ledgers.read_all().unwrap().remove(0);
        let ledger = Arc::new(ledgers.resume(&entry).unwrap());
        self.journal = Journal::resumed(self.budget, 0, ledger, self.stored.clone(), entry.marks);
        let at = self.journal.offsets().iter().sum::<u64>() as usize;
        let rest = self.all.len() - at;
        let (from, to) = match lost {
            Some((from, length)) => {
                let from = at + rest * usize::from(from) / 256;
                (from, from + (self.all.len() - from) * usize::from(length) / 256)
            }
            None => (self.all.len(), self.all.len()),
        };
        // In pieces that have nothing to do with those before.
        for piece in self.all[at..from].chunks(97) {
            self.feed(piece);
        }
        if to > from {
            let [stdout, stderr] = self.offsets(to);
            self.journal.lose(stdout, stderr);
        }
        self.feed(&self.all[to..]);
        self.journal.start(7);
    }
}

/// What a client knows.
#[derive(Default)]
struct Client {
    next: u64,
    offsets: [u64; 2],
    gaps: u64,
    bytes: u64,
}

impl Client {
    fn take(&mut self, world: &World, event: &Event) {
        let first = match &event.kind {
            EventKind::Truncated(gap) => gap.first_sequence,
            _ => event.sequence,
        };
        assert_eq!(first, self.next, "no number is missing or doubled");
        self.next = event.sequence + 1;
        match &event.kind {
            EventKind::Output { stream, offset, data } => {
                assert_eq!(*offset, self.offsets[*stream as usize], "no byte is missing or doubled");
                let of = world.all.iter().filter(|(of, _)| of == stream).map(|(_, byte)| *byte);
                let expected: Vec<u8> = of.skip(*offset as usize).take(data.len()).collect();
                assert_eq!(&expected[..], &data[..]);
                self.offsets[*stream as usize] += data.len() as u64;
                self.bytes += data.len() as u64;
            }
            EventKind::Truncated(Truncated { stdout_offset, stderr_offset, .. }) => {
                self.gaps += 1;
                assert!(*stdout_offset >= self.offsets[0] && *stderr_offset >= self.offsets[1]);
                self.offsets = [*stdout_offset, *stderr_offset];
            }
            EventKind::Started { pid } => assert_eq!(*pid, 7),
            _ => {}
        }
    }
}

fn read(journal: &Journal, from: u64, most: usize) -> Vec<Event> {
    let mut cursor = journal.reader(from);
    let mut out = Vec::new();
    let _ = journal.poll_read(&mut cursor, &mut Context::from_waker(Waker::noop()), &mut out);
    journal.leave(&cursor);
    out.truncate(most);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_client_gets_every_byte_once_or_a_gap(
        budget in prop_oneof![Just(1u64 << 20), 2000u64..20_000],
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(budget);
        let mut client = Client { next: 1, ..Client::default() };
        let lossless = budget == 1 << 20 && !steps.iter().any(|step| matches!(step, Step::Kill(Some(_))));
        for step in steps {
            match step {
                Step::Write(stream, length) => world.write(stream, length),
                Step::Read(most) => {
                    for event in read(&world.journal, client.next, most) {
                        client.take(&world, &event);
                    }
                }
                Step::Flush(bytes) => {
                    let from = world.stored.last().map_or(1, |event| event.sequence + 1);
                    world.stored.extend(world.journal.export_oldest(from, bytes));
                }
                Step::Kill(lost) => world.kill(lost),
                Step::Jump(from) => drop(read(&world.journal, from, 1)),
            }
        }
        world.journal.close(|_, _, _| Outcome::new(Exit::Exited { code: 0 }, "", Usage::default()));
        world.journal.publish();
        loop {
            let events = read(&world.journal, client.next, usize::MAX);
            let Some(last) = events.last() else { panic!("the end is missing") };
            let over = matches!(last.kind, EventKind::Finished { .. });
            for event in &events {
                client.take(&world, event);
            }
            if over {
                break;
            }
        }
        prop_assert_eq!(client.offsets, world.offsets(world.all.len()));
        if lossless {
            prop_assert_eq!((client.gaps, client.bytes), (0, world.all.len() as u64));
        }
    }
}
