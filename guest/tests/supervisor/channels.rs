//! Channels as such: bounds, credit, and everything else meanwhile.

use std::fs;
use std::path::Path;

use casemate_guest::protocol::{Answer, CHANNELS, Failure, FromGuest, How, Request, ToGuest, WINDOW};

use crate::channel::{read, write};
use crate::peer::{PLENTY, Peer, sh};

#[test]
fn credit_is_kept_to() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("file");
    // Held up by nothing, the guest takes what comes; so it is sent in one piece.
    peer.open(2, write(&path, How::Replace));
    peer.data(2, &vec![0; WINDOW as usize + 1]);
    assert_eq!(peer.done(2).failure(), Failure::Credit);
    peer.open(2, write(&path, How::Replace));
    peer.data_end(2);
    peer.data(2, b"x");
    // Whichever comes first.
    let result = peer.done(2).result.unwrap();
    assert!(matches!(result, Err(Failure::Credit) | Ok(Answer::Written { bytes: 0 })), "{result:?}");
    // A request that takes no bytes has no credit.
    fs::write(&path, vec![7; 2 * WINDOW as usize]).unwrap();
    peer.open(2, read(&path));
    peer.data(2, b"x");
    let failure = peer.until(2, |_| false);
    assert_eq!(failure.failure(), Failure::Credit);
    // The guest keeps to its own.
    peer.open(2, read(&path));
    peer.began(2);
    let mut seen = 0;
    while seen < WINDOW {
        seen += peer.find(|message, payload| matches!(message, FromGuest::Data { .. }).then_some(payload.len() as u64));
    }
    assert_eq!(seen, WINDOW);
    peer.ping(1);
    peer.say(ToGuest::More { channel: 2, credit: 1 }, b"");
    assert_eq!(peer.about(2).1.len(), 1);
    peer.give_up(2);
    assert_eq!(peer.done(2).failure(), Failure::Dropped);
}

#[test]
fn numbers_are_the_servers_own_and_used_once_at_a_time() {
    let mut peer = Peer::new();
    assert_eq!(peer.ask(3, read(Path::new("/etc/passwd"))).failure(), Failure::Channel);
    let watch = || Request::Watch { root: b"/".to_vec(), path: b"/tmp".to_vec(), recursive: false };
    peer.open(2, watch());
    peer.open(2, read(Path::new("/etc/passwd")));
    assert_eq!(peer.done(2).failure(), Failure::Channel);
    // What is about none of them is nothing.
    peer.data(8, b"x");
    peer.data_end(8);
    peer.give_up(8);
    peer.say(ToGuest::More { channel: 8, credit: 1 }, b"");
    assert_eq!(peer.ask(2, read(Path::new("/etc/passwd"))).answer(), Answer::Done);
}

#[test]
fn there_are_so_many_channels_and_no_more() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let half = |number: u64| write(&folder.path().join(number.to_string()), How::Replace);
    let most = CHANNELS as u64;
    (0..most).for_each(|number| peer.open(2 * number, half(number)));
    let refused = peer.ask(2 * most, half(most));
    assert!(matches!(refused.failure(), Failure::TooMany(_)));
    (0..most).for_each(|number| peer.data_end(2 * number));
    (0..most).for_each(|number| assert_eq!(peer.done(2 * number).answer(), Answer::Written { bytes: 0 }));
    assert_eq!(peer.ask_with(2 * most, half(most), b"x").answer(), Answer::Written { bytes: 1 });
    // They go with the connection.
    (0..most).for_each(|number| peer.open(2 * number, half(number)));
    peer.reconnect();
    assert_eq!(peer.ask_with(0, half(0), b"x").answer(), Answer::Written { bytes: 1 });
}

#[test]
fn processes_are_not_held_up_and_hold_up_nothing() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("large");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    // More than will ever be read, as fast as it goes; and a process that writes as fast as it can.
    peer.open(2, read(&path));
    peer.say(ToGuest::More { channel: 2, credit: PLENTY }, b"");
    peer.start(1, sh("cat /dev/zero"), b"");
    peer.attach(1, 0, PLENTY);
    let (mut of_channel, mut of_process) = (0, 0);
    while of_channel < 20 << 20 || of_process < 20 << 20 {
        match peer.next() {
            (FromGuest::Data { channel: 2 }, payload) => of_channel += payload.len(),
            (FromGuest::Output { .. }, payload) => of_process += payload.len(),
            _ => {}
        }
    }
    let (less, more) = (of_channel.min(of_process), of_channel.max(of_process));
    assert!(less * 20 > more, "{of_channel} {of_process}");
    peer.give_up(2);
    loop {
        if let (FromGuest::Done { channel: 2, result }, _) = peer.next() {
            assert_eq!(result, Err(Failure::Dropped));
            break;
        }
    }
    peer.release(1);
}

#[test]
fn memory_stays_flat_with_large_files() {
    const SIZE: usize = 256 << 20;
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("large");
    peer.ask_with(2, write(&path, How::Replace), b"first");
    let before = peer.memory();
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 4099) as u8).collect();
    let begin = std::time::Instant::now();
    assert_eq!(peer.ask_with(2, write(&path, How::Replace), &content).answer(), Answer::Written { bytes: SIZE as u64 });
    let wrote = begin.elapsed();
    let written = peer.memory();
    let begin = std::time::Instant::now();
    let said = peer.ask(2, read(&path));
    let read = begin.elapsed();
    assert!(said.bytes == content);
    let after = peer.memory();
    let speed = |time: std::time::Duration| (SIZE >> 20) as f64 / time.as_secs_f64();
    println!("memory in KiB: {before}, {written} after writing, {after} after reading");
    println!("{:.0} MiB/s written, {:.0} MiB/s read", speed(wrote), speed(read));
    assert!(written.max(after) < before + 3072, "{before} {written} {after}");
}
