//! What the host sees of a world's files, and how paths are followed.

use super::super::errno::Errno;
use super::super::node::{Content, Kind};
use super::super::path::find;
use super::super::tree::Want;
use super::super::{Change, Wasi};
use super::world;
use bytes::Bytes;

fn changes(wasi: &Wasi) -> Vec<(String, bool)> {
    let (changes, more) = wasi.changes(100);
    assert_eq!(more, 0);
    changes.into_iter().map(|Change { path, created, .. }| (path, created)).collect()
}

fn rename(wasi: &mut Wasi, from: &str, to: &str) {
    let (from, to) = (find(&wasi.tree, 0, from, false).unwrap(), find(&wasi.tree, 0, to, false).unwrap());
    wasi.tree.rename((from.directory, &from.name), (to.directory, &to.name), |_| false).unwrap();
}

fn link(wasi: &mut Wasi, path: &str, target: &str) {
    let place = find(&wasi.tree, 0, path, false).unwrap();
    wasi.tree.make(place.directory, &place.name, Kind::Link(target.into())).unwrap();
}

#[test]
fn what_changed_since_the_mark_is_told_by_path() {
    let mut wasi = world(1 << 20);
    for path in ["stays", "edited", "saved", "old/in"] {
        wasi.put(path, &Bytes::from_static(b"1"), 0o600).unwrap();
    }
    wasi.mark();
    assert_eq!(changes(&wasi), []);
    let edited = wasi.at("/work/edited").unwrap();
    wasi.tree.write(edited, 0, 1, |place| place.fill(b'2')).unwrap();
    // As editors save: beside it, then over it.
    wasi.put("saved.part", &Bytes::from_static(b"3"), 0o644).unwrap();
    rename(&mut wasi, "/work/saved.part", "/work/saved");
    rename(&mut wasi, "/work/old", "/work/new");
    link(&mut wasi, "/work/to", "nowhere");
    let expected = [("edited", false), ("new/in", true), ("saved", false), ("to", true)];
    assert_eq!(changes(&wasi), expected.map(|(path, created)| (path.to_owned(), created)));
    let (first, more) = wasi.changes(1);
    assert_eq!((first.len(), more), (1, 3));
    assert_eq!(wasi.content(&first[0]).as_deref(), Some(&b"2"[..]));
    assert_eq!((first[0].mode, first[0].size), (0o600, 1));
}

#[test]
fn a_file_that_does_not_fit_leaves_nothing_behind() {
    let mut wasi = world(2000);
    let used = wasi.tree.used;
    assert_eq!(wasi.put("big", &Bytes::from(vec![0; 1600]), 0o644), Err(Errno::NOSPC.text()));
    assert_eq!((wasi.tree.used, wasi.at("/work/big")), (used, None));
    wasi.put("fits", &Bytes::from(vec![0; 1400]), 0o644).unwrap();
    assert!(wasi.put("../outside", &Bytes::new(), 0o644).is_err());
    assert!(wasi.put("fits/below", &Bytes::new(), 0o644).is_err());
    assert_eq!(wasi.scratch_peak(), 1912);
}

#[test]
fn paths_stay_in_the_tree() {
    let mut wasi = world(1 << 20);
    link(&mut wasi, "/work/out", "../../../../usr/lib/library.zip");
    link(&mut wasi, "/work/root", "/");
    link(&mut wasi, "/work/loop", "loop");
    link(&mut wasi, "/work/dangling", "made");
    assert_eq!(wasi.text("/work/out").as_deref(), Some(&b"library"[..]));
    assert_eq!(wasi.text("/work/root/../../usr/./lib//library.zip").as_deref(), Some(&b"library"[..]));
    assert_eq!(find(&wasi.tree, 0, "/work/loop", true).unwrap_err(), Errno::LOOP);
    assert_eq!(find(&wasi.tree, 0, "/work/out/", true).unwrap().found(&wasi.tree), Err(Errno::NOTDIR));
    assert_eq!(find(&wasi.tree, 0, "/work/nothing/..", true).unwrap_err(), Errno::NOENT);
    assert_eq!(find(&wasi.tree, 0, &"a".repeat(256), true).unwrap_err(), Errno::NAMETOOLONG);
    assert_eq!(find(&wasi.tree, 0, &"a/".repeat(2049), true).unwrap_err(), Errno::NAMETOOLONG);
    assert_eq!(find(&wasi.tree, 0, "", true).unwrap_err(), Errno::NOENT);
    let place = find(&wasi.tree, 0, "/work/dangling", true).unwrap();
    assert_eq!((place.name.as_str(), place.node), ("made", None));
}

#[test]
fn the_library_stays_as_it_is() {
    let mut wasi = world(1 << 20);
    let library = wasi.at("/usr/lib/library.zip").unwrap();
    let (usr, lib) = (wasi.at("/usr").unwrap(), wasi.at("/usr/lib").unwrap());
    let work = wasi.at("/work").unwrap();
    let read_only = Err(Errno::ROFS);
    assert_eq!(wasi.tree.write(library, 0, 1, |_| panic!("it was written to")), read_only);
    assert_eq!(wasi.tree.resize(library, 0), read_only);
    assert_eq!(wasi.tree.set_times(library, None, Some(1)), read_only);
    assert_eq!(wasi.tree.link(library, work, "mine"), read_only);
    assert_eq!(wasi.tree.unlink(lib, "library.zip", Want::File, |_| false), read_only);
    assert_eq!(wasi.tree.rename((usr, "lib"), (work, "lib"), |_| false), read_only);
    assert_eq!(wasi.tree.make(usr, "new", Kind::File(Content::default())).map(drop), read_only);
    assert_eq!(wasi.tree.unlink(0, "work", Want::Directory, |_| false), read_only);
    assert_eq!(wasi.tree.used, 0);
}

#[test]
fn a_directory_that_was_removed_takes_no_names() {
    let mut wasi = world(1 << 20);
    let work = wasi.at("/work").unwrap();
    let gone = wasi.tree.make(work, "gone", Kind::Directory(Default::default(), work)).unwrap();
    wasi.put("file", &Bytes::new(), 0o644).unwrap();
    wasi.tree.unlink(work, "gone", Want::Directory, |_| true).unwrap();
    assert_eq!(wasi.tree.make(gone, "in", Kind::File(Content::default())), Err(Errno::NOENT));
    assert_eq!(wasi.tree.rename((work, "file"), (gone, "in"), |_| false), Err(Errno::NOENT));
    wasi.tree.let_go(gone, false);
    assert!(wasi.tree.node(gone).is_err());
}

#[test]
fn room_that_a_file_gave_back_is_not_kept() {
    let mut wasi = world(8 << 20);
    wasi.put("file", &Bytes::new(), 0o644).unwrap();
    let ino = wasi.at("/work/file").unwrap();
    let room = |wasi: &Wasi| match &wasi.tree.node(ino).unwrap().kind {
        Kind::File(Content::Own(bytes)) => bytes.capacity(),
        _ => panic!("it was written to"),
    };
    for size in (0..4 << 20).step_by(5000).chain([4 << 20, 1 << 20, 700, 3]) {
        wasi.tree.resize(ino, size).unwrap();
        assert!(room(&wasi) as u64 <= size + size / 2 + 512, "{} for {size}", room(&wasi));
    }
    assert_eq!(wasi.tree.resize(ino, u64::MAX), Err(Errno::FBIG));
    assert_eq!(wasi.tree.resize(ino, i64::MAX as u64), Err(Errno::NOSPC));
    assert_eq!(wasi.tree.write(ino, u64::MAX, 1, |_| ()), Err(Errno::FBIG));
}
