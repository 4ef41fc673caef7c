//! Terminals that are flooded with whatever bytes there are, and read by who keeps up or does not.

use crate::kit::{House, PYTHON, docker, image, shell};
use casemate::proto::v1;
use v1::execution_event::Event;

const LENGTH: usize = 50 << 20;
/// Less than is granted to a process before anybody took it: whoever reads this much at a time misses nothing, however
/// slow the machine is.
const WINDOW: usize = 512 << 10;

/// All bytes there are, what a client of Docker could take for the heads of frames, and what a terminal could act on.
/// Its length is no power of two, so that pieces begin everywhere in it.
fn pattern() -> Vec<u8> {
    let mut pattern = Vec::new();
    for round in 0..=255u8 {
        pattern.extend((0..=255u8).map(|byte| byte.wrapping_mul(167).wrapping_add(round)));
        pattern.extend_from_slice(b"\x01\0\0\0\xff\xff\xff\xff\x02\0\0\0\0\0\0\x05hello");
        pattern.extend_from_slice(
            b"\x1b[2J\x1b]0;title\x07\x1bc\x1b[6n\x1b[?1049h\x0e\x18\x1a\x03\x04\x11\x13\x1c\r\n\n\r",
        );
    }
    pattern.extend_from_slice(b"odd");
    pattern
}

/// The whole flood: each round of the pattern differs from the one before, so that a piece fits at one place alone.
fn flood() -> Vec<u8> {
    let pattern = pattern();
    let rounds = (0..=255u8).cycle().flat_map(|round| pattern.iter().map(move |byte| byte ^ round));
    rounds.take(LENGTH).collect()
}

/// Writes as much as it is told, and waits for a byte of input after each window.
const PROGRAM: &str = "import os, sys
p = open('/workspace/pattern', 'rb').read()
left, window = map(int, sys.argv[1:])
n, open_ = 0, window
while left:
    piece = memoryview(p.translate(bytes(b ^ n % 256 for b in range(256)))[:left])
    left, n = left - len(piece), n + 1
    while piece:
        wrote = os.write(1, piece[:open_])
        piece, open_ = piece[wrote:], open_ - wrote
        if not open_ and (piece or left):
            os.read(0, 1)
            open_ = window
";

/// Starts the flood on a terminal that translates nothing.
async fn start(house: &House, window: usize) -> v1::Execution {
    let container = house.spawn(image(PYTHON, &["/bin/sleep", "1000"])).await.unwrap();
    for (name, data) in [("pattern", pattern()), ("flood.py", PROGRAM.into())] {
        let process = v1::ProcessSpec { stdin: data.into(), ..shell(&format!("cat > /workspace/{name}")) };
        let execution = house.start(&container.id, process).await.unwrap();
        assert_eq!(house.follow(&execution.id, 0).await.code(), 0);
    }
    let process = v1::ProcessSpec {
        terminal: Some(v1::TerminalSize { columns: 80, rows: 24 }),
        keep_stdin_open: true,
        ..shell(&format!("stty raw -echo; exec python3 flood.py {LENGTH} {window}"))
    };
    house.start(&container.id, process).await.unwrap()
}

async fn watch(house: &House, id: &str) -> tonic::Streaming<v1::WatchExecutionResponse> {
    let request = v1::WatchExecutionRequest { execution_id: id.into(), ..Default::default() };
    house.server().executions().await.watch_execution(request).await.unwrap().into_inner()
}

/// How far a reader got in the flood, and what it missed.
#[derive(Default)]
struct Reader {
    read: usize,
    position: usize,
    gaps: usize,
    usage: Option<v1::ExecutionUsage>,
}

impl Reader {
    /// Takes what comes next: the bytes that are at its place, or a gap that leads forwards.
    fn take(&mut self, event: v1::ExecutionEvent, flood: &[u8]) {
        match event.event.unwrap() {
            Event::Stdout(chunk) => {
                assert_eq!(chunk.offset, self.position as u64, "no byte is doubled, and none is missing unsaid");
                let expected = &flood[self.position..][..chunk.data.len()];
                assert!(chunk.data == expected, "other bytes came than were written, at {}", self.position);
                self.read += chunk.data.len();
                self.position += chunk.data.len();
            }
            Event::Stderr(chunk) => panic!("a terminal has one stream: {chunk:?}"),
            Event::Truncated(gap) => {
                assert!(gap.stdout_offset > self.position as u64, "{gap:?} at {}", self.position);
                self.position = gap.stdout_offset as usize;
                self.gaps += 1;
            }
            Event::Finished(finished) => {
                let result = finished.result.unwrap();
                assert_eq!((result.exit_reason(), result.exit_code), (v1::ExitReason::Exited, 0), "{result:?}");
                self.usage = result.usage;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_reader_that_keeps_up_with_a_terminal_gets_every_byte_as_it_was_written() {
    if !docker() {
        return;
    }
    let (house, flood) = (House::open().await, flood());
    let execution = start(&house, WINDOW).await;
    let mut events = watch(&house, &execution.id).await;
    let (mut reader, mut asked) = (Reader::default(), 0);
    let mut executions = house.server().executions().await;
    while let Some(message) = events.message().await.unwrap() {
        reader.take(message.event.unwrap(), &flood);
        if reader.read >= (asked + 1) * WINDOW && reader.read < LENGTH {
            let request = v1::WriteStdinRequest {
                execution_id: execution.id.clone(),
                offset: asked as u64,
                data: "x".into(),
                eof: false,
            };
            executions.write_stdin(request).await.unwrap();
            asked += 1;
        }
    }
    assert_eq!(asked, LENGTH / WINDOW - 1);
    assert_eq!((reader.read, reader.gaps), (LENGTH, 0));
    assert_eq!(reader.usage.unwrap().stdout_bytes, LENGTH as u64);
}

#[tokio::test]
async fn a_reader_that_stalls_at_a_terminal_is_told_what_it_missed_and_gets_the_end() {
    if !docker() {
        return;
    }
    let (house, flood) = (House::open().await, flood());
    let (before, _) = house.memory();
    let execution = start(&house, LENGTH).await;
    let mut events = watch(&house, &execution.id).await;
    let mut reader = Reader::default();
    while reader.read == 0 {
        reader.take(events.message().await.unwrap().unwrap().event.unwrap(), &flood);
    }
    // It reads nothing more until the process is over.
    let wait = v1::WaitExecutionRequest { execution_id: execution.id.clone(), timeout: None };
    let waited = house.server().executions().await.wait_execution(wait).await.unwrap().into_inner();
    assert!(waited.done, "nobody holds up a process that nobody reads");
    let (after, most) = house.memory();
    while let Some(message) = events.message().await.unwrap() {
        reader.take(message.event.unwrap(), &flood);
    }
    assert!(reader.gaps > 0 && reader.read < LENGTH / 2, "{} bytes, {} gaps", reader.read, reader.gaps);
    assert_eq!(reader.position, LENGTH, "the end is there");
    let usage = reader.usage.unwrap();
    assert_eq!((usage.stdout_bytes, usage.truncated), (LENGTH as u64, true));
    assert!(most < before + (64 << 10), "the server grew from {before} KiB to {after}, {most} at most");
}
