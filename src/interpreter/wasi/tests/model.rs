//! Random operations, on a world and on a model that keeps files by path.

use super::super::descriptors::{Descriptor, OpenFile, Reader};
use super::super::errno::{Errno, Result};
use super::super::memory::Guest;
use super::super::node::{Content, ENTRY, Kind};
use super::super::open::write_file;
use super::super::path::find;
use super::super::tree::Want;
use super::super::{State, Wasi};
use super::{base, config};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const LIMIT: u64 = 9000;

#[derive(Clone, Debug)]
enum Step {
    MakeDirectory(String),
    Write(String, u64, usize),
    Resize(String, u64),
    Unlink(String),
    RemoveDirectory(String),
    Rename(String, String),
    Link(String, String),
    Open(String),
    Close(usize),
    FreezeAndThaw,
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| format!("/work/{}", parts.join("/")))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => path().prop_map(Step::MakeDirectory),
        4 => (path(), 0..3000_u64, 0..3000_usize).prop_map(|(path, offset, length)| Step::Write(path, offset, length)),
        2 => (path(), prop_oneof![0..5000_u64, Just(u64::MAX), Just(u64::MAX - 600)])
            .prop_map(|(path, size)| Step::Resize(path, size)),
        2 => path().prop_map(Step::Unlink),
        2 => path().prop_map(Step::RemoveDirectory),
        3 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Step::Link(from, to)),
        2 => path().prop_map(Step::Open),
        2 => (0..4_usize).prop_map(Step::Close),
        1 => Just(Step::FreezeAndThaw),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Directory,
    File(usize),
}

/// Files by path, their contents by number, and what is open.
#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<String, Entry>,
    contents: HashMap<usize, Vec<u8>>,
    open: Vec<(u32, Entry)>,
    next: usize,
}

impl Model {
    fn parent_is_directory(&self, path: &str) -> bool {
        let (parent, _) = path.rsplit_once('/').unwrap();
        parent == "/work" || self.entries.get(parent) == Some(&Entry::Directory)
    }

    fn is_empty(&self, path: &str) -> bool {
        !self.entries.keys().any(|other| other.starts_with(&format!("{path}/")))
    }

    fn used(&self) -> u64 {
        self.entries.len() as u64 * ENTRY + self.contents.values().map(|content| content.len() as u64).sum::<u64>()
    }

    /// Forgets contents without a name that nobody has open.
    fn collect(&mut self) {
        let alive: Vec<Entry> =
            self.entries.values().copied().chain(self.open.iter().map(|(_, entry)| *entry)).collect();
        self.contents.retain(|number, _| alive.contains(&Entry::File(*number)));
    }

    /// Does it if it can be done; what does not fit is refused.
    fn apply(&mut self, step: &Step, fd: Option<u32>) -> bool {
        let before = (self.used(), self.clone());
        let done = self.try_apply(step, fd);
        self.collect();
        if !done || self.used() > LIMIT.max(before.0) {
            *self = before.1;
            return false;
        }
        true
    }

    fn try_apply(&mut self, step: &Step, fd: Option<u32>) -> bool {
        match step {
            Step::MakeDirectory(path) => {
                let free = self.parent_is_directory(path) && !self.entries.contains_key(path);
                free && self.entries.insert(path.clone(), Entry::Directory).is_none()
            }
            Step::Write(path, offset, length) => {
                let number = match self.entries.get(path) {
                    Some(Entry::File(number)) => *number,
                    Some(Entry::Directory) => return false,
                    None if !self.parent_is_directory(path) => return false,
                    None => {
                        self.next += 1;
                        self.entries.insert(path.clone(), Entry::File(self.next));
                        self.next
                    }
                };
                let content = self.contents.entry(number).or_default();
                let end = *offset as usize + length;
                if *length > 0 && content.len() < end {
                    content.resize(end, 0);
                }
                if *length > 0 {
                    content[*offset as usize..end].fill(7);
                }
                true
            }
            Step::Resize(path, size) => match self.entries.get(path) {
                Some(Entry::File(number)) if *size <= LIMIT => {
                    self.contents.entry(*number).or_default().resize(*size as usize, 0);
                    true
                }
                _ => false,
            },
            Step::Unlink(path) => {
                matches!(self.entries.get(path), Some(Entry::File(_))) && self.entries.remove(path).is_some()
            }
            Step::RemoveDirectory(path) => {
                let there = self.entries.get(path) == Some(&Entry::Directory) && self.is_empty(path);
                there && self.entries.remove(path).is_some()
            }
            Step::Rename(from, to) => self.rename(from, to),
            Step::Link(from, to) => match self.entries.get(from) {
                Some(file @ Entry::File(_)) if self.parent_is_directory(to) && !self.entries.contains_key(to) => {
                    let file = *file;
                    self.entries.insert(to.clone(), file).is_none()
                }
                _ => false,
            },
            Step::Open(path) => match (self.entries.get(path), fd) {
                (Some(entry), Some(fd)) => {
                    self.open.push((fd, *entry));
                    true
                }
                _ => false,
            },
            Step::Close(index) => *index < self.open.len() && self.open.remove(*index).0 > 0,
            Step::FreezeAndThaw => true,
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(entry) = self.entries.get(from).copied() else { return false };
        if !self.parent_is_directory(to) || (entry == Entry::Directory && to.starts_with(&format!("{from}/"))) {
            return false;
        }
        match (entry, self.entries.get(to)) {
            (_, Some(there)) if from == to || (*there == entry && entry != Entry::Directory) => return true,
            (Entry::Directory, Some(Entry::Directory)) if !self.is_empty(to) => return false,
            (Entry::Directory, Some(Entry::File(_))) | (Entry::File(_), Some(Entry::Directory)) => return false,
            _ => {}
        }
        self.entries.remove(from);
        self.entries.insert(to.to_owned(), entry);
        let below = format!("{from}/");
        let moved: Vec<String> = self.entries.keys().filter(|path| path.starts_with(&below)).cloned().collect();
        for path in moved {
            let entry = self.entries.remove(&path).unwrap();
            self.entries.insert(format!("{to}/{}", &path[below.len()..]), entry);
        }
        true
    }
}

/// The same on a world; gives the descriptor of what was opened.
fn apply(wasi: &mut Wasi, step: &Step, model: &Model) -> Result<Option<u32>> {
    let place = |wasi: &Wasi, path: &str| find(&wasi.tree, 0, path, false);
    match step {
        Step::MakeDirectory(path) => {
            let place = place(wasi, path)?;
            wasi.tree.make(place.directory, &place.name, Kind::Directory(Arc::default(), 0))?;
        }
        Step::Write(path, offset, length) => {
            // As one call of the model: a file made for what then does not fit goes again.
            let place = place(wasi, path)?;
            let made = place.node.is_none();
            let ino = match place.node {
                Some(ino) => ino,
                None => wasi.tree.make(place.directory, &place.name, Kind::File(Content::default()))?,
            };
            let mut memory = vec![7_u8; 8 + length];
            memory[..4].copy_from_slice(&8_u32.to_le_bytes());
            memory[4..8].copy_from_slice(&(*length as u32).to_le_bytes());
            let written = write_file(&mut Guest(&mut memory), wasi, ino, (0, 1), *offset);
            if wasi.tree.node(ino)?.is_directory() {
                return Err(Errno::ISDIR);
            }
            if written.is_err() && made {
                wasi.tree.unlink(place.directory, &place.name, Want::File, |_| false)?;
            }
            written?;
        }
        Step::Resize(path, size) => {
            let ino = place(wasi, path)?.found(&wasi.tree)?;
            wasi.tree.resize(ino, *size)?;
        }
        Step::Unlink(path) | Step::RemoveDirectory(path) => {
            let want = if matches!(step, Step::Unlink(_)) { Want::File } else { Want::Directory };
            let place = place(wasi, path)?;
            let Wasi { tree, table, .. } = wasi;
            tree.unlink(place.directory, &place.name, want, |ino| table.holds(ino))?;
        }
        Step::Rename(from, to) => {
            let (from, to) = (place(wasi, from)?, place(wasi, to)?);
            let Wasi { tree, table, .. } = wasi;
            tree.rename((from.directory, &from.name), (to.directory, &to.name), |ino| table.holds(ino))?;
        }
        Step::Link(from, to) => {
            let ino = place(wasi, from)?.found(&wasi.tree)?;
            let to = place(wasi, to)?;
            wasi.tree.link(ino, to.directory, &to.name)?;
        }
        Step::Open(path) => {
            let ino = place(wasi, path)?.found(&wasi.tree)?;
            let opened = match wasi.tree.node(ino)?.is_directory() {
                true => Descriptor::Directory { ino, preopen: None, reader: Reader::default() },
                false => Descriptor::File(OpenFile { ino, position: 0, flags: 0, read: true, write: true }),
            };
            return wasi.table.add(opened).map(Some);
        }
        Step::Close(index) => {
            let (fd, _) = *model.open.get(*index).ok_or(Errno::BADF)?;
            let closed = wasi.table.close(fd)?;
            wasi.closed(closed);
        }
        Step::FreezeAndThaw => {
            let state = wasi.freeze();
            let bytes = postcard::to_stdvec(&state).unwrap();
            let read: State = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read, state);
            // As the library is opened anew in another process.
            let thawed = Wasi::thaw(read, config(base(), LIMIT)).unwrap();
            assert_eq!((thawed.tree.changes(), &thawed.table), (wasi.tree.changes(), &wasi.table));
            *wasi = thawed;
        }
    }
    Ok(None)
}

fn walk(wasi: &Wasi, ino: u32, path: &str, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
    let node = wasi.tree.node(ino).unwrap();
    let Kind::Directory(names, _) = &node.kind else {
        let Kind::File(content) = &node.kind else { panic!("neither file nor directory") };
        found.insert(path.to_owned(), Some(content.bytes().to_vec()));
        return;
    };
    if path != "/work" {
        found.insert(path.to_owned(), None);
    }
    for (name, below) in names.iter() {
        if let Kind::Directory(_, parent) = &wasi.tree.node(*below).unwrap().kind {
            assert_eq!(*parent, ino, "{path}/{name}");
        }
        walk(wasi, *below, &format!("{path}/{name}"), found);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_world_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut wasi = Wasi::new(config(base(), LIMIT));
        let mut model = Model::default();
        for step in &steps {
            let result = apply(&mut wasi, step, &model);
            let fd = result.as_ref().ok().copied().flatten();
            let done = model.apply(step, fd);
            prop_assert_eq!(result.is_ok(), done, "{:?}: {:?}", step, result);
            let mut found = BTreeMap::new();
            walk(&wasi, wasi.at("/work").unwrap(), "/work", &mut found);
            let expected: BTreeMap<String, Option<Vec<u8>>> = model
                .entries
                .iter()
                .map(|(path, entry)| match entry {
                    Entry::Directory => (path.clone(), None),
                    Entry::File(number) => (path.clone(), Some(model.contents.get(number).cloned().unwrap_or_default())),
                })
                .collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(wasi.tree.used, model.used(), "{:?}", step);
            prop_assert!(wasi.tree.used <= LIMIT && wasi.tree.peak() >= wasi.tree.used);
            let occupied: u64 = wasi.tree.own.values().map(super::super::node::Node::whole_cost).sum();
            prop_assert_eq!(wasi.tree.used, occupied);
        }
    }
}
