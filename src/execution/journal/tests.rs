use super::*;
use crate::domain::execution::{Exit, Usage};
use crate::domain::output::{Content, OutputFile, Representation, RichOutputKind};
use proptest::prelude::*;
use std::task::Waker;

fn outcome() -> Outcome {
    Outcome::new(Exit::Exited { code: 0 }, "", Usage::default())
}

fn end(journal: &Journal) -> bool {
    let first = journal.close(|_, _, _| outcome());
    journal.publish();
    first
}

/// Reads what there is without waiting.
fn drain(journal: &Journal, cursor: &mut Cursor) -> Vec<Event> {
    let mut context = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    loop {
        let before = all.len();
        if journal.poll_read(cursor, &mut context, &mut all).is_pending() || all.len() == before {
            return all;
        }
    }
}

#[test]
fn small_writes_are_one_event_until_somebody_reads() {
    let journal = Journal::new(1 << 20, 0);
    journal.start(0);
    for byte in b"hello" {
        journal.write(OutputStream::Stdout, Bytes::copy_from_slice(&[*byte]));
    }
    let mut cursor = journal.reader(0);
    let first = drain(&journal, &mut cursor);
    assert_eq!(first.len(), 2);
    assert!(matches!(&first[1].kind, EventKind::Output { data, offset: 0, .. } if data == "hello"));
    journal.write(OutputStream::Stdout, Bytes::from_static(b" world"));
    // What was read is not what grew.
    let again = drain(&journal, &mut journal.reader(0));
    assert_eq!(again[..2], first[..]);
    assert!(matches!(&again[2].kind, EventKind::Output { data, offset: 5, .. } if data == " world"));
}

#[test]
fn nothing_follows_the_end_and_it_comes_once() {
    let journal = Journal::new(1 << 20, 0);
    assert!(end(&journal));
    assert!(!end(&journal));
    journal.write(OutputStream::Stdout, Bytes::from_static(b"late"));
    journal.log(LogLevel::Info, "late".into());
    let events = drain(&journal, &mut journal.reader(0));
    assert_eq!(events.len(), 1);
    assert!(matches!(events[0].kind, EventKind::Finished { .. }));
}

#[test]
fn an_end_that_is_not_published_is_not_seen() {
    let journal = Journal::new(1 << 20, 0);
    journal.write(OutputStream::Stdout, Bytes::from_static(b"x"));
    journal.close(|_, _, _| outcome());
    let mut cursor = journal.reader(0);
    assert_eq!(drain(&journal, &mut cursor).len(), 1);
    let (standing, record) = journal.record();
    assert_eq!((standing.state, record.len()), (ExecutionState::Succeeded, 2));
    journal.publish();
    assert_eq!(drain(&journal, &mut cursor), record[1..]);
}

#[test]
fn a_flood_keeps_its_head_and_its_tail() {
    let journal = Journal::new(64 << 10, 0);
    for number in 0..10_000u32 {
        journal.write(OutputStream::Stdout, Bytes::from(format!("{number:08}\n")));
        journal.write(OutputStream::Stderr, Bytes::from_static(b"."));
    }
    end(&journal);
    let events = drain(&journal, &mut journal.reader(0));
    let text = |event: &Event| match &event.kind {
        EventKind::Output { stream: OutputStream::Stdout, data, .. } => String::from_utf8_lossy(data).into_owned(),
        _ => String::new(),
    };
    assert!(text(&events[0]).starts_with("00000000"));
    assert!(events.iter().any(|event| text(event).contains("00009999")));
    let gaps = events.iter().filter(|event| matches!(event.kind, EventKind::Truncated(_))).count();
    assert_eq!(gaps, 1);
    assert!(journal.weight() < 80 << 10, "{}", journal.weight());
    assert!(journal.totals().truncated && journal.totals().dropped_bytes > 20_000);
    assert!(journal.collect(OutputStream::Stdout).1);
}

#[test]
fn a_reader_that_waits_is_woken() {
    let journal = Arc::new(Journal::new(1 << 20, 0));
    let woken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    struct Count(Arc<std::sync::atomic::AtomicUsize>);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let waker = Waker::from(Arc::new(Count(woken.clone())));
    let mut cursor = journal.reader(0);
    let mut out = Vec::new();
    for _ in 0..3 {
        assert!(journal.poll_read(&mut cursor, &mut Context::from_waker(&waker), &mut out).is_pending());
    }
    journal.write(OutputStream::Stdout, Bytes::from_static(b"x"));
    assert_eq!(woken.load(std::sync::atomic::Ordering::SeqCst), 1, "once, however often it asked");
    assert!(journal.poll_read(&mut cursor, &mut Context::from_waker(&waker), &mut out).is_ready());
}

fn rich(size: usize) -> RichOutput {
    let form = |mime_type: &str, size: usize| {
        let content = Content::Text("r".repeat(size));
        Representation { mime_type: mime_type.into(), size_bytes: content.size(), content: Some(content) }
    };
    RichOutput {
        kind: RichOutputKind::Display,
        representations: vec![form("text/html", size), form("text/plain", 10)],
        display_id: String::new(),
        metadata: String::new(),
    }
}

/// A piece of a file of which every byte tells its offset, as far as a byte can.
fn piece(path: &str, offset: u64, size: usize, last: bool) -> FileChunk {
    let data: Vec<u8> = (offset..offset + size as u64).map(|at| at as u8).collect();
    let file = last.then(|| OutputFile { path: path.into(), kept: true, ..OutputFile::default() });
    FileChunk { path: path.into(), offset, data: data.into(), file }
}

#[test]
fn files_come_after_all_output_and_push_none_of_it_out() {
    let journal = Journal::new(8 << 10, 1 << 20);
    journal.start(0);
    journal.write(OutputStream::Stdout, Bytes::from_static(b"head"));
    journal.rich(rich(100));
    journal.child(ChildEvent { execution: None, tool: "t".into(), state: None, message: "no".into() });
    let before = journal.export(1);
    assert!(journal.file(piece("a", 0, 700 << 10, true)));
    journal.write(OutputStream::Stdout, Bytes::from_static(b"too late"));
    assert!(journal.file(piece("b", 0, 0, true)));
    assert!(!journal.file(piece("c", 0, 400 << 10, true)), "beyond the budget");
    assert!(!journal.file(piece("c", 0, 1, true)), "and nothing after that");
    assert!(end(&journal));
    let events = drain(&journal, &mut journal.reader(0));
    assert_eq!(events[..before.len()], before);
    assert!(!journal.totals().truncated);
    let sizes: Vec<usize> = journal.file_chunks().iter().map(|chunk| chunk.data.len()).collect();
    assert_eq!(sizes, [MAX_FILE_CHUNK, MAX_FILE_CHUNK, (700 << 10) - 2 * MAX_FILE_CHUNK, 0]);
    let whole: Vec<Option<&str>> = journal
        .file_chunks()
        .iter()
        .map(|chunk| chunk.file.as_ref().map(|_| if chunk.path == "a" { "a" } else { "b" }))
        .collect();
    assert_eq!(whole, [None, None, Some("a"), Some("b")]);
    assert!(journal.export_newest(1, usize::MAX).len() == before.len(), "pieces of files wait for the record");
    assert!(journal.weight() > 700 << 10);
}

#[test]
fn a_rich_output_that_does_not_fit_keeps_its_plain_form_and_says_what_is_missing() {
    let journal = Journal::new(8 << 10, 0);
    journal.rich(rich(5000));
    let kept = journal.rich_outputs();
    let forms: Vec<(u64, bool)> =
        kept[0].representations.iter().map(|form| (form.size_bytes, form.content.is_some())).collect();
    assert_eq!(forms, [(5000, false), (10, true)]);
    assert_eq!((journal.totals().dropped_bytes, journal.totals().truncated), (5000, true));
}

#[derive(Clone, Debug)]
enum Step {
    Write(bool, usize),
    Log(usize),
    Rich(usize),
    Child,
    /// A piece of a file, or its last one.
    File(usize, bool),
    /// Reader `n` reads what there is.
    Read(usize),
    /// Reader `n` goes away and comes back with the sequence after the last it saw.
    Reconnect(usize),
    Export,
    Close,
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0usize..3000).prop_map(|(err, size)| Step::Write(err, size)),
        2 => (0usize..200).prop_map(Step::Log),
        2 => (0usize..3000).prop_map(Step::Rich),
        1 => Just(Step::Child),
        1 => (0usize..3000, any::<bool>()).prop_map(|(size, last)| Step::File(size, last)),
        4 => (0usize..3).prop_map(Step::Read),
        1 => (0usize..3).prop_map(Step::Reconnect),
        1 => Just(Step::Export),
        1 => Just(Step::Close),
        1 => Just(Step::Publish),
    ]
}

/// Checks a reader's events: no gaps but declared ones, offsets that add up, the end last and once.
fn check(events: &[Event], written: &[Vec<u8>; 2], whole: bool) {
    let mut next = 1;
    let mut offsets = [0u64; 2];
    let mut files_began = false;
    for (place, event) in events.iter().enumerate() {
        match &event.kind {
            EventKind::Truncated(gap) => {
                assert_eq!(gap.first_sequence, next, "a gap begins where the reader stands");
                assert!(event.sequence >= next);
                assert!(gap.stdout_offset >= offsets[0] && gap.stderr_offset >= offsets[1]);
                offsets = [gap.stdout_offset, gap.stderr_offset];
            }
            kind => {
                assert_eq!(event.sequence, next, "sequences have no gaps");
                let of_files = matches!(kind, EventKind::FileChunk(_) | EventKind::Finished { .. });
                assert!(of_files || !files_began, "nothing but the end follows files");
                files_began |= matches!(kind, EventKind::FileChunk(_));
                if let EventKind::Output { stream, offset, data } = kind {
                    let of = *stream as usize;
                    assert_eq!(*offset, offsets[of], "offsets have no gaps");
                    let range = *offset as usize..*offset as usize + data.len();
                    assert_eq!(&written[of][range], &data[..], "the bytes are those that were written");
                    offsets[of] += data.len() as u64;
                }
                if matches!(kind, EventKind::Finished { .. }) {
                    assert_eq!(place + 1, events.len(), "the end comes last");
                }
            }
        }
        next = event.sequence + 1;
    }
    if whole {
        assert!(matches!(events.last().map(|event| &event.kind), Some(EventKind::Finished { .. })));
        assert_eq!(offsets, [written[0].len() as u64, written[1].len() as u64]);
    }
}

proptest! {
    #[test]
    fn any_interleaving_keeps_the_guarantees(budget in 1u64..40_000, room in 0u64..20_000, steps in proptest::collection::vec(step(), 1..200)) {
        let journal = Journal::new(budget, room);
        let mut files: Vec<FileChunk> = Vec::new();
        let mut refused = false;
        let mut written = [Vec::new(), Vec::new()];
        let mut cursors: Vec<Cursor> = (0..3).map(|_| journal.reader(0)).collect();
        let mut seen: Vec<Vec<Event>> = vec![Vec::new(); 3];
        let mut closed = false;
        let mut fill = 0u8;
        for step in steps {
            match step {
                Step::Write(err, size) => {
                    let data: Vec<u8> = (0..size).map(|_| { fill = fill.wrapping_mul(31).wrapping_add(7); fill }).collect();
                    let stream = if err { OutputStream::Stderr } else { OutputStream::Stdout };
                    if !closed && files.is_empty() {
                        written[stream as usize].extend_from_slice(&data);
                    }
                    journal.write(stream, data.into());
                }
                Step::Log(size) => journal.log(LogLevel::Info, "l".repeat(size)),
                Step::Rich(size) => journal.rich(rich(size)),
                Step::Child => journal.child(ChildEvent {
                    execution: None,
                    tool: "t".into(),
                    state: None,
                    message: String::new(),
                }),
                Step::File(size, last) => {
                    let offset = match files.last() {
                        Some(chunk) if chunk.file.is_none() => chunk.offset + chunk.data.len() as u64,
                        _ => 0,
                    };
                    let chunk = piece("f", offset, size, last);
                    let used: usize = files.iter().map(|chunk| chunk.data.len()).sum();
                    refused |= (used + size) as u64 > room;
                    let taken = journal.file(chunk.clone());
                    prop_assert_eq!(taken, !closed && !refused);
                    if taken {
                        files.push(chunk);
                    }
                }
                Step::Read(reader) => {
                    let events = drain(&journal, &mut cursors[reader]);
                    seen[reader].extend(events);
                }
                Step::Reconnect(reader) => {
                    let from = seen[reader].last().map_or(0, |event| event.sequence + 1);
                    let over = matches!(seen[reader].last(), Some(Event { kind: EventKind::Finished { .. }, .. }));
                    if !over {
                        cursors[reader] = journal.reader(from);
                    }
                }
                Step::Export => check(&journal.export(1), &written, false),
                Step::Close => { journal.close(|_, _, _| outcome()); closed = true; }
                Step::Publish => journal.publish(),
            }
        }
        end(&journal);
        for (cursor, seen) in cursors.iter_mut().zip(&mut seen) {
            seen.extend(drain(&journal, cursor));
            check(seen, &written, true);
        }
        // A late reader sees what is kept, and the same sequence carries the same bytes for everybody.
        let late = drain(&journal, &mut journal.reader(0));
        check(&late, &written, true);
        // Files are never dropped, whatever came before them.
        let kept: Vec<FileChunk> = journal.file_chunks().iter().map(|chunk| FileChunk::clone(chunk)).collect();
        prop_assert_eq!(&kept, &files);
        for seen in &seen {
            let pieces = seen.iter().filter(|event| matches!(event.kind, EventKind::FileChunk(_))).count();
            prop_assert_eq!(pieces, files.len());
        }
        for early in &seen {
            for event in early {
                if let Some(same) = late.iter().find(|other| other.sequence == event.sequence)
                    && !matches!(same.kind, EventKind::Truncated(_)) && !matches!(event.kind, EventKind::Truncated(_))
                {
                    prop_assert_eq!(same, event);
                }
            }
        }
        // And so does the form the store keeps.
        let (standing, record) = journal.record();
        let frozen = Journal::frozen(record, standing);
        prop_assert_eq!(drain(&frozen, &mut frozen.reader(0)), late);
    }
}

/// Whether a writer would wait now.
fn waits(journal: &Journal) -> bool {
    journal.poll_room(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn a_writer_waits_for_a_reader_that_keeps_up_but_not_for_one_that_was_late() {
    let journal = Journal::new(64 << 10, 0);
    let piece = || Bytes::from(vec![b'x'; 4 << 10]);
    let fill = || {
        for _ in 0..64 {
            if waits(&journal) {
                return true;
            }
            journal.write(OutputStream::Stdout, piece());
        }
        false
    };
    journal.start(0);
    assert!(!fill(), "nobody reads: nobody is waited for");
    let mut reader = journal.reader(0);
    drain(&journal, &mut reader);
    assert!(fill(), "it would lose something");
    drain(&journal, &mut reader);
    assert!(!waits(&journal), "it has taken all");
    assert!(fill());
    journal.go_on();
    assert!(!fill(), "it was late, and is told what it lost");
    let events = drain(&journal, &mut reader);
    assert!(events.iter().any(|event| matches!(event.kind, EventKind::Truncated(_))));
    assert!(fill(), "it has read enough to be waited for again");
    journal.leave(&reader);
    assert!(!fill(), "it is gone");
}
