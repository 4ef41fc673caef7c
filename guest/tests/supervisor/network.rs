//! Connections to ports of the container, and from the gate.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use casemate_guest::protocol::{Answer, Failure, FromGuest, GATE_CONNECTIONS, Request, Settings, ToGuest};

use crate::peer::{DEADLINE, Peer, until};

/// A port that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn gated(port: u16) -> Settings {
    Settings { gate: Some(port), ..Settings::default() }
}

fn connected(peer: &mut Peer) -> u64 {
    peer.find(|message, _| match message {
        FromGuest::Connected { channel } => Some(*channel),
        _ => None,
    })
}

fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn cut(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
}

#[test]
fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    let mut peer = Peer::new();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        peer.open(2, Request::Connect { port: listener.local_addr().unwrap().port() });
        peer.began(2);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        peer.data(2, b"question");
        peer.data_end(2);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"question");
        stream.write_all(b"answer").unwrap();
        assert_eq!(peer.until(2, |said| said.bytes == b"answer").result, None);
        drop(stream);
        let said = peer.done(2);
        assert!(said.ended);
        assert_eq!(said.answer(), Answer::Done);
    }
}

#[test]
fn ends_of_connections_are_told_apart() {
    let mut peer = Peer::new();
    assert_eq!(peer.ask(2, Request::Connect { port: free_port() }).failure(), Failure::Refused);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    peer.open(2, Request::Connect { port });
    cut(listener.accept().unwrap().0);
    assert_eq!(peer.done(2).failure(), Failure::Reset);
    // The other end closed well; the server goes on, into nothing.
    peer.open(4, Request::Connect { port });
    drop(listener.accept().unwrap());
    peer.until(4, |said| said.ended);
    until("it is told", || {
        peer.data(4, b"x");
        peer.ping(1);
        peer.try_find(|message, _| match message {
            FromGuest::Done { channel: 4, result } => Some(result.clone()),
            _ => None,
        })
        .is_some_and(|result| result == Err(Failure::Reset))
    });
    // The server gives up: the other end can tell.
    peer.open(6, Request::Connect { port });
    let mut stream = listener.accept().unwrap().0;
    peer.began(6);
    peer.give_up(6);
    assert_eq!(peer.done(6).failure(), Failure::Dropped);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_connection_that_nobody_reads_stops_and_goes_on() {
    const ALL: usize = 20 << 20;
    let mut peer = Peer::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    peer.open(2, Request::Connect { port: listener.local_addr().unwrap().port() });
    let mut stream = listener.accept().unwrap().0;
    let writer = std::thread::spawn(move || {
        stream.write_all(&vec![5; ALL]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        back.len()
    });
    // Others are not held up meanwhile.
    peer.ping(1);
    assert_eq!(peer.run(1, crate::peer::sh("echo quick"), b"").stdout, b"quick\n");
    let said = peer.until(2, |said| said.ended);
    assert!(said.bytes.len() == ALL && said.bytes.iter().all(|byte| *byte == 5));
    peer.data(2, &[1; 1000]);
    peer.data_end(2);
    assert_eq!(writer.join().unwrap(), 1000);
    assert_eq!(peer.done(2).answer(), Answer::Done);
}

#[test]
fn processes_connect_to_the_gate() {
    let port = free_port();
    let mut peer = Peer::with(gated(port));
    peer.ping(1);
    let mut stream = dial(port);
    let channel = connected(&mut peer);
    assert!(!channel.is_multiple_of(2));
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let said = peer.until(channel, |said| said.ended);
    assert_eq!(said.bytes, b"question");
    peer.data(channel, b"answer");
    peer.data_end(channel);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"answer");
    assert_eq!(peer.done(channel).answer(), Answer::Done);
    // One that the server does not want, and one that it leaves behind.
    let mut unwanted = dial(port);
    let next = connected(&mut peer);
    assert_ne!(next, channel);
    peer.give_up(next);
    assert_eq!(unwanted.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut left = dial(port);
    connected(&mut peer);
    peer.reconnect();
    assert_eq!(left.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    // The gate stays.
    let _stream = dial(port);
    connected(&mut peer);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let mut peer = Peer::with(gated(taken));
    let no_gate = |peer: &mut Peer| {
        peer.find(|message, _| match message {
            FromGuest::NoGate { port, .. } => Some(*port),
            _ => None,
        })
    };
    assert_eq!(no_gate(&mut peer), taken);
    drop(listener);
    peer.reconnect();
    peer.ping(1);
    let _stream = dial(taken);
    connected(&mut peer);
    peer.say(
        ToGuest::Hello { version: casemate_guest::protocol::VERSION, settings: gated(taken.wrapping_add(1)) },
        b"",
    );
    assert_eq!(no_gate(&mut peer), taken.wrapping_add(1));
}

#[test]
fn connections_to_the_gate_wait_for_room() {
    let port = free_port();
    let mut peer = Peer::with(gated(port));
    peer.ping(1);
    let mut streams: Vec<_> = (0..GATE_CONNECTIONS + 5).map(|_| dial(port)).collect();
    let channels: Vec<_> = (0..GATE_CONNECTIONS).map(|_| connected(&mut peer)).collect();
    peer.ping(2);
    let more = peer.try_find(|message, _| matches!(message, FromGuest::Connected { .. }).then_some(()));
    assert_eq!(more, None);
    // One goes: one comes.
    peer.give_up(channels[0]);
    peer.done(channels[0]);
    connected(&mut peer);
    streams.clear();
}
