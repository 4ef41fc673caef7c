//! Files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use casemate_guest::protocol::{Answer, Failure, FromGuest, How, Kind, Request, ToGuest, WINDOW};

use crate::channel::{bytes, list, names, read, remove, write};
use crate::peer::{Peer, sh, until};

fn root() -> Vec<u8> {
    b"/".to_vec()
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn files_are_read() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("file");
    let content: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    fs::write(&path, &content).unwrap();
    let said = peer.ask(2, read(&path));
    let stat = said.stat.clone().unwrap();
    assert_eq!((stat.kind, stat.size, stat.inode), (Kind::File, 3_000_000, fs::metadata(&path).unwrap().ino()));
    assert!(said.bytes == content);
    assert_eq!(said.answer(), Answer::Done);
    for (offset, length, expected) in [
        (2_999_990, None, &content[2_999_990..]),
        (5, Some(7), &content[5..12]),
        (0, Some(0), &[]),
        (3_000_000, None, &[]),
        (u64::MAX, None, &[]),
        (2_999_999, Some(u64::MAX), &content[2_999_999..]),
    ] {
        let said = peer.ask(4, Request::Read { root: root(), path: bytes(&path), offset, length });
        assert!(said.bytes == expected);
        assert_eq!(said.answer(), Answer::Done);
    }
    // What the kernel makes up has no size.
    assert!(String::from_utf8_lossy(&peer.ask(6, read(Path::new("/proc/self/status"))).bytes).contains("casemate"));
}

#[test]
fn what_is_no_file_is_never_opened() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    fifo(&path("fifo"));
    symlink("fifo", path("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    for name in ["fifo", "link", "socket", "/dev/null", "/dev/zero"] {
        assert_eq!(peer.ask(2, read(&path(name))).failure(), Failure::NotRegular, "{name}");
        for how in [How::Append, How::Create, How::At(3)] {
            assert_eq!(peer.ask(2, write(&path(name), how)).failure(), Failure::NotRegular, "{name}");
        }
    }
    assert_eq!(peer.ask(2, write(&path("fifo"), How::Replace)).failure(), Failure::NotRegular);
    assert_eq!(peer.ask(2, read(folder.path())).failure(), Failure::IsDirectory);
    assert_eq!(peer.ask(2, write(folder.path(), How::Replace)).failure(), Failure::IsDirectory);
    assert_eq!(peer.ask(2, read(&path("none"))).failure(), Failure::NotFound);
    assert_eq!(peer.ask(2, read(&path("fifo/none"))).failure(), Failure::NotDirectory);
    assert!(matches!(peer.ask(2, read(Path::new("relative"))).failure(), Failure::Invalid(_)));
    symlink("loop", path("loop")).unwrap();
    assert_eq!(peer.ask(2, read(&path("loop"))).failure(), Failure::Links);
}

#[test]
fn a_file_that_becomes_shorter_is_told_apart() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("file");
    fs::write(&path, vec![1; 2_000_000]).unwrap();
    peer.open(2, read(&path));
    // Up to the window alone.
    let mut seen = 0;
    while seen < WINDOW {
        seen += peer.find(|message, payload| matches!(message, FromGuest::Data { .. }).then_some(payload.len() as u64));
    }
    peer.ping(1);
    fs::File::options().write(true).open(&path).unwrap().set_len(300_000).unwrap();
    peer.say(ToGuest::More { channel: 2, credit: 5_000_000 }, b"");
    assert_eq!(peer.done(2).failure(), Failure::Shrank { sent: 300_000 });
}

#[test]
fn files_are_written_in_each_way() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("file");
    let content: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    assert_eq!(
        peer.ask_with(2, write(&path, How::CreateOnly), &content).answer(),
        Answer::Written { bytes: 3_000_000 }
    );
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(peer.ask_with(2, write(&path, How::CreateOnly), b"x").failure(), Failure::Exists);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    assert_eq!(peer.ask_with(2, write(&path, How::Replace), b"new").answer(), Answer::Written { bytes: 3 });
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.mode() & 0o7777, after.ino() == before), (0o751, false));
    peer.ask_with(2, write(&path, How::Append), b"er").answer();
    peer.ask_with(2, write(&path, How::At(1)), b"EWES").answer();
    peer.ask_with(2, write(&path, How::At(7)), b"t").answer();
    assert_eq!(fs::read(&path).unwrap(), b"nEWES\0\0t");
    assert_eq!(peer.ask_with(2, write(&path, How::Create), b"").answer(), Answer::Written { bytes: 0 });
    let same = fs::metadata(&path).unwrap();
    assert_eq!((same.len(), same.ino()), (0, after.ino()));
    // Links are followed in place, and replaced otherwise.
    let link = folder.path().join("link");
    symlink("file", &link).unwrap();
    peer.ask_with(2, write(&link, How::Append), b"through").answer();
    assert_eq!(fs::read(&path).unwrap(), b"through");
    peer.ask_with(2, write(&link, How::Replace), b"itself").answer();
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
    assert_eq!(names(folder.path()), ["file", "link"]);
}

#[test]
fn folders_modes_and_sizes_are_as_asked() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let request = |mode, how, parents, size| {
        let path = [&bytes(folder.path())[..], b"/a//b/./c/file"].concat();
        Request::Write { root: root(), path, mode, how, parents, size, sync: true }
    };
    assert_eq!(peer.ask_with(2, request(None, How::Replace, false, None), b"x").failure(), Failure::NotFound);
    peer.ask_with(2, request(Some(0o640), How::Replace, true, Some(3)), b"abc").answer();
    let path = folder.path().join("a/b/c/file");
    assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().mode() & 0o7777), (b"abc".to_vec(), 0o640));
    let wrong = peer.ask_with(2, request(None, How::Replace, true, Some(4)), b"abc");
    assert_eq!(wrong.failure(), Failure::Size { came: 3 });
    let wrong = peer.ask_with(2, request(None, How::Replace, true, Some(2)), b"xyz");
    assert_eq!(wrong.failure(), Failure::Size { came: 3 });
    assert_eq!((fs::read(&path).unwrap(), names(path.parent().unwrap())), (b"abc".to_vec(), vec!["file".to_owned()]));
}

#[test]
fn what_is_the_kernels_or_the_guests_is_not_for_writing() {
    let mut peer = Peer::new();
    for path in ["/proc/self/comm", "/sys/x", "/.casemate/guest", "/tmp/../proc/x", "//proc/x"] {
        for how in [How::Replace, How::Create, How::CreateOnly, How::Append] {
            assert_eq!(peer.ask_with(2, write(Path::new(path), how), b"x").failure(), Failure::ReadOnly, "{path}");
        }
        assert_eq!(peer.ask(2, remove(Path::new(path), true)).failure(), Failure::ReadOnly);
        let made = Request::MakeDirectory { root: root(), path: path.into(), mode: None, parents: true };
        assert_eq!(peer.ask(2, made).failure(), Failure::ReadOnly);
        let moved = Request::Move { root: root(), from: b"/tmp/x".to_vec(), to: path.into(), replace: true };
        assert!(matches!(peer.ask(2, moved).failure(), Failure::ReadOnly | Failure::NotFound));
    }
}

#[test]
fn a_server_that_vanishes_leaves_nothing_half_written() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("file");
    fs::write(&path, "old").unwrap();
    let half = |names: Vec<String>| names.iter().filter(|name| name.starts_with(".casemate-")).count();
    peer.open(2, write(&path, How::Replace));
    peer.open(4, write(&folder.path().join("new"), How::CreateOnly));
    peer.data(2, &[1; 100_000]);
    peer.data(4, &[1; 100_000]);
    until("both are being written", || half(names(folder.path())) == 2);
    peer.give_up(4);
    assert_eq!(peer.done(4).failure(), Failure::Dropped);
    assert_eq!(names(folder.path()).len(), 2);
    peer.reconnect();
    until("nothing is left", || names(folder.path()) == ["file"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    // The same with the guest itself.
    peer.open(2, write(&path, How::Replace));
    peer.data(2, &[1; 100_000]);
    until("it is being written", || half(names(folder.path())) == 1);
    peer.say(ToGuest::Shutdown, b"");
    peer.guest.wait().unwrap();
    assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (vec!["file".to_owned()], b"old".to_vec()));
}

#[test]
fn paths_stay_beneath_their_root_while_they_are_swapped() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("root/real")).unwrap();
    fs::create_dir(path("outside")).unwrap();
    fs::write(path("root/real/file"), "inside").unwrap();
    fs::write(path("outside/file"), "outside").unwrap();
    let script = "cd \"$0\"; while :; do ln -sfn ../outside link; mv -T link swap; ln -sfn real link; mv -T link swap; \
                  ln -sfn /etc link; mv -T link swap; done";
    let mut spec = sh(script);
    spec.command.push(bytes(&path("root")));
    peer.start(1, spec, b"");
    peer.started(1);
    until("it is swapped", || path("root/swap").exists());
    let (beneath, file) = (bytes(&path("root")), b"/swap/file".to_vec());
    let (mut inside, mut refused) = (0, 0);
    while inside < 200 || refused < 200 {
        let (root, path) = (beneath.clone(), file.clone());
        let said = peer.ask(2, Request::Read { root, path, offset: 0, length: None });
        match said.result.clone().unwrap() {
            Ok(_) => {
                assert_eq!(said.bytes, b"inside");
                inside += 1;
            }
            Err(failure) => {
                assert!(matches!(failure, Failure::Escapes | Failure::NotFound), "{failure:?}");
                refused += 1;
            }
        }
        let (root, path) = (beneath.clone(), b"/swap/new".to_vec());
        let (mode, how, parents, size, sync) = (None, How::Replace, true, None, false);
        let _ = peer.ask_with(2, Request::Write { root, path, mode, how, parents, size, sync }, b"x");
        let (root, path) = (beneath.clone(), b"/swap/new".to_vec());
        let _ = peer.ask(2, Request::Remove { root, path, recursive: true, allow_missing: true });
    }
    assert_eq!(names(&path("outside")), ["file"]);
    assert!(!Path::new("/etc/new").exists());
}

#[test]
fn folders_are_listed_page_by_page() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    for number in 0..3000 {
        fs::write(folder.path().join(format!("{number:05}")), "").unwrap();
    }
    fs::create_dir_all(folder.path().join("00100.d/below/deep")).unwrap();
    symlink("00100.d", folder.path().join("link")).unwrap();
    let (mut after, mut all) = (None::<String>, Vec::new());
    loop {
        let said = peer.ask(2, list(folder.path(), 2, after.as_deref(), 700));
        let page = said.entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap());
        all.extend(page);
        after = all.last().cloned();
        if said.answer() == (Answer::Listed { more: false }) {
            break;
        }
    }
    let mut expected: Vec<_> = (0..3000).map(|number| format!("{number:05}")).collect();
    expected.extend(["00100.d", "00100.d/below", "link"].map(str::to_owned));
    expected.sort();
    assert_eq!(all, expected);
    let said = peer.ask(2, list(folder.path(), 1, Some("01"), 1));
    assert_eq!((&said.entries[0].path[..], said.entries[0].stat.kind), (&b"01000"[..], Kind::File));
    let said = peer.ask(2, list(folder.path(), 1, Some("1"), 10));
    assert_eq!(said.entries[0].stat.target.as_deref(), Some(&b"00100.d"[..]));
    for bad in ["..", "../..", "00100.d/../../..", "", "/etc", "."] {
        assert!(matches!(peer.ask(2, list(folder.path(), 2, Some(bad), 1)).failure(), Failure::Invalid(_)), "{bad}");
    }
    assert_eq!(peer.ask(2, list(&folder.path().join("00001"), 1, None, 1)).failure(), Failure::NotDirectory);
    assert_eq!(peer.ask(2, list(&folder.path().join("none"), 1, None, 1)).failure(), Failure::NotFound);
}

#[test]
fn files_are_looked_at_made_and_renamed() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| bytes(&folder.path().join(name));
    let make = |name, mode, parents| Request::MakeDirectory { root: root(), path: path(name), mode, parents };
    assert_eq!(peer.ask(2, make("a/b", None, false)).failure(), Failure::NotFound);
    assert_eq!(peer.ask(2, make("a/b", Some(0o1770), true)).answer(), Answer::Done);
    assert_eq!(peer.ask(2, make("a/b", None, false)).failure(), Failure::Exists);
    assert_eq!(peer.ask(2, make("a/b", None, true)).answer(), Answer::Done);
    symlink("b", folder.path().join("a/link")).unwrap();
    let stat = |name, follow| Request::Stat { root: root(), path: path(name), follow };
    let Answer::Stat(found) = peer.ask(2, stat("a/link", true)).answer() else { panic!() };
    assert_eq!((found.kind, found.mode, found.target), (Kind::Directory, 0o1770, None));
    let Answer::Stat(found) = peer.ask(2, stat("a/link", false)).answer() else { panic!() };
    assert_eq!((found.kind, found.target), (Kind::Link, Some(b"b".to_vec())));
    let rename = |from, to, replace| Request::Move { root: root(), from: path(from), to: path(to), replace };
    fs::write(folder.path().join("one"), "1").unwrap();
    fs::write(folder.path().join("two"), "2").unwrap();
    assert_eq!(peer.ask(2, rename("one", "two", false)).failure(), Failure::Exists);
    assert_eq!(peer.ask(2, rename("one", "two", true)).answer(), Answer::Done);
    assert_eq!(peer.ask(2, rename("one", "two", true)).failure(), Failure::NotFound);
    assert_eq!(fs::read(folder.path().join("two")).unwrap(), b"1");
    assert_eq!(peer.ask(2, rename("two", "a/link/two", false)).answer(), Answer::Done);
    assert_eq!(names(&folder.path().join("a/b")), ["two"]);
}

#[test]
fn a_program_that_was_just_written_runs() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("program");
    let (root, name) = (root(), bytes(&path));
    let (mode, how, parents, size, sync) = (Some(0o755), How::Replace, false, None, false);
    let request = Request::Write { root, path: name, mode, how, parents, size, sync };
    peer.ask_with(2, request, b"#!/bin/sh\necho it runs\n").answer();
    // Somebody else has it open, for a moment.
    let open = fs::File::options().append(true).open(&path).unwrap();
    let spec = casemate_guest::protocol::Spec { command: vec![bytes(&path)], ..sh("") };
    peer.start(1, spec, b"");
    peer.attach(1, 0, crate::peer::PLENTY);
    peer.ping(1);
    drop(open);
    assert_eq!(peer.outcome(1).stdout, b"it runs\n");
}

#[test]
fn trees_are_removed_however_deep() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let tree = folder.path().join("tree");
    let script = "mkdir tree; cd tree; seq 1 1000 | xargs touch; ln -s /etc out; mkdir many; cd many; seq 1 600 | xargs \
                  mkdir; cd 1; i=0; while [ $i -lt 1500 ]; do mkdir d; cd -P d; i=$((i + 1)); done";
    let mut spec = sh(script);
    spec.directory = bytes(folder.path());
    assert_eq!(peer.run(1, spec, b"").exit, Some(casemate_guest::protocol::Exit::Code(0)));
    assert_eq!(peer.ask(2, remove(&tree, false)).failure(), Failure::NotEmpty);
    assert_eq!(peer.ask(2, remove(&tree, true)).answer(), Answer::Removed { entries: 1000 + 1 + 1 + 600 + 1500 + 1 });
    assert_eq!(names(folder.path()), Vec::<String>::new());
    assert_eq!(peer.ask(2, remove(&tree, true)).failure(), Failure::NotFound);
    let missing = Request::Remove { root: root(), path: bytes(&tree), recursive: true, allow_missing: true };
    assert_eq!(peer.ask(2, missing).answer(), Answer::Removed { entries: 0 });
    fs::create_dir(&tree).unwrap();
    assert_eq!(peer.ask(2, remove(&tree, false)).answer(), Answer::Removed { entries: 1 });
    symlink("/etc", &tree).unwrap();
    assert_eq!(peer.ask(2, remove(&tree, true)).answer(), Answer::Removed { entries: 1 });
    assert!(Path::new("/etc/passwd").exists());
    assert!(matches!(peer.ask(2, remove(Path::new("/"), true)).failure(), Failure::Invalid(_)));
}
