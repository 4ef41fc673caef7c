//! stand-in until the in-memory one lands
use crate::domain::event::OutputStream;
use crate::domain::io::{InputSource, OutputSink};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

pub struct Wasi(pub WasiP1Ctx);
pub trait View {
    fn wasi(&mut self) -> &mut Wasi;
}
pub struct Change { pub path: String, pub size: u64, pub mode: u32, pub created: bool, pub link_target: String }
pub fn add_to_linker<T: View + Send + 'static>(linker: &mut wasmtime::Linker<T>) -> wasmtime::Result<()> {
    p1::add_to_linker_async(linker, |t| &mut t.wasi().0)
}
impl Wasi {
    pub fn host(lib: Vec<(PathBuf, String)>, tmp: Option<PathBuf>, input: Option<Arc<dyn InputSource>>, out: Arc<dyn OutputSink>) -> Wasi {
        let mut b = WasiCtxBuilder::new();
        b.stdout(crate::engine::Output(out.clone(), OutputStream::Stdout)).stderr(crate::engine::Output(out, OutputStream::Stderr)).allow_blocking_current_thread(true);
        if let Some(i) = input { b.stdin(crate::engine::Input(i)); }
        b.arg("/usr/local/bin/python.wasm").env("TMPDIR", "/tmp").env("PYTHONTZPATH", "").env("HOME", "/tmp");
        for (h, g) in lib { b.preopened_dir(h, g, FsPerms::ReadOnly).unwrap(); }
        if let Some(t) = tmp { b.preopened_dir(t, "/tmp", FsPerms::ReadWrite).unwrap(); }
        Wasi(b.build_p1())
    }
    pub fn put(&mut self, _: &str, _: Bytes, _: u32) -> Result<(), String> { Err("no".into()) }
    pub fn mark(&mut self) {}
    pub fn changes(&self) -> Vec<Change> { vec![] }
    pub fn content(&self, _: &Change) -> Option<Bytes> { None }
    pub fn scratch_peak(&self) -> u64 { 0 }
}
