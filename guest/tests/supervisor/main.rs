//! The real binary, as an ordinary process, against a listener that speaks the protocol.

mod peer;

use casemate_guest::protocol::{Exit, FromGuest, Signal, Spec, StartFailure, ToGuest};
use peer::{PLENTY, Peer, id, sh, until};

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
        FromGuest::StdinAccepted { id: of, offset, closed: true } if *of == id(2) => Some(*offset),
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
