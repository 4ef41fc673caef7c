//! What the supervisor costs by itself, without container and server: `cargo bench -p casemate-guest --features
//! supervisor --profile guest`. One line for each figure.

// Shared with the tests, which use more of it.
#[path = "../tests/supervisor/channel.rs"]
#[allow(dead_code)]
mod channel;
#[path = "../tests/supervisor/peer.rs"]
#[allow(dead_code)]
mod peer;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use casemate_guest::protocol::{Exit, FromGuest, How, Limits, Request, Spec, ToGuest};
use channel::{read, write};
use peer::{PLENTY, Peer, id};

fn main() {
    how_long_a_command_takes();
    how_fast_output_is();
    how_fast_files_are();
    how_fast_connections_are();
}

fn how_long_a_command_takes() {
    let mut peer = Peer::new();
    let spec = || Spec { command: vec![b"/bin/true".to_vec()], ..Spec::default() };
    let mut times: Vec<_> = (0..10_000)
        .map(|number| {
            let begin = Instant::now();
            assert_eq!(peer.run(number, spec(), b"").exit, Some(Exit::Code(0)));
            peer.release(number);
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("a command: median {:?}, 99th {:?}; {} KiB after all", times[5000], times[9900], peer.memory());
}

/// Output of a process, with credit as the server grants it.
fn how_fast_output_is() {
    let mut peer = Peer::new();
    let size = SIZE.to_string();
    let command = ["/usr/bin/head", "-c", &size, "/dev/zero"].map(|part| part.as_bytes().to_vec()).to_vec();
    let begin = Instant::now();
    peer.start(1, Spec { command, ..Spec::default() }, b"");
    peer.attach(1, 0, 1 << 20);
    let (mut bytes, mut taken) = (0, 0);
    loop {
        match peer.next() {
            (FromGuest::Output { .. }, payload) => {
                bytes += payload.len();
                taken += payload.len() as u64;
                if taken >= 256 << 10 {
                    peer.say(ToGuest::Credit { id: id(1), credit: taken }, b"");
                    taken = 0;
                }
            }
            (FromGuest::Exited { .. }, _) => break,
            (FromGuest::Truncated { .. }, _) => panic!("lost some"),
            _ => {}
        }
    }
    assert_eq!(bytes, SIZE);
    speed("output", SIZE, begin.elapsed());
}

const SIZE: usize = 1 << 30;

fn speed(what: &str, size: usize, time: Duration) {
    println!("{what}: {:.0} MiB/s", (size >> 20) as f64 / time.as_secs_f64());
}

/// Takes bytes of a channel up to its end, without keeping them.
fn drain(peer: &mut Peer, of: u64) -> usize {
    let mut all = 0;
    loop {
        match peer.next() {
            (FromGuest::Data { channel }, payload) if channel == of => {
                all += payload.len();
                peer.say(ToGuest::More { channel, credit: payload.len() as u64 }, b"");
            }
            (FromGuest::DataEnd { channel }, _) if channel == of => return all,
            (FromGuest::Done { channel, result }, _) if channel == of => {
                result.unwrap();
                return all;
            }
            _ => {}
        }
    }
}

fn how_fast_files_are() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir_in("/dev/shm").unwrap());
    let path = folder.path().join("large");
    let content = vec![7; SIZE];
    let begin = Instant::now();
    peer.ask_with(2, write(&path, How::Replace), &content).answer();
    speed("written", SIZE, begin.elapsed());
    let begin = Instant::now();
    peer.open(2, read(&path));
    assert_eq!(drain(&mut peer, 2), SIZE);
    speed("read", SIZE, begin.elapsed());
    println!("{} KiB of memory", peer.memory());
    let small = folder.path().join("small");
    fs::write(&small, "x".repeat(1000)).unwrap();
    type Ask<'a> = Box<dyn Fn(&mut Peer) + 'a>;
    let asks: [(&str, Ask<'_>); 4] = [
        ("ping", Box::new(|peer| peer.ping(1))),
        ("read of 1000 bytes", Box::new(|peer| assert_eq!(peer.ask(2, read(&small)).bytes.len(), 1000))),
        ("replaced with 1000 bytes", Box::new(|peer| drop(peer.ask_with(2, write(&small, How::Replace), &[1; 1000])))),
        (
            "written in place with 1000 bytes",
            Box::new(|peer| drop(peer.ask_with(2, write(&small, How::Create), &[1; 1000]))),
        ),
    ];
    for (what, ask) in asks {
        let mut times: Vec<_> = (0..10_000)
            .map(|_| {
                let begin = Instant::now();
                ask(&mut peer);
                begin.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("{what}: median {:?}, 99th {:?}", times[5000], times[9900]);
    }
    let (root, paths) = (folder.path().to_str().unwrap().into(), vec![b"/".to_vec()]);
    let request = Request::Pack { root, paths, limits: Limits { entries: PLENTY, bytes: PLENTY } };
    let begin = Instant::now();
    peer.open(2, request);
    speed("packed", drain(&mut peer, 2), begin.elapsed());
}

fn how_fast_connections_are() {
    let mut peer = Peer::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    peer.open(2, Request::Connect { port: listener.local_addr().unwrap().port() });
    let mut stream = listener.accept().unwrap().0;
    peer.began(2);
    let mut times: Vec<_> = (0..10_000)
        .map(|_| {
            let begin = Instant::now();
            peer.data(2, b"x");
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"y").unwrap();
            while peer.about(2).1.is_empty() {}
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("there and back: median {:?}, 99th {:?}", times[5000], times[9900]);
    let begin = Instant::now();
    let writer = std::thread::spawn(move || {
        stream.write_all(&vec![5; SIZE]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream
    });
    peer.say(ToGuest::More { channel: 2, credit: PLENTY >> 1 }, b"");
    assert_eq!(drain(&mut peer, 2), SIZE);
    speed("out of a connection", SIZE, begin.elapsed());
    let mut stream = writer.join().unwrap();
    let begin = Instant::now();
    let reader = std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()).unwrap());
    let (piece, mut credit, mut sent) = (vec![1; 64 << 10], casemate_guest::protocol::WINDOW as usize - 10_000, 0);
    while sent < SIZE {
        if credit < piece.len() {
            if let (FromGuest::More { credit: more, .. }, _) = peer.about(2) {
                credit += more as usize;
            }
            continue;
        }
        peer.data(2, &piece);
        (credit, sent) = (credit - piece.len(), sent + piece.len());
    }
    peer.data_end(2);
    assert_eq!(reader.join().unwrap() as usize, SIZE);
    speed("into a connection", SIZE, begin.elapsed());
}
