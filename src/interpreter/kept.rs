//! Isolates that are kept between turns, and their state as data.
//!
//! A live isolate is its written pages, its files and its open descriptors. So it can be frozen, brought back
//! in another process, and copied.

use super::memory::{Tenant, prepare};
use super::origin::{Frozen, Meta, Origin};
use super::runtime::Isolate;
use super::service::{Ended, Interpreter};
use super::talk::{Said, Talk, Turn};
use super::wasi::{self, Wasi};
use super::{Children, files};
use crate::domain::execution::Exit;
use crate::domain::input::Inputs;
use crate::domain::io::{InputSource, Meter, OutputSink};
use crate::domain::limits::Limits;
use crate::engine::Egress;
use crate::error::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use twox_hash::XxHash3_128;

const PAGE: usize = 4096;

/// Bytes of one piece of a frozen state at most.
const PIECE: usize = 256 << 10;

/// What an isolate has of its own before anything is known of it, in bytes.
const TYPICAL: u64 = 3 << 19;

/// An isolate that lives on after its turn.
pub struct Kept {
    interpreter: Arc<Interpreter>,
    isolate: Isolate,
    origin: Arc<Origin>,
    tenant: Tenant,
    memory_bytes: u64,
    scratch_bytes: u64,
    /// Whether random generators must be seeded before the next turn.
    reseed: bool,
    /// Digest of each page as it was last frozen, by its number.
    frozen: HashMap<u32, u128>,
    /// Bytes of written pages when they were last counted.
    own: u64,
}

/// One turn of a kept isolate.
pub struct KeptTurn {
    /// What tracebacks call the code.
    pub name: String,
    /// The code.
    pub code: Bytes,
    /// Variables that hold for all turns; those of the inputs go before.
    pub environment: BTreeMap<String, String>,
    /// Files, arguments, environment, and which files to give back.
    pub inputs: Inputs,
    /// Whether the contents of all files go along where the call names none: the isolate ends with the turn.
    pub return_all: bool,
    /// What the turn may use.
    pub limits: Limits,
    /// Standard input.
    pub input: Arc<dyn InputSource>,
    /// Takes what it says.
    pub output: Arc<dyn OutputSink>,
    /// Counts what it uses.
    pub meter: Arc<Meter>,
    /// Answers its requests to the network.
    pub egress: Arc<dyn Egress>,
    /// The tools it may call.
    pub children: Option<Arc<dyn Children>>,
}

impl Interpreter {
    /// Opens the files of a snapshot. `Err` says why they are of no use.
    pub async fn open(&self, directory: &Path) -> Result<std::result::Result<Origin, String>> {
        Ok(Origin::open(directory, &self.loaded().await?.library))
    }

    /// Starts an isolate to be kept: from a snapshot, or from the built-in image.
    pub async fn keep(
        self: &Arc<Self>,
        tenant: Tenant,
        from: Option<Arc<Origin>>,
        memory_bytes: u64,
        scratch_bytes: u64,
    ) -> Result<Kept> {
        let origin = match from {
            Some(origin) => origin,
            None => self.loaded().await?.origin.clone(),
        };
        let world = origin.world().cloned();
        self.begin(tenant, origin, world, memory_bytes, scratch_bytes).await
    }

    /// Brings an isolate back. `layers` are a whole state and what changed since, in order. `Err` says why they
    /// are of no use.
    pub async fn thaw(
        self: &Arc<Self>,
        tenant: Tenant,
        from: Option<Arc<Origin>>,
        layers: &[Frozen],
        memory_bytes: u64,
        scratch_bytes: u64,
    ) -> Result<std::result::Result<Kept, String>> {
        let loaded = self.loaded().await?;
        let origin = from.unwrap_or_else(|| loaded.origin.clone());
        let Some(newest) = layers.last() else { return Ok(Err("there is nothing to bring back".into())) };
        let meta = match Meta::read(&newest.meta) {
            Ok(meta) => meta,
            Err(problem) => return Ok(Err(problem)),
        };
        if meta.image != origin.image().digest() {
            return Ok(Err("it belongs to another image".into()));
        }
        let mut kept = self.begin(tenant, origin, Some(meta.world), memory_bytes, scratch_bytes).await?;
        for layer in layers {
            if let Err(problem) = kept.lay_over(meta.memory, &layer.pieces).await {
                return Ok(Err(problem));
            }
        }
        // What is written from here on counts from this state.
        kept.note_pages();
        Ok(Ok(kept))
    }

    async fn begin(
        self: &Arc<Self>,
        tenant: Tenant,
        origin: Arc<Origin>,
        world: Option<wasi::State>,
        memory_bytes: u64,
        scratch_bytes: u64,
    ) -> Result<Kept> {
        let loaded = self.loaded().await?;
        let config = loaded.library.world(origin.base(), scratch_bytes);
        let wasi = match world {
            None => Wasi::new(config),
            Some(state) => Wasi::thaw(state, config)
                .map_err(|problem| Error::Internal(format!("the files of a snapshot cannot be used: {problem}")))?,
        };
        let isolate = Isolate::start(&loaded.runtime, origin.image(), &tenant, wasi, memory_bytes).await;
        let isolate = isolate.map_err(|error| Error::Internal(format!("an isolate cannot be made: {error:#}")))?;
        Ok(Kept {
            interpreter: self.clone(),
            isolate,
            origin,
            tenant,
            memory_bytes,
            scratch_bytes,
            reseed: true,
            frozen: HashMap::new(),
            own: TYPICAL,
        })
    }
}

impl Kept {
    /// Runs one turn. Gives the isolate back unless its state is lost: by a trap, by the end of its time or its
    /// memory, or because it ended itself. Dropping the future loses it, too.
    pub async fn turn(self, turn: KeptTurn) -> Result<(Option<Kept>, Ended)> {
        let limits = turn.limits;
        let engine = self.interpreter.engine().clone();
        match engine.host(limits.wall_time, self.run(turn)).await? {
            Some(done) => Ok(done),
            None => Ok((None, Ended::timed_out(&limits))),
        }
    }

    async fn run(mut self, turn: KeptTurn) -> Result<(Option<Kept>, Ended)> {
        let wasi = self.isolate.wasi_mut();
        wasi.set_scratch(turn.limits.scratch_bytes);
        wasi.connect(Some(turn.input), Some(turn.output.clone()), None);
        if let Err(error) = files::put(wasi, &turn.inputs.files) {
            wasi.connect(None, None, None);
            let ended = Ended::new(Exit::NotStarted, error.to_string());
            return Ok((Some(self), ended));
        }
        let mut environment = turn.environment;
        environment.extend(turn.inputs.environment);
        let talk = Talk {
            turn: Turn {
                name: turn.name,
                code: turn.code,
                arguments: turn.inputs.arguments,
                environment,
                reseed: std::mem::take(&mut self.reseed),
                pristine: false,
                module: false,
            },
            warm: Mutex::default(),
            output: turn.output.clone(),
            egress: turn.egress,
            children: turn.children,
            meter: turn.meter.clone(),
            host_calls: turn.limits.host_calls,
            said: Mutex::new(Said::default()),
        };
        let turned = self.isolate.turn(talk).await;
        let alive = turned.result.is_ok();
        let mut ended = Ended::of_turn(turned.said, turned.result, turned.denied, &turn.limits);
        // Where the files stay, contents go along only if the call asks for them.
        let patterns = Some(&*turn.inputs.return_files).filter(|patterns| turn.return_all || !patterns.is_empty());
        let wasi = self.isolate.wasi_mut();
        let left = files::give_back(wasi, &*turn.output, patterns, turn.limits.scratch_bytes);
        (ended.files, ended.unlisted_files) = left;
        turn.meter.scratch(wasi.scratch_peak());
        wasi.connect(None, None, None);
        Ok((alive.then_some(self), ended))
    }

    /// Memory of its own in bytes, as last counted: what dropping it would free.
    pub fn memory_bytes(&self) -> u64 {
        let grown = self.isolate.memory().len().saturating_sub(self.origin.image().memory_bytes()) as u64;
        self.own.max(grown / 2)
    }

    /// What it started from.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Numbers of the pages that were written, in order.
    fn written(&self) -> Result<Vec<u32>> {
        let memory = self.isolate.memory();
        let start = memory.as_ptr() as usize;
        let failed = |error| Error::Internal(format!("the written pages cannot be found: {error}"));
        match self.interpreter.slots().written(start..start + memory.len()) {
            Some(ranges) => {
                let pages = |range: std::ops::Range<usize>| (range.start - start) / PAGE..(range.end - start) / PAGE;
                Ok(ranges.map_err(failed)?.into_iter().flat_map(pages).map(|page| page as u32).collect())
            }
            // The kernel cannot say: compare.
            None => {
                let pages = 0..(memory.len() / PAGE) as u32;
                Ok(pages.filter(|page| self.differs(*page) || self.frozen.contains_key(page)).collect())
            }
        }
    }

    /// Whether a page is not as in the image, or not zero behind its end. Many that were written are: a count of
    /// references went up and down again.
    fn differs(&self, page: u32) -> bool {
        let now = at(self.isolate.memory(), page);
        let pristine = at(self.origin.image().memory(), page);
        if pristine.len() == PAGE { now != pristine } else { now.iter().any(|byte| *byte != 0) }
    }

    /// Takes the present state as the one that the next change counts from.
    fn note_pages(&mut self) {
        let Ok(pages) = self.written() else { return };
        let memory = self.isolate.memory();
        self.own = (pages.len() * PAGE) as u64;
        self.frozen = pages.into_iter().map(|page| (page, XxHash3_128::oneshot(at(memory, page)))).collect();
    }

    /// The state as data: all that differs from the image, or only what changed since the last time.
    pub fn freeze(&mut self, whole: bool) -> Result<Frozen> {
        let pages = self.written()?;
        let memory = self.isolate.memory();
        let mut digests = HashMap::with_capacity(pages.len());
        let mut wanted = Vec::with_capacity(pages.len());
        for page in &pages {
            let digest = XxHash3_128::oneshot(at(memory, *page));
            digests.insert(*page, digest);
            let wants = if whole { self.differs(*page) } else { self.frozen.get(page) != Some(&digest) };
            if wants {
                wanted.push(*page);
            }
        }
        let frozen = Frozen { pieces: pieces(memory, &wanted), meta: self.meta()? };
        self.own = (pages.len() * PAGE) as u64;
        self.frozen = digests;
        Ok(frozen)
    }

    /// The whole state as data; the next change still counts from the last freeze.
    pub fn whole(&self) -> Result<Frozen> {
        let mut pages = self.written()?;
        pages.retain(|page| self.differs(*page));
        Ok(Frozen { pieces: pieces(self.isolate.memory(), &pages), meta: self.meta()? })
    }

    fn meta(&self) -> Result<Bytes> {
        let meta = Meta {
            memory: self.isolate.memory().len() as u64,
            image: self.origin.image().digest(),
            world: self.isolate.wasi().freeze(),
        };
        Ok(meta.write()?.into())
    }

    /// A copy of the present state, with randomness of its own.
    pub async fn fork(&self) -> Result<Kept> {
        let mut pages = self.written()?;
        pages.retain(|page| self.differs(*page));
        let world = self.isolate.wasi().freeze();
        let mut copy = self
            .interpreter
            .begin(self.tenant.clone(), self.origin.clone(), Some(world), self.memory_bytes, self.scratch_bytes)
            .await?;
        let memory = self.isolate.memory();
        copy.isolate.grow(memory.len()).await.map_err(|error| Error::Internal(format!("{error:#}")))?;
        let target = copy.isolate.memory_mut();
        let runs = runs(&pages);
        prepare(target, &runs);
        for run in runs {
            target[run.clone()].copy_from_slice(&memory[run]);
        }
        copy.own = (pages.len() * PAGE) as u64;
        Ok(copy)
    }

    async fn lay_over(&mut self, length: u64, pieces: &[(u64, Bytes)]) -> std::result::Result<(), String> {
        let length = usize::try_from(length).map_err(|_| "its memory is too large")?;
        if length > self.isolate.memory().len() {
            self.isolate.grow(length).await.map_err(|error| format!("its memory does not fit: {error:#}"))?;
        }
        let memory = self.isolate.memory_mut();
        let range = |(address, bytes): &(u64, Bytes)| {
            let start = usize::try_from(*address).ok()?;
            Some(start..start.checked_add(bytes.len())?)
        };
        prepare(memory, &pieces.iter().filter_map(range).collect::<Vec<_>>());
        for (address, bytes) in pieces {
            let start = usize::try_from(*address).ok();
            let range = start.and_then(|start| Some(start..start.checked_add(bytes.len())?));
            let place = range.and_then(|range| memory.get_mut(range));
            place.ok_or("it has pages outside of its memory")?.copy_from_slice(bytes);
        }
        Ok(())
    }
}

fn at(memory: &[u8], page: u32) -> &[u8] {
    let start = page as usize * PAGE;
    memory.get(start..start + PAGE).unwrap_or_default()
}

/// Runs of pages as ranges of bytes, none longer than a piece.
fn runs(pages: &[u32]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for page in pages {
        let start = *page as usize * PAGE;
        match runs.last_mut() {
            Some(run) if run.end == start && run.len() < PIECE => run.end += PAGE,
            _ => runs.push(start..start + PAGE),
        }
    }
    runs
}

fn pieces(memory: &[u8], pages: &[u32]) -> Vec<(u64, Bytes)> {
    let runs = runs(pages).into_iter();
    runs.map(|run| (run.start as u64, Bytes::copy_from_slice(&memory[run]))).collect()
}
