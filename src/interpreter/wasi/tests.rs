//! The tree against a model, states from damaged files, and a real guest through the linker.

mod files;
mod frozen;
mod guest;
mod harness;
mod model;
mod waiting;

use super::node::{Base, Ino, Kind};
use super::path::find;
use super::{Config, Wasi};
use bytes::Bytes;
use std::sync::Arc;

/// A library file, two directories to write in, and the channel.
fn base() -> Base {
    let mut base = Base::default();
    base.scratch("/work");
    base.scratch("/tmp");
    base.file("/usr/lib/library.zip", Bytes::from_static(b"library"));
    base.channel("/dev/host");
    base
}

fn config(base: Base, scratch_bytes: u64) -> Config {
    Config {
        arguments: vec!["main".into(), "two words".into()],
        environment: vec!["HOME=/work".into()],
        base: Arc::new(base),
        preopens: Arc::new([("/".into(), "/".into())]),
        input: None,
        output: None,
        scratch_bytes,
    }
}

fn world(scratch_bytes: u64) -> Wasi {
    Wasi::new(config(base(), scratch_bytes))
}

impl Wasi {
    /// The node at a path, links followed.
    fn at(&self, path: &str) -> Option<Ino> {
        find(&self.tree, 0, path, true).ok()?.found(&self.tree).ok()
    }

    /// The bytes of the file at a path.
    fn text(&self, path: &str) -> Option<Vec<u8>> {
        match &self.tree.node(self.at(path)?).ok()?.kind {
            Kind::File(content) => Some(content.bytes().to_vec()),
            _ => None,
        }
    }
}
