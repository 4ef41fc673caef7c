//! Archives that are unpacked where something is already, and what is asked for with them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use casemate_guest::protocol::{Answer, Conflict, Failure, Format, Kind, OMITTED, OMITTED_BYTES, Request};
use rustix::fs::{CWD, Mode, RenameFlags, renameat_with};

use crate::archives::{PLENTY, archive, compressed, entry, pack};
use crate::channel::{bytes, names};
use crate::peer::{Peer, until};
use crate::zips;

fn unpack(path: &Path, conflict: Conflict) -> Request {
    let (root, path, format) = (b"/".to_vec(), bytes(path), Some(Format::Tar));
    Request::Unpack { root, path, parents: false, format, conflict, strip: 0, limits: PLENTY }
}

fn stripped(path: &Path, parts: u32) -> Request {
    match unpack(path, Conflict::Replace) {
        Request::Unpack { root, path, parents, format, conflict, limits, .. } => {
            Request::Unpack { root, path, parents, format, conflict, strip: parts, limits }
        }
        other => other,
    }
}

fn with_parents(path: &Path, format: Option<Format>) -> Request {
    let (root, path, conflict) = (b"/".to_vec(), bytes(path), Conflict::Replace);
    Request::Unpack { root, path, parents: true, format, conflict, strip: 0, limits: PLENTY }
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// All that is in a folder: links by where they lead, files by their bytes, the rest by its mode.
fn all(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for name in names(folder) {
        let path = folder.join(&name);
        let kind = fs::symlink_metadata(&path).unwrap();
        let what = if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            String::from_utf8(fs::read(&path).unwrap()).unwrap()
        } else {
            format!("{:o}", kind.mode())
        };
        found.insert(name.clone(), what);
        if kind.is_dir() {
            found.extend(all(&path).into_iter().map(|(below, what)| (format!("{name}/{below}"), what)));
        }
    }
    found
}

/// A folder with something of each kind, and what a link in it leads to.
fn there(folder: &Path) -> std::path::PathBuf {
    let to = folder.join("to");
    fs::create_dir_all(to.join("d/sub")).unwrap();
    fs::set_permissions(to.join("d"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(folder.join("outside"), "outside").unwrap();
    fs::write(to.join("d/file"), "old").unwrap();
    fs::write(to.join("d/other"), "other").unwrap();
    symlink(folder.join("outside"), to.join("d/link")).unwrap();
    symlink(folder, to.join("out")).unwrap();
    fifo(&to.join("pipe"));
    to
}

fn mixed() -> Vec<u8> {
    archive(&[
        entry(b'5', "d", "", b""),
        entry(b'0', "d/file", "", b"new"),
        entry(b'0', "d/link", "", b"was a link"),
        entry(b'2', "d/other", "file", b""),
        entry(b'1', "d/more", "d/file", b""),
        entry(b'0', "d/sub/deep/file", "", b"deep"),
        entry(b'0', "fresh/file", "", b"fresh"),
        entry(b'0', "pipe", "", b"no pipe"),
    ])
}

#[test]
fn files_give_way_and_folders_take_in() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = there(folder.path());
    let answer = peer.ask_with(2, unpack(&to, Conflict::Replace), &mixed()).answer();
    assert_eq!(answer, Answer::Unpacked { files: 5, directories: 2, links: 2, bytes: 29, skipped: 0 });
    let found = all(&to);
    let told = |name: &str| found[name].as_str();
    assert_eq!((told("d/file"), told("d/more"), told("d/link")), ("new", "new", "was a link"));
    assert_eq!((told("d/other"), told("d/sub/deep/file"), told("pipe")), ("-> file", "deep", "no pipe"));
    assert_eq!((told("d"), told("fresh/file")), ("40711", "fresh"), "a folder that was there stays as it was");
    assert_eq!(fs::metadata(to.join("d/more")).unwrap().nlink(), 2);
    assert_eq!(fs::read_to_string(folder.path().join("outside")).unwrap(), "outside");
    assert_eq!(found.len(), 12, "{found:?}");
    // Again, all is there.
    let answer = peer.ask_with(2, unpack(&to, Conflict::Replace), &mixed()).answer();
    assert_eq!(answer, Answer::Unpacked { files: 5, directories: 0, links: 2, bytes: 29, skipped: 0 });
    assert_eq!(all(&to), found);
}

#[test]
fn what_is_there_is_left_if_so_asked() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = there(folder.path());
    let before = all(&to);
    let answer = peer.ask_with(2, unpack(&to, Conflict::Skip), &mixed()).answer();
    assert_eq!(answer, Answer::Unpacked { files: 3, directories: 2, links: 0, bytes: 12, skipped: 4 });
    let mut after = all(&to);
    assert!(before.iter().all(|(name, what)| after.remove(name).as_ref() == Some(what)));
    let new: Vec<_> = after.iter().map(|(name, what)| (name.as_str(), what.as_str())).collect();
    assert_eq!(new[0], ("d/more", "new"));
    assert_eq!(new[1].0, "d/sub/deep");
    assert_eq!(new[2..].iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["d/sub/deep/file", "fresh", "fresh/file"]);
    // All names of a file.
    let answer = peer.ask_with(2, unpack(&to, Conflict::Skip), &mixed()).answer();
    assert_eq!(answer, Answer::Unpacked { files: 0, directories: 0, links: 0, bytes: 0, skipped: 7 });
}

#[test]
fn what_is_in_the_way_is_found_first() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = there(folder.path());
    let before = all(&to);
    let good = || entry(b'0', "a", "", b"good");
    let cases = [
        ("d", entry(b'0', "d", "", b"a file"), Kind::File, Kind::Directory),
        ("d", entry(b'2', "d", "a", b""), Kind::Link, Kind::Directory),
        ("d/file", entry(b'5', "d/file", "", b""), Kind::Directory, Kind::File),
        ("d/file", entry(b'0', "d/file/x", "", b""), Kind::Directory, Kind::File),
        ("out", entry(b'0', "out/escaped", "", b"x"), Kind::Directory, Kind::Link),
        ("pipe", entry(b'5', "pipe", "", b""), Kind::Directory, Kind::Fifo),
    ];
    for (path, one, wanted, there) in cases {
        for conflict in [Conflict::Replace, Conflict::Skip, Conflict::Fail] {
            let bytes = archive(&[good(), one.clone()]);
            let failure = peer.ask_with(2, unpack(&to, conflict), &bytes).failure();
            let path = crate::channel::bytes(&to.join(path));
            assert_eq!(failure, Failure::InTheWay { path, wanted, there });
            assert_eq!(all(&to), before);
        }
    }
    assert_eq!(names(folder.path()), ["outside", "to"]);
    let bytes = archive(&[good(), entry(b'0', "d/sub/x", "", b""), entry(b'0', "d/other", "", b"x")]);
    let failure = peer.ask_with(2, unpack(&to, Conflict::Fail), &bytes).failure();
    let path = crate::channel::bytes(&to.join("d/other"));
    assert_eq!(failure, Failure::InTheWay { path, wanted: Kind::File, there: Kind::File });
    assert_eq!(all(&to), before);
}

#[test]
fn leading_parts_are_taken_off() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    let bytes = archive(&[
        entry(b'5', "./", "", b""),
        entry(b'5', "pkg-1/", "", b""),
        entry(b'0', "README", "", b"not wanted"),
        entry(b'0', "./pkg-1//src/a", "", b"a"),
        entry(b'1', "pkg-1/b", "pkg-1/src/a", b""),
        entry(b'2', "pkg-1/src/c", "../b", b""),
    ]);
    let answer = peer.ask_with(2, stripped(&to, 1), &bytes).answer();
    assert_eq!(answer, Answer::Unpacked { files: 1, directories: 1, links: 2, bytes: 1, skipped: 2 });
    assert_eq!(all(&to).keys().collect::<Vec<_>>(), ["b", "src", "src/a", "src/c"]);
    assert_eq!(fs::read(to.join("src/c")).unwrap(), b"a");
    let answer = peer.ask_with(2, stripped(&to, u32::MAX), &bytes).answer();
    assert_eq!(answer, Answer::Unpacked { files: 0, directories: 0, links: 0, bytes: 0, skipped: 5 });
    // What is stripped is no way out, and what is left away is looked at all the same.
    for bad in [
        vec![entry(b'2', "pkg/link", "../x", b"")],
        vec![entry(b'0', "../x", "", b"")],
        vec![entry(b'0', "/x/y", "", b"")],
        vec![entry(b'0', "x/../../y", "", b"")],
        vec![entry(b'0', "one", "", b"1"), entry(b'1', "pkg/hard", "one", b"")],
        vec![entry(b'0', "one/x", "", b"1"), entry(b'0', "other/x", "", b"2")],
    ] {
        let fresh = folder.path().join("fresh");
        fs::create_dir(&fresh).unwrap();
        let failure = peer.ask_with(2, stripped(&fresh, 1), &archive(&bad)).failure();
        assert!(matches!(failure, Failure::Archive(_)), "{failure:?}");
        fs::remove_dir(fresh).unwrap();
    }
}

#[test]
fn folders_above_are_made_if_so_asked_and_only_if_all_is_well() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let (top, to) = (folder.path().join("x"), folder.path().join("x/y/./z/"));
    let good = archive(&[entry(b'0', "a", "", b"good")]);
    assert_eq!(peer.ask_with(2, unpack(&to, Conflict::Replace), &good).failure(), Failure::NotFound);
    let bad = archive(&[entry(b'0', "a", "", b"good"), entry(b'2', "l", "../../x", b"")]);
    let failure = peer.ask_with(2, with_parents(&to, None), &bad).failure();
    assert!(matches!(failure, Failure::Archive(_)), "{failure:?}");
    let through = folder.path().join("none/../y");
    assert!(matches!(peer.ask_with(2, with_parents(&through, None), &good).failure(), Failure::Invalid(_)));
    assert_eq!(names(folder.path()), Vec::<String>::new());
    let answer = peer.ask_with(2, with_parents(&to, None), &good).answer();
    assert_eq!(answer, Answer::Unpacked { files: 1, directories: 3, links: 0, bytes: 4, skipped: 0 });
    assert_eq!(all(&top).keys().collect::<Vec<_>>(), ["y", "y/z", "y/z/a"]);
    assert_eq!(fs::metadata(top.join("y/z")).unwrap().mode() & 0o777, 0o755);
    let answer = peer.ask_with(2, with_parents(&to, None), &good).answer();
    assert_eq!(answer, Answer::Unpacked { files: 1, directories: 0, links: 0, bytes: 4, skipped: 0 });
    // A link that leads nowhere is no folder.
    symlink("nowhere", folder.path().join("dangling")).unwrap();
    let failure = peer.ask_with(2, with_parents(&folder.path().join("dangling/z"), None), &good).failure();
    let path = bytes(&folder.path().join("dangling"));
    assert_eq!(failure, Failure::InTheWay { path, wanted: Kind::Directory, there: Kind::Link });
    assert_eq!(peer.ask_with(2, with_parents(&top.join("y/z/a/b"), None), &good).failure(), Failure::NotDirectory);
    assert_eq!(names(folder.path()), ["dangling", "x"]);
}

#[test]
fn the_first_bytes_tell_the_form() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let tar = archive(&[entry(b'0', "PK", "", b"body")]);
    let zip = zips::archive(|writer, options| {
        writer.start_file("PK", options).unwrap();
        writer.write_all(b"body").unwrap();
    });
    for (form, bytes) in [("tar", tar.clone()), ("gz", compressed(&tar)), ("zip", zip), ("empty", archive(&[]))] {
        let to = folder.path().join(form);
        // Byte by byte at first.
        peer.open(2, with_parents(&to, None));
        bytes[..6].iter().for_each(|byte| peer.data(2, &[*byte]));
        peer.data(2, &bytes[6..]);
        peer.data_end(2);
        peer.done(2).answer();
        assert_eq!(names(&to).len(), usize::from(form != "empty"), "{form}");
    }
    let to = folder.path().join("none");
    for few in [&b""[..], b"P", b"PK\x03", b"\x1f\x8b"] {
        let failure = peer.ask_with(2, with_parents(&to, None), few).failure();
        assert!(matches!(failure, Failure::Archive(_)), "{few:?}: {failure:?}");
    }
    assert!(!to.exists());
}

#[test]
fn whoever_swaps_folders_for_links_leads_nothing_out() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let (to, out) = (folder.path().join("to"), folder.path().join("out"));
    fs::create_dir_all(to.join("d/e")).unwrap();
    fs::create_dir_all(out.join("e")).unwrap();
    symlink(&out, to.join("swap")).unwrap();
    let bytes = archive(&[entry(b'0', "d/e/x", "", b"x"), entry(b'0', "d/y", "", b"y")]);
    let over = AtomicBool::new(false);
    let (mut good, mut bad) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, to.join("d"), CWD, to.join("swap"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        // Both happen sooner or later.
        let end = std::time::Instant::now() + crate::peer::DEADLINE;
        while (good < 50 || bad < 50) && std::time::Instant::now() < end {
            match peer.ask_with(2, unpack(&to, Conflict::Replace), &bytes).result.unwrap() {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(good > 0 && bad > 0, "{good} {bad}");
    assert_eq!(all(&out).into_keys().collect::<Vec<_>>(), ["e"]);
}

#[test]
fn what_comes_in_the_way_at_last_is_told() {
    const MANY: usize = 20_000;
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let name = |number: usize| format!("d/{number:05}-{}", "n".repeat(60));
    let mut entries = vec![entry(b'0', "d/.first", "", b"first")];
    entries.extend((0..MANY).map(|number| entry(b'0', &name(number), "", b"")));
    entries.push(entry(b'0', "z", "", b"last"));
    let bytes = archive(&entries);
    for conflict in [Conflict::Fail, Conflict::Replace] {
        let to = folder.path().join(format!("{conflict:?}"));
        fs::create_dir_all(to.join("d")).unwrap();
        fs::write(to.join("d/mine"), "mine").unwrap();
        let before = peer.memory();
        let failure = std::thread::scope(|scope| {
            scope.spawn(|| {
                until("it is revealed", || to.join("d/.first").exists());
                fs::create_dir(to.join("z")).unwrap();
            });
            peer.ask_with(2, unpack(&to, conflict), &bytes).failure()
        });
        assert!(peer.memory() < before + 4096, "{} after {before}", peer.memory());
        let path = crate::channel::bytes(&to.join("z"));
        if conflict == Conflict::Fail {
            assert_eq!(failure, Failure::InTheWay { path, wanted: Kind::File, there: Kind::Directory });
            assert_eq!(all(&to).into_keys().collect::<Vec<_>>(), ["d", "d/mine", "z"]);
        } else {
            assert!(matches!(&failure, Failure::Partly { why } if why.contains("/z")), "{failure:?}");
            assert_eq!(names(&to.join("d")).len(), MANY + 2);
            assert_eq!(names(&to), ["d", "z"]);
        }
    }
}

#[test]
fn packing_has_bounds_and_tells_what_it_left_out() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let from = folder.path().join("from");
    fs::create_dir_all(from.join("d")).unwrap();
    fs::write(from.join("a"), [1; 1000]).unwrap();
    fs::write(from.join("d/b"), [2; 1000]).unwrap();
    let bounds = |entries, bytes| casemate_guest::protocol::Limits { entries, bytes };
    let answer = peer.ask(2, pack(&from, &["/"], bounds(3, 2000))).answer();
    assert_eq!(answer, Answer::Packed { entries: 3, bytes: 2000, omitted: Vec::new() });
    assert_eq!(peer.ask(2, pack(&from, &["/"], bounds(3, 1999))).failure(), Failure::MoreBytes);
    assert_eq!(peer.ask(2, pack(&from, &["/"], bounds(2, 2000))).failure(), Failure::MoreEntries);
    fifo(&from.join("pipe"));
    let answer = peer.ask(2, pack(&from, &["/d", "/pipe"], PLENTY)).answer();
    assert_eq!(answer, Answer::Packed { entries: 2, bytes: 1000, omitted: vec![b"pipe".to_vec()] });
    // What the kernel makes up has no size, and no end.
    let answer = peer.ask(2, pack(Path::new("/proc"), &["/version", "/sys"], PLENTY)).answer();
    let omitted = vec![b"version".to_vec(), b"sys".to_vec()];
    assert_eq!(answer, Answer::Packed { entries: 0, bytes: 0, omitted });
    let answer = peer.ask(2, pack(Path::new("/"), &["/proc"], PLENTY)).answer();
    assert_eq!(answer, Answer::Packed { entries: 0, bytes: 0, omitted: vec![b"proc".to_vec()] });
    for (depth, told) in [(0, OMITTED), (4, OMITTED_BYTES / (4 * 201 + 4))] {
        let many = (0..depth).fold(folder.path().join(format!("many{depth}")), |path, _| path.join("m".repeat(200)));
        fs::create_dir_all(&many).unwrap();
        (0..OMITTED + 100).for_each(|number| fifo(&many.join(format!("{number:04}"))));
        let answer = peer.ask(2, pack(&folder.path().join(format!("many{depth}")), &["/"], PLENTY)).answer();
        let Answer::Packed { entries, omitted, .. } = answer else { panic!("{answer:?}") };
        assert_eq!((entries, omitted.len()), (depth, told));
    }
}
