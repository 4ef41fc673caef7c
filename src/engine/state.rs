//! What belongs to one run, and what a run is given.

use super::directories::Roots;
use super::host::{Egress, Host};
use super::limiter::Limiter;
use super::streams::{Input, Output};
use crate::domain::event::OutputStream;
use crate::domain::io::{InputSource, Meter, OutputSink};
use crate::domain::limits::Limits;
use crate::domain::manifest::DirectoryGrant;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView};

/// Open files, streams and pollables a guest may hold: each takes memory of the host, a file a descriptor too.
const MAX_RESOURCES: usize = 256;

/// Random bytes a guest gets from one call. They are made while the worker waits.
const MAX_RANDOM: u64 = 1 << 20;

/// Everything one run is given. The guest sees nothing else: no environment, no files, no network of the host.
#[derive(Clone)]
pub struct Run {
    /// What it may use. `output_bytes` is the sink's affair.
    pub limits: Limits,
    /// Its arguments, the first being its own name, as in every program.
    pub args: Vec<String>,
    /// Its environment variables.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Directories it may see; each must lie below one of the engine's `directory_roots`.
    pub directories: Arc<[DirectoryGrant]>,
    /// Its standard input.
    pub input: Arc<dyn InputSource>,
    /// Takes what it writes and logs, as it happens.
    pub output: Arc<dyn OutputSink>,
    /// Counts what it uses; up to date also when the run is cut off.
    pub meter: Arc<Meter>,
    /// Answers its `http_request` host calls.
    pub egress: Arc<dyn Egress>,
}

/// The data of one run's store.
pub(super) struct State {
    /// Modules and components alike: this context serves both.
    pub wasi: WasiP1Ctx,
    pub limiter: Limiter,
    pub host: Host,
}

impl State {
    /// `Err` says which directory cannot be given and why.
    pub fn new(run: Run, limits: &Limits, roots: &Roots) -> Result<State, String> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdin(Input(run.input))
            .stdout(Output(run.output.clone(), OutputStream::Stdout))
            .stderr(Output(run.output.clone(), OutputStream::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(MAX_RANDOM);
        for arg in run.args {
            wasi.arg(arg);
        }
        for (name, value) in run.environment.iter() {
            wasi.env(name, value);
        }
        for grant in run.directories.iter() {
            roots.give(grant, &mut wasi)?;
        }
        let mut wasi = wasi.build_p1();
        wasi.ctx().table.set_max_capacity(MAX_RESOURCES);
        Ok(State {
            wasi,
            limiter: Limiter::new(limits, run.meter.clone()),
            host: Host { output: run.output, egress: run.egress, meter: run.meter, limit: limits.host_calls },
        })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}
