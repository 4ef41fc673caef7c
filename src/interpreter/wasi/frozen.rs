//! A tree's changes as data, and the tree from them. They may come from a damaged file, so all is checked that
//! the rest relies on.

use super::node::{Base, Ino, Kind, Node};
use super::path::MAX_PATH;
use super::tree::{MAX_NODES, Tree, check_name};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// What of a tree is not in its base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Which base that was.
    base: [u8; 16],
    own: Vec<(Ino, Node)>,
    next: Ino,
    clock: u64,
}

type Checked<T = ()> = Result<T, &'static str>;

impl Tree {
    /// All that is not in the base.
    pub fn changes(&self) -> Changes {
        let mut own: Vec<(Ino, Node)> = self.own.iter().map(|(ino, node)| (*ino, node.clone())).collect();
        own.sort_unstable_by_key(|(ino, _)| *ino);
        Changes { base: self.base.digest(), own, next: self.next, clock: self.clock }
    }

    /// The tree with these changes; `held` says which nodes are open. `Err` says what does not fit.
    pub fn with(base: Arc<Base>, limit: u64, changes: Changes, held: impl Fn(Ino) -> bool) -> Checked<Tree> {
        let mut tree = Tree::new(base, limit);
        if changes.base != tree.base.digest() || changes.next < tree.next {
            return Err("its files belong to another library");
        }
        if changes.own.len() > MAX_NODES || changes.clock > u64::MAX / 2 {
            return Err("its files are more than there can be");
        }
        for (ino, node) in changes.own {
            check_node(&tree.base, changes.next, ino, &node)?;
            if tree.own.insert(ino, node).is_some() {
                return Err("two of its files have one number");
            }
        }
        tree.next = changes.next;
        tree.clock = changes.clock;
        check_names(&tree, held)?;
        tree.used = tree.own.values().map(Node::whole_cost).sum();
        tree.peak = tree.used;
        tree.mark();
        Ok(tree)
    }
}

fn check_node(base: &Base, next: Ino, ino: Ino, node: &Node) -> Checked {
    if !node.writable {
        return Err("it changes a file that cannot be changed");
    }
    match (base.node(ino), &node.kind) {
        (Some(fixed), Kind::Directory(_, parent)) => match &fixed.kind {
            Kind::Directory(_, fixed_parent) if fixed.writable && node.links == 1 && fixed_parent == parent => Ok(()),
            _ => Err("it changes a file that cannot be changed"),
        },
        (Some(fixed), Kind::Channel) if fixed.kind == Kind::Channel => Ok(()),
        (Some(_), _) => Err("it changes a file that cannot be changed"),
        (None, Kind::Channel) => Err("it has a channel of its own"),
        (None, Kind::Link(target)) if target.is_empty() || target.len() > MAX_PATH => {
            Err("a link leads to an impossible path")
        }
        (None, _) if ino < base.first_free() || ino >= next => Err("a file has a number that was never given"),
        (None, _) => Ok(()),
    }
}

/// Every name leads to a node, every node has as many names as it says, and directories form a tree.
fn check_names(tree: &Tree, held: impl Fn(Ino) -> bool) -> Checked {
    let fixed = tree.base.first_free();
    let mut names_of: HashMap<Ino, u32> = HashMap::new();
    // From the top down, so that a ring of directories is one that is never reached.
    let mut below: Vec<Ino> = tree.own.keys().copied().filter(|ino| *ino < fixed).collect();
    while let Some(directory) = below.pop() {
        let Some(Kind::Directory(names, _)) = tree.own.get(&directory).map(|node| &node.kind) else { continue };
        for (name, ino) in names.iter() {
            check_name(name).map_err(|_| "a file has an impossible name")?;
            if *ino < fixed {
                let stays = tree.base.node(directory).and_then(|node| node.names().ok()?.get(name)) == Some(ino);
                if !stays {
                    return Err("a file of the library has another name");
                }
                continue;
            }
            let node = tree.own.get(ino).ok_or("a directory names a file that is not there")?;
            let count = names_of.entry(*ino).or_default();
            *count += 1;
            if let Kind::Directory(_, parent) = &node.kind {
                if *count > 1 || *parent != directory {
                    return Err("a directory is in two places");
                }
                below.push(*ino);
            }
        }
    }
    for (ino, node) in &tree.own {
        if *ino >= fixed {
            let empty = node.names().map_or(true, |names| names.is_empty());
            match names_of.get(ino) {
                Some(count) if *count == node.links => {}
                None if node.links == 0 && empty && held(*ino) => {}
                _ => return Err("a file has another number of names than it says"),
            }
        }
    }
    // Names that the base has cannot be taken away.
    for (ino, node) in tree.own.iter().filter(|(ino, _)| **ino < fixed) {
        let there = node.names().ok();
        let names = tree.base.node(*ino).and_then(|node| node.names().ok());
        let kept = |name: &String| there.is_some_and(|there| there.contains_key(name));
        if names.is_some_and(|names| !names.keys().all(kept)) {
            return Err("a file of the library is missing");
        }
    }
    Ok(())
}
