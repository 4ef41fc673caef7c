//! Tools: manifests, schemas, the catalog that loads and serves them, and the call that runs one.

mod builtin;
mod call;
mod catalog;
mod children;
mod directory;
mod fingerprint;
mod forms;
mod inside;
mod kernels;
mod labels;
pub mod manifest;
mod module;
mod schema;
mod watch;
mod within;

pub use call::{Call, Called, Interpreting, Parameters, Target, ToolService, Work};
pub use catalog::{Catalog, CatalogConfig, CatalogObserver, Entry, Reloaded, Upload};
pub use children::Link;
pub use forms::{Form, render};
pub use inside::{Inside, NOTEBOOK, NotebookKernels};
pub use kernels::{BuiltInSnapshots, InterpreterKernels};
pub use labels::check_labels;
pub use schema::{Problem, Schema};
pub use watch::watch;

use crate::domain::manifest::{DirectoryGrant, Manifest};
use crate::domain::time::Timestamp;
use crate::engine::Program;
use crate::error::{Error, Result, Violation};
use crate::execution::Lane;
use crate::interpreter::Interpreter;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Characters of a tool's name at most.
pub const MAX_NAME: usize = 64;

/// What runs a tool.
pub enum Runner {
    /// A module or component of the tools directory.
    Module(Program),
    /// A built-in interpreter, whose parameters are code.
    Interpreter(Arc<Interpreter>),
}

/// A tool that can run: one version, immutable. A reload makes a new one; runs keep the old one.
pub struct Tool {
    name: Arc<str>,
    version: Arc<str>,
    manifest: Arc<Manifest>,
    runner: Runner,
    input: Option<Schema>,
    output: Option<Schema>,
    lane: Lane,
    environment: Arc<BTreeMap<String, String>>,
    directories: Arc<[DirectoryGrant]>,
    loaded: Timestamp,
}

impl Tool {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// What runs it.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// SHA-256 of the module that it runs, hex; of an interpreter, of the package it is made from.
    pub fn digest(&self) -> Arc<str> {
        match &self.runner {
            Runner::Module(program) => program.digest().clone(),
            Runner::Interpreter(interpreter) => interpreter.artifact().digest.into(),
        }
    }

    /// When this version was loaded.
    pub fn loaded(&self) -> Timestamp {
        self.loaded
    }
}

/// Checks a tool's name: a file name, a metric label and a function name for models, so kept plain.
pub fn check_name(field: &str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let good = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if good {
        return Ok(());
    }
    let expected = format!(
        "expected 1 to {MAX_NAME} of a-z, A-Z, 0-9, '_' and '-', beginning with a letter or a digit; got {:?}",
        name.chars().take(MAX_NAME + 1).collect::<String>()
    );
    Err(Error::InvalidArgument(vec![Violation::new(field, expected)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "echo", "text_stats", "0-x", &"x".repeat(64)] {
            check_name("name", good).unwrap();
        }
        for bad in ["", "-a", "_a", "a.b", "../a", "a/b", "ä", "a b", &"x".repeat(65)] {
            assert!(check_name("name", bad).is_err(), "{bad}");
        }
    }
}
