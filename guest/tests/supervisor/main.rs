//! The real binary, as an ordinary process, against a listener that speaks the protocol.

mod archives;
mod channel;
mod channels;
mod files;
mod merges;
mod network;
mod peer;
mod watch;
mod zips;

use std::collections::HashMap;

use casemate_guest::protocol::{Exit, FromGuest, Settings, Signal, Spec, StartFailure, Terminal, ToGuest, User};
use peer::{Outcome, PLENTY, Peer, gather, id, sh, until};

#[test]
fn output_and_codes_come_back() {
    let mut peer = Peer::new();
    let outcome = peer.run(1, sh("echo out; echo err >&2; exit 7"), b"");
    assert_eq!((outcome.stdout, outcome.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
    assert_eq!((outcome.exit, outcome.position), (Some(Exit::Code(7)), 8));
    peer.release(1);
    peer.ping(1);
    peer.reconnect();
    assert_eq!(peer.known, []);
}

#[test]
fn what_a_process_writes_last_is_there_however_many_end_at_once() {
    let mut peer = Peer::new();
    for round in 0..10 {
        let numbers = round * 100 + 1..round * 100 + 101;
        for number in numbers.clone() {
            peer.start(number, sh("echo out; echo err >&2"), b"");
            peer.attach(number, 0, PLENTY);
        }
        let mut outcomes: HashMap<u32, Outcome> = numbers.clone().map(|number| (number, Outcome::default())).collect();
        let mut ats: HashMap<u32, Option<u64>> = HashMap::new();
        let mut left = 100;
        while left > 0 {
            let (message, payload) = peer.find(|message, payload| Some((message.clone(), payload.clone())));
            for number in numbers.clone() {
                let (outcome, at) = (outcomes.get_mut(&number).unwrap(), ats.entry(number).or_default());
                left -= usize::from(gather(outcome, at, number, &message, &payload).is_some());
            }
        }
        for (number, outcome) in outcomes {
            assert_eq!((&*outcome.stdout, &*outcome.stderr), (&b"out\n"[..], &b"err\n"[..]), "{number}");
            peer.release(number);
        }
    }
}

#[test]
fn input_is_passed_on() {
    let mut peer = Peer::new();
    let outcome = peer.run(1, sh("cat"), b"hello");
    assert_eq!((outcome.stdout, outcome.exit), (b"hello".to_vec(), Some(Exit::Code(0))));
    let spec = Spec { keep_stdin_open: true, ..sh("cat") };
    peer.start(2, spec, b"abc");
    peer.attach(2, 0, PLENTY);
    peer.output_with(2, "abc");
    peer.say(ToGuest::Stdin { id: id(2), offset: 1, eof: false }, b"bcde");
    peer.say(ToGuest::Stdin { id: id(2), offset: 9, eof: false }, b"never");
    peer.find(|message, _| matches!(message, FromGuest::Refused { id: of, .. } if *of == id(2)).then_some(()));
    peer.say(ToGuest::Stdin { id: id(2), offset: 5, eof: true }, b"f");
    let offset = |message: &FromGuest| match message {
        FromGuest::StdinAccepted { id: of, offset: 6, held, closed: true } if *of == id(2) => Some(*held),
        _ => None,
    };
    assert_eq!(peer.find(|message, _| offset(message)), 6);
    peer.attach(2, 0, PLENTY);
    peer.find(|message, _| matches!(message, FromGuest::Exited { .. }).then_some(()));
}

#[test]
fn signals_reach_the_group() {
    let mut peer = Peer::new();
    for (number, signal) in [(1, 15), (2, 9), (3, 10)] {
        peer.start(number, sh("sleep 1000; echo no"), b"");
        peer.attach(number, 0, PLENTY);
        peer.started(number);
        peer.say(ToGuest::Signal { id: id(number), signal, to: Signal::Group }, b"");
        assert_eq!(peer.outcome(number).exit, Some(Exit::Signal(signal)));
    }
}

#[test]
fn failures_to_start_are_told_apart() {
    let mut peer = Peer::new();
    let mut failure = |number, spec| {
        peer.start(number, spec, b"");
        peer.find(|message, _| match message {
            FromGuest::NotStarted { id: of, failure } if *of == id(number) => Some(failure.clone()),
            _ => None,
        })
    };
    let command = |program: &str| Spec { command: vec![program.into()], ..Spec::default() };
    assert_eq!(failure(1, command("/no/such/program")), StartFailure::NotFound);
    assert_eq!(failure(2, command("no-such-program")), StartFailure::NotFound);
    assert!(matches!(failure(3, command("/etc/passwd")), StartFailure::NotExecutable(_)));
    assert!(matches!(failure(4, Spec { directory: "/none".into(), ..sh("") }), StartFailure::Directory(_)));
    let user = casemate_guest::protocol::User::Named(b"nobody-at-all".to_vec());
    assert!(matches!(failure(5, Spec { user, ..sh("") }), StartFailure::User(_)));
    assert!(matches!(failure(6, Spec::default()), StartFailure::Other(_)));
}

#[test]
fn a_tree_dies_whatever_it_did_to_get_away() {
    let mut peer = Peer::new();
    let outcome = peer.run(1, sh("setsid sh -c 'sleep 1000 & echo $!' & wait; echo over"), b"");
    let text = String::from_utf8(outcome.stdout).unwrap();
    let sleeper: u32 = text.lines().next().unwrap().parse().unwrap();
    assert_eq!(outcome.exit, Some(Exit::Code(0)));
    let there = || std::path::Path::new(&format!("/proc/{sleeper}")).exists();
    assert!(there(), "what is left in the background lives on");
    peer.release(1);
    until("the tree is gone", || !there());
}

#[test]
fn a_server_that_comes_back_gets_all_of_it() {
    let mut peer = Peer::new();
    peer.start(1, Spec { keep_stdin_open: true, ..sh("echo first; cat; echo err >&2; exit 3") }, b"");
    peer.attach(1, 0, PLENTY);
    peer.output_with(1, "first");
    peer.reconnect();
    assert_eq!(peer.known.len(), 1);
    assert_eq!((peer.known[0].position, peer.known[0].exit), (6, None));
    assert!(peer.known[0].pid.is_some());
    // A start that is repeated starts nothing.
    peer.start(1, sh("echo another"), b"");
    peer.started(1);
    peer.say(ToGuest::Stdin { id: id(1), offset: 0, eof: true }, b"second\n");
    peer.reconnect();
    peer.attach(1, 0, PLENTY);
    let outcome = peer.outcome(1);
    assert_eq!(outcome.stdout, b"first\nsecond\n");
    assert_eq!((outcome.stderr, outcome.exit, outcome.position), (b"err\n".to_vec(), Some(Exit::Code(3)), 17));
    // Again, from the middle, after its end.
    peer.reconnect();
    assert_eq!((peer.known[0].position, peer.known[0].exit), (17, Some(Exit::Code(3))));
    assert_eq!((peer.known[0].pid, peer.known[0].stdin), (None, 7));
    peer.attach(1, 8, PLENTY);
    let outcome = peer.outcome(1);
    assert_eq!((outcome.first, outcome.stdout), (Some(8), b"cond\n".to_vec()));
    peer.attach(1, 18, PLENTY);
    peer.find(|message, _| matches!(message, FromGuest::Refused { .. }).then_some(()));
}

#[test]
fn output_waits_for_credit() {
    let mut peer = Peer::new();
    peer.start(1, sh("echo 0123456789"), b"");
    peer.attach(1, 0, 4);
    let output = |message: &FromGuest, payload: &bytes::Bytes| match message {
        FromGuest::Output { position, .. } => Some((*position, payload.to_vec())),
        FromGuest::Exited { .. } => panic!("the end before its output"),
        _ => None,
    };
    assert_eq!(peer.find(output), (0, b"0123".to_vec()));
    peer.ping(1);
    peer.say(ToGuest::Credit { id: id(1), credit: 7 }, b"");
    assert_eq!(peer.find(output), (4, b"456789\n".to_vec()));
    peer.find(|message, _| matches!(message, FromGuest::Exited { position: 11, .. }).then_some(()));
}

#[test]
fn what_nobody_takes_keeps_its_beginning_and_its_end() {
    let mut peer = Peer::new();
    peer.start(1, sh("seq 1 1000000"), b"");
    peer.started(1);
    until("it ends", || {
        peer.reconnect();
        peer.known[0].exit.is_some()
    });
    peer.attach(1, 0, PLENTY);
    let outcome = peer.outcome(1);
    assert!(outcome.stdout.starts_with(b"1\n2\n3\n") && outcome.stdout.ends_with(b"\n999999\n1000000\n"));
    assert_eq!(outcome.stdout.len(), 1 << 20);
    assert_eq!(outcome.lost + outcome.stdout.len() as u64, outcome.position);
}

#[test]
fn a_hundred_megabytes_arrive_at_a_server_that_grants_them_slowly() {
    const ALL: u64 = 100 << 20;
    let mut peer = Peer::new();
    peer.start(1, sh(&format!("head -c {ALL} /dev/zero | tr '\\0' x")), b"");
    peer.attach(1, 0, 256 << 10);
    // Another process is not held up by it.
    assert_eq!(peer.run(2, sh("echo quick"), b"").stdout, b"quick\n");
    let mut seen = 0;
    loop {
        let (message, payload) = peer.find(|message, payload| Some((message.clone(), payload.clone())));
        match message {
            FromGuest::Output { id: of, position, .. } if of == id(1) => {
                assert_eq!(position, seen);
                assert!(payload.iter().all(|byte| *byte == b'x'));
                seen += payload.len() as u64;
                peer.say(ToGuest::Credit { id: id(1), credit: payload.len() as u64 }, b"");
            }
            FromGuest::Truncated { position, stdout, stderr, .. } => {
                assert_eq!((position, stderr), (seen, 0));
                seen = stdout;
            }
            FromGuest::Exited { id: of, position, exit } if of == id(1) => {
                assert_eq!((position, exit), (ALL, Exit::Code(0)));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(seen, ALL);
}

#[test]
fn a_process_without_a_reader_is_not_held_up() {
    let mut peer = Peer::new();
    peer.start(1, sh("head -c 20000000 /dev/zero"), b"");
    peer.attach(1, 0, 0);
    until("it ends", || {
        peer.reconnect();
        peer.attach(1, 0, 0);
        peer.known[0].exit.is_some()
    });
    assert_eq!(peer.known[0].position, 20_000_000);
}

#[test]
fn terminals_are_terminals() {
    let mut peer = Peer::new();
    let spec = Spec {
        terminal: Some(Terminal { columns: 100, rows: 30 }),
        keep_stdin_open: true,
        ..sh("stty size; trap 'stty size; exit 4' WINCH; test -t 2 && echo ready; while :; do read line; done")
    };
    peer.start(1, spec, b"");
    peer.attach(1, 0, PLENTY);
    assert!(peer.output_with(1, "ready").contains("30 100\r\n"));
    peer.say(ToGuest::Resize { id: id(1), terminal: Terminal { columns: 90, rows: 20 } }, b"");
    peer.say(ToGuest::Stdin { id: id(1), offset: 0, eof: false }, b"line\n");
    assert!(peer.output_with(1, "20 90").contains("20 90"));
    peer.reconnect();
    peer.attach(1, 0, PLENTY);
    assert_eq!(peer.outcome(1).exit, Some(Exit::Code(4)));
    // The end of input, as a key.
    let spec = Spec { terminal: Some(Terminal { columns: 80, rows: 24 }), ..sh("cat; echo over") };
    let outcome = peer.run(2, spec, b"typed\n");
    assert!(String::from_utf8(outcome.stdout).unwrap().ends_with("typed\r\ntyped\r\nover\r\n"));
}

#[test]
fn the_wall_time_ends_the_whole_tree() {
    let mut peer = Peer::new();
    let spec = Spec { wall_time_ms: Some(100), ..sh("trap '' TERM; setsid sleep 1000 & echo $!; sleep 1000") };
    let outcome = peer.run(1, spec, b"");
    assert_eq!(outcome.exit, Some(Exit::TimedOut));
    let sleeper = String::from_utf8(outcome.stdout).unwrap().trim().to_owned();
    until("the tree is gone", || !std::path::Path::new(&format!("/proc/{sleeper}")).exists());
}

#[test]
fn what_is_left_in_the_background_holds_up_nothing() {
    let mut peer = Peer::new();
    let outcome = peer.run(1, sh("sleep 1000 & exec >&- 2>&-; exit 5"), b"");
    assert_eq!(outcome.exit, Some(Exit::Code(5)));
    let outcome = peer.run(2, sh("(while :; do echo more; done) & echo $!; exit 6"), b"");
    assert_eq!(outcome.exit, Some(Exit::Code(6)));
    peer.say(ToGuest::Signal { id: id(2), signal: 9, to: Signal::Tree }, b"");
    peer.ping(1);
}

#[test]
fn a_keeper_that_is_killed_takes_its_process_along() {
    let mut peer = Peer::new();
    peer.start(1, sh("setsid sleep 1000 & echo $!; kill -9 $PPID; wait; wait"), b"");
    peer.attach(1, 0, PLENTY);
    let outcome = peer.outcome(1);
    assert_eq!(outcome.exit, Some(Exit::Signal(9)));
    let sleeper = String::from_utf8(outcome.stdout).unwrap().trim().to_owned();
    until("orphans are gone", || !std::path::Path::new(&format!("/proc/{sleeper}")).exists());
}

#[test]
fn a_keeper_that_is_free_keeps_another_process() {
    let mut peer = Peer::new();
    let parent = |peer: &mut Peer, number: u32, spec: Spec| {
        let outcome = peer.run(number, spec, b"");
        assert_eq!(outcome.exit, Some(Exit::Code(0)), "{outcome:?}");
        String::from_utf8(outcome.stdout).unwrap().trim().parse::<i32>().unwrap()
    };
    let first = parent(&mut peer, 1, sh("echo $PPID"));
    // It is free a moment after the end of the process was told.
    let mut number = 2;
    until("a keeper that is used again", || {
        number += 1;
        parent(&mut peer, number, sh("echo $PPID")) == first
    });
    // With a terminal, in another directory, and after a program that is none.
    peer.start(1000, Spec { command: vec![b"/none".to_vec()], ..Spec::default() }, b"");
    peer.find(|message, _| matches!(message, FromGuest::NotStarted { .. }).then_some(()));
    let terminal = Some(Terminal { columns: 7, rows: 5 });
    let spec = Spec { terminal, directory: b"/usr".to_vec(), ..sh("pwd; stty size; ls /proc/self/fd | wc -l") };
    assert_eq!(String::from_utf8_lossy(&peer.run(1001, spec, b"").stdout), "/usr\r\n5 7\r\n4\r\n");
    // What is too large for an order goes to a new one.
    let long = "x".repeat(100_000);
    let outcome = peer.run(1002, sh(&format!("x={long}; echo ${{#x}}")), b"");
    assert_eq!(outcome.stdout, b"100000\n");
    // One that was killed meanwhile is not missed.
    let keeper = parent(&mut peer, 1003, sh("echo $PPID"));
    rustix::process::kill_process(rustix::process::Pid::from_raw(keeper).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    until("a process that runs", || {
        number += 1;
        peer.run(number, sh("exit 3"), b"").exit == Some(Exit::Code(3))
    });
}

#[test]
fn limits_hold() {
    let mut peer = Peer::with(Settings { processes: 2, journal_bytes: 64, ..Settings::default() });
    for number in [1, 2, 3] {
        peer.start(number, sh("sleep 1000"), b"");
    }
    peer.find(|message, _| match message {
        FromGuest::NotStarted { id: of, failure } => {
            assert_eq!((of, failure), (&id(3), &StartFailure::TooMany));
            Some(())
        }
        _ => None,
    });
    peer.release(1);
    peer.release(2);
    until("there is room again", || {
        peer.start(4, sh("exit 0"), b"");
        peer.find(|message, _| match message {
            FromGuest::NotStarted { .. } => Some(false),
            FromGuest::Started { id: of, .. } if *of == id(4) => Some(true),
            _ => None,
        })
    });
}

#[test]
fn the_guest_ends_with_its_main_process() {
    let mut peer = Peer::with(Settings { main: Some(id(1)), ..Settings::default() });
    peer.start(2, sh("sleep 1000"), b"");
    assert_eq!(peer.run(1, sh("exit 42"), b"").exit, Some(Exit::Code(42)));
    peer.ping(1);
    peer.release(1);
    assert_eq!(peer.guest.wait().unwrap().code(), Some(42));
}

#[test]
fn nonsense_costs_the_connection_and_nothing_else() {
    let mut peer = Peer::new();
    peer.start(1, sh("sleep 1000"), b"");
    let pid = peer.started(1);
    for bytes in [&[0xff; 64][..], &[8, 0, 0, 0, 4, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]] {
        peer.write_raw(bytes);
        peer.reconnect();
        assert_eq!(peer.known[0].pid, Some(pid));
    }
    for signal in [0, -1, 65, i32::MIN] {
        peer.say(ToGuest::Signal { id: id(1), signal, to: Signal::Group }, b"");
        peer.find(|message, _| matches!(message, FromGuest::Refused { .. }).then_some(()));
    }
    peer.say(ToGuest::Credit { id: id(9), credit: 1 }, b"");
    peer.find(|message, _| matches!(message, FromGuest::Refused { id: of, .. } if *of == id(9)).then_some(()));
}

#[test]
fn memory_stays_small() {
    let mut peer = Peer::new();
    const AT_ONCE: u32 = 1000;
    for number in 0..AT_ONCE {
        peer.start(number, Spec { keep_stdin_open: true, ..sh("read line; echo $line") }, b"");
    }
    for number in 0..AT_ONCE {
        peer.started(number);
    }
    let running = peer.memory();
    for number in 0..AT_ONCE {
        peer.attach(number, 0, PLENTY);
        peer.say(ToGuest::Stdin { id: id(number), offset: 0, eof: true }, b"some text\n");
    }
    for number in 0..AT_ONCE {
        assert_eq!(peer.outcome(number).stdout, b"some text\n");
    }
    let ended = peer.memory();
    (0..AT_ONCE).for_each(|number| peer.release(number));
    peer.ping(1);
    // Memory goes back once the last keeper was reaped.
    let mut released = peer.memory();
    let end = std::time::Instant::now() + peer::DEADLINE / 10;
    while released >= ended / 2 + 1024 && std::time::Instant::now() < end {
        released = peer.memory();
    }
    println!("memory in KiB: {running} with {AT_ONCE} processes, {ended} with as many ended, {released} without any");
    // Code that is not optimised takes a good deal by itself.
    let most = if cfg!(debug_assertions) && std::env::var_os("CASEMATE_GUEST_UNDER_TEST").is_none() {
        8 << 10
    } else {
        5 << 10
    };
    assert!(running.max(ended) < most, "{running} {ended}");
    assert!(released < most / 2 + 1024, "{released}");
}

#[test]
fn users_are_those_of_the_container() {
    let mut peer = Peer::new();
    // Without a pipe, which the shell itself would have open for a moment.
    let script = "test -r /proc/$PPID/fd && echo open; id -u; id -g; ls /proc/$$/fd; echo end";
    let user = User::Named(b"12345:23456".to_vec());
    peer.start(1, Spec { user, ..sh(script) }, b"");
    peer.attach(1, 0, PLENTY);
    let outcome = peer.find(|message, payload| match message {
        FromGuest::NotStarted { failure: StartFailure::User(_), .. } => Some(None),
        FromGuest::Output { .. } if payload.ends_with(b"23456\n") || payload.ends_with(b"end\n") => Some(Some(())),
        FromGuest::Exited { .. } => Some(Some(())),
        _ => None,
    });
    if outcome.is_none() {
        return; // Only root may become somebody else.
    }
    peer.reconnect();
    peer.attach(1, 0, PLENTY);
    assert_eq!(String::from_utf8(peer.outcome(1).stdout).unwrap(), "12345\n23456\n0\n1\n2\nend\n");
}
