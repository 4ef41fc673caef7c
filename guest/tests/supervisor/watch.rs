//! Changes that are watched.

use std::fs;
use std::path::Path;

use casemate_guest::protocol::{Change, Event, Failure, Request};

use crate::channel::{Said, bytes};
use crate::peer::{Peer, sh};

fn watch(path: &Path, recursive: bool) -> Request {
    Request::Watch { root: b"/".to_vec(), path: bytes(path), recursive }
}

fn has(said: &Said, path: &str, fits: impl Fn(Change) -> bool) -> bool {
    said.events.iter().any(|event| event.path == path.as_bytes() && fits(event.change))
}

#[test]
fn changes_are_told_in_order() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    fs::create_dir(folder.path().join("sub")).unwrap();
    peer.open(2, watch(folder.path(), false));
    peer.began(2);
    let path = folder.path().join("file");
    fs::write(&path, "x").unwrap();
    fs::rename(&path, folder.path().join("new")).unwrap();
    fs::write(folder.path().join("sub/unseen"), "x").unwrap();
    fs::remove_file(folder.path().join("new")).unwrap();
    let said = peer.until(2, |said| has(said, "new", |change| change == Change::Removed));
    let changes: Vec<_> = said.events.iter().map(|Event { path, change, .. }| (&path[..], *change)).collect();
    let Some(Change::MovedFrom(cookie)) = said.events.iter().map(|event| event.change).nth(3) else {
        panic!("{changes:?}")
    };
    assert_eq!(
        changes,
        [
            (&b"file"[..], Change::Created),
            (b"file", Change::Modified),
            (b"file", Change::Written),
            (b"file", Change::MovedFrom(cookie)),
            (b"new", Change::MovedTo(cookie)),
            (b"new", Change::Removed),
        ]
    );
    // One file; and the end of what is watched.
    fs::write(&path, "x").unwrap();
    peer.open(4, watch(&path, true));
    peer.began(4);
    fs::write(&path, "more").unwrap();
    peer.until(4, |said| has(said, "", |change| change == Change::Written));
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(peer.done(4).failure(), Failure::NotFound);
    assert_eq!(peer.done(2).failure(), Failure::NotFound);
    assert_eq!(peer.ask(6, watch(&path, false)).failure(), Failure::NotFound);
}

#[test]
fn nothing_in_new_folders_is_missed() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    fs::create_dir_all(folder.path().join("there/before")).unwrap();
    peer.open(2, watch(folder.path(), true));
    peer.began(2);
    fs::write(folder.path().join("there/before/file"), "").unwrap();
    let script = "for i in $(seq 1 60); do mkdir -p d$i/e/f; echo > d$i/e/f/file; done; mkdir out; mkdir -p \"$0/x/y\"; \
                  echo > \"$0/x/y/file\"; mv \"$0/x\" moved; echo > moved/y/more; mv moved again; echo > again/y/last";
    let other = tempfile::tempdir().unwrap();
    let mut spec = sh(script);
    spec.directory = bytes(folder.path());
    spec.command.push(bytes(other.path()));
    peer.run(1, spec, b"");
    let created = |change| matches!(change, Change::Created);
    let said = peer.until(2, |said| has(said, "again/y/last", created));
    assert!(has(&said, "there/before/file", created));
    for number in 1..=60 {
        for path in ["", "/e", "/e/f", "/e/f/file"] {
            let path = format!("d{number}{path}");
            assert!(has(&said, &path, created), "{path}");
        }
    }
    assert!(has(&said, "moved/y/more", created) || has(&said, "again/y/more", created));
    // What left is not told of any more.
    fs::rename(folder.path().join("again"), other.path().join("left")).unwrap();
    fs::write(other.path().join("left/y/unseen"), "").unwrap();
    fs::write(folder.path().join("end"), "").unwrap();
    let said = peer.until(2, |said| has(said, "end", created));
    assert!(!said.events.iter().any(|event| event.path.ends_with(b"unseen")), "{:?}", said.events);
}

#[test]
fn lost_changes_are_told() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    peer.open(2, watch(folder.path(), true));
    peer.began(2);
    // Nothing is granted meanwhile, and the kernel keeps so many only.
    let script = "i=0; while [ $i -lt 20000 ]; do : > a$0; : > b$0; i=$((i + 1)); done; mkdir -p late/below";
    let mut spec = sh(script);
    spec.directory = bytes(folder.path());
    spec.command.push(vec![b'x'; 200]);
    peer.run(1, spec, b"");
    peer.until(2, |said| has(said, "", |change| change == Change::Overflow));
    // Folders that came without a word are watched too.
    fs::write(folder.path().join("late/below/file"), "").unwrap();
    peer.until(2, |said| has(said, "late/below/file", |change| matches!(change, Change::Written)));
}

#[test]
fn there_are_so_many_watched_folders() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    for number in 0..8200 {
        fs::create_dir(folder.path().join(number.to_string())).unwrap();
    }
    assert!(matches!(peer.ask(2, watch(folder.path(), true)).failure(), Failure::TooMany(_)));
    peer.open(2, watch(folder.path(), false));
    peer.began(2);
}
