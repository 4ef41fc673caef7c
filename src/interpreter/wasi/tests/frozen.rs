//! States that come from somewhere else.

use super::super::descriptors::{Descriptor, OpenFile};
use super::super::node::{Ino, Kind, Node, Part};
use super::super::tree::Want;
use super::super::{State, Wasi};
use super::{base, config, world};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A world with something of everything.
fn lived_in() -> Wasi {
    let mut wasi = world(1 << 20);
    wasi.put("a/b/file", &Bytes::from_static(b"content"), 0o600).unwrap();
    wasi.put("a/open", &Bytes::from_static(b"unlinked"), 0o644).unwrap();
    let (work, a) = (wasi.at("/work").unwrap(), wasi.at("/work/a").unwrap());
    let (file, open) = (wasi.at("/work/a/b/file").unwrap(), wasi.at("/work/a/open").unwrap());
    wasi.tree.link(file, work, "second").unwrap();
    wasi.tree.make(work, "link", Kind::Link("a/b".into())).unwrap();
    let position = 3;
    let opened = OpenFile { ino: open, position, flags: 1, read: true, write: true };
    wasi.table.add(Descriptor::File(opened)).unwrap();
    wasi.tree.unlink(a, "open", Want::File, |_| true).unwrap();
    let gone = wasi.tree.make(work, "gone", Kind::Directory(Default::default(), work)).unwrap();
    wasi.table.add(Descriptor::Directory { ino: gone, preopen: None, reader: Default::default() }).unwrap();
    wasi.tree.unlink(work, "gone", Want::Directory, |_| true).unwrap();
    wasi
}

/// All that a guest or the host can see is looked at: nothing may panic or run for ever.
fn use_it(mut wasi: Wasi) {
    wasi.mark();
    let (changes, _) = wasi.changes(10);
    changes.iter().for_each(|change| drop(wasi.content(change)));
    let _ = wasi.put("a/b/file", &Bytes::from_static(b"more"), 0o644);
    for fd in 0..8 {
        if let Ok(closed) = wasi.table.close(fd) {
            wasi.closed(closed);
        }
    }
    if let (Some(work), Some(b)) = (wasi.at("/work"), wasi.at("/work/a/b")) {
        let _ = wasi.tree.rename((work, "a"), (b, "below"), |_| false);
    }
    let _ = wasi.freeze();
}

#[test]
fn a_world_comes_back_as_it_was() {
    let wasi = lived_in();
    let bytes = postcard::to_stdvec(&wasi.freeze()).unwrap();
    let mut thawed = Wasi::thaw(postcard::from_bytes(&bytes).unwrap(), config(base(), 1 << 20)).unwrap();
    assert_eq!((thawed.tree.changes(), &thawed.table), (wasi.tree.changes(), &wasi.table));
    assert_eq!(thawed.tree.used, wasi.tree.used);
    assert_eq!(thawed.text("/work/link/file").as_deref(), Some(&b"content"[..]));
    assert_eq!(thawed.table.get(4).unwrap().file().unwrap().position, 3);
    assert!(thawed.time(1).unwrap() >= wasi.lived);
    assert_eq!(thawed.changes(10).0, []);
    use_it(thawed);
}

#[test]
fn copies_share_contents_until_one_is_written() {
    let mut wasi = lived_in();
    let mut copy = Wasi::thaw(wasi.freeze(), config(base(), 1 << 20)).unwrap();
    let file = wasi.at("/work/second").unwrap();
    let address = |wasi: &Wasi| match &wasi.tree.node(file).unwrap().kind {
        Kind::File(content) => content.bytes().as_ptr(),
        _ => panic!("it is a file"),
    };
    assert_eq!(address(&wasi), address(&copy));
    copy.tree.write(file, 0, 1, |place| place.fill(b'!')).unwrap();
    assert_eq!(wasi.text("/work/second").as_deref(), Some(&b"content"[..]));
    assert_eq!(copy.text("/work/a/b/file").as_deref(), Some(&b"!ontent"[..]));
    wasi.tree.resize(file, 0).unwrap();
    assert_eq!(copy.text("/work/second").as_deref(), Some(&b"!ontent"[..]));
}

#[test]
fn a_steady_clock_never_goes_back() {
    let wasi = world(0);
    let state = State { lived: 5_000_000_000, ..wasi.freeze() };
    let thawed = Wasi::thaw(state.clone(), config(base(), 0)).unwrap();
    assert!(thawed.time(1).unwrap() >= 5_000_000_000);
    let far = State { lived: u64::MAX, ..state };
    assert!(Wasi::thaw(far, config(base(), 0)).is_err());
}

/// Changes the names of a directory without any care.
fn scribble(wasi: &mut Wasi, path: &str, change: impl FnOnce(&mut BTreeMap<String, Ino>) -> Option<Ino>) {
    let ino = wasi.at(path).unwrap();
    let Kind::Directory(names, _) = &mut wasi.tree.own.get_mut(&ino).unwrap().kind else { panic!("no directory") };
    change(Arc::make_mut(names));
}

#[test]
fn impossible_states_are_refused() {
    let refused = |what: &str, damage: &dyn Fn(&mut Wasi)| {
        let mut wasi = lived_in();
        damage(&mut wasi);
        assert!(Wasi::thaw(wasi.freeze(), config(base(), 1 << 20)).is_err(), "{what}");
    };
    let node = |wasi: &mut Wasi, path: &str, change: &dyn Fn(&mut Node)| {
        let ino = wasi.at(path).unwrap();
        change(wasi.tree.own.get_mut(&ino).unwrap());
    };
    refused("a directory below itself", &|wasi| {
        let a = wasi.at("/work/a").unwrap();
        scribble(wasi, "/work/a/b", |names| names.insert("a".into(), a));
    });
    refused("a ring of directories beside the tree", &|wasi| {
        let (a, b) = (wasi.at("/work/a").unwrap(), wasi.at("/work/a/b").unwrap());
        scribble(wasi, "/work/a/b", |names| names.insert("a".into(), a));
        node(wasi, "/work/a", &|node| node.kind = Kind::Directory(Arc::new([("b".into(), b)].into()), b));
        scribble(wasi, "/work", |names| names.remove("a"));
    });
    refused("a directory with two names", &|wasi| {
        let b = wasi.at("/work/a/b").unwrap();
        scribble(wasi, "/work/a", |names| names.insert("c".into(), b));
    });
    for name in ["", ".", "..", "x/y", "x\0"] {
        refused(name, &|wasi| {
            let file = wasi.at("/work/second").unwrap();
            scribble(wasi, "/work", |names| {
                names.remove("second");
                names.insert(name.into(), file)
            });
        });
    }
    refused("a name of the library", &|wasi| {
        let library = wasi.at("/usr").unwrap();
        scribble(wasi, "/work", |names| names.insert("usr".into(), library));
    });
    refused("a name of nothing", &|wasi| scribble(wasi, "/work", |names| names.insert("x".into(), 5000)));
    refused("a file nobody can reach", &|wasi| scribble(wasi, "/work", |names| names.remove("second")));
    refused("too many names", &|wasi| node(wasi, "/work/second", &|node| node.links = 9));
    refused("a file of the library", &|wasi| {
        let mut own = wasi.tree.node(wasi.at("/work/second").unwrap()).unwrap().clone();
        own.links = 1;
        let library = wasi.at("/usr/lib/library.zip").unwrap();
        wasi.tree.own.insert(library, own);
    });
    refused("a channel of its own", &|wasi| node(wasi, "/work/second", &|node| node.kind = Kind::Channel));
    refused("a file that cannot be changed", &|wasi| node(wasi, "/work/second", &|node| node.writable = false));
    refused("a clock at its end", &|wasi| wasi.tree.clock = u64::MAX);
    refused("a number of no part of the base", &|wasi| {
        let second = wasi.at("/work/second").unwrap();
        let own = wasi.tree.own.remove(&second).unwrap();
        wasi.tree.own.insert(1 << 20, own);
        scribble(wasi, "/work", |names| names.insert("second".into(), 1 << 20));
    });
    refused("a number that was not given", &|wasi| wasi.tree.next = wasi.tree.base.first_free() + 1);
    refused("a directory open as a file", &|wasi| {
        let ino = wasi.at("/work/a").unwrap();
        let opened = OpenFile { ino, position: 0, flags: 0, read: true, write: true };
        wasi.table.add(Descriptor::File(opened)).unwrap();
    });
    refused("the library open for writing", &|wasi| {
        let ino = wasi.at("/usr/lib/library.zip").unwrap();
        let opened = OpenFile { ino, position: 0, flags: 0, read: true, write: true };
        wasi.table.add(Descriptor::File(opened)).unwrap();
    });
}

#[test]
fn another_library_is_told() {
    let state = lived_in().freeze();
    let mut other = base();
    other.file("/usr/lib/more", Bytes::new());
    let problem = Wasi::thaw(state, config(other, 1 << 20)).err();
    assert_eq!(problem, Some("its files belong to another library"));
}

#[test]
fn parts_of_a_base_change_by_themselves() {
    let with = |part: Part, files: &[&'static str]| {
        let mut base = base();
        base.mount("/usr/lib/packages", Part::Packages);
        base.mount("/usr/lib/snapshot", Part::Snapshot);
        let files = files.iter().map(|path| ((*path).to_owned(), Bytes::from_static(path.as_bytes())));
        base.fill(part, files, 7);
        base
    };
    let mut wasi = Wasi::new(config(with(Part::Packages, &["a/b.py"]), 1 << 20));
    assert_eq!(wasi.text("/usr/lib/packages/a/b.py").unwrap(), b"a/b.py");
    assert_eq!(wasi.text("/usr/lib/packages/a/../../library.zip").unwrap(), b"library");
    assert_eq!(wasi.tree.node(wasi.at("/usr/lib/packages").unwrap()).unwrap().modified, 7);
    let file = wasi.at("/usr/lib/packages/a/b.py").unwrap();
    assert!(wasi.tree.resize(file, 0).is_err());
    wasi.put("own", &Bytes::from_static(b"own"), 0o644).unwrap();
    let state = wasi.freeze();
    // The operator's packages may be others when it comes back.
    for packages in [&[][..], &["a/c.py", "a/b.py", "d.py"]] {
        let back = Wasi::thaw(state.clone(), config(with(Part::Packages, packages), 1 << 20)).unwrap();
        assert_eq!(back.text("/work/own").unwrap(), b"own");
        assert_eq!(back.text("/usr/lib/packages/a/b.py").is_some(), !packages.is_empty());
    }
    // Those of its snapshot may not.
    let other = Wasi::thaw(state, config(with(Part::Snapshot, &["x.py"]), 1 << 20)).err();
    assert_eq!(other, Some("its files belong to another library"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_damaged_state_is_refused_or_harmless(at in any::<prop::sample::Index>(), value: u8, cut: bool) {
        // One state for all cases, but for its times, which are those of the run.
        static STATE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = STATE.get_or_init(|| postcard::to_stdvec(&lived_in().freeze()).unwrap()).clone();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(state) = postcard::from_bytes::<State>(&bytes)
            && let Ok(wasi) = Wasi::thaw(state, config(base(), 1 << 20))
        {
            use_it(wasi);
        }
    }
}
