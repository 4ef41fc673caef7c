//! An interpreter of a tiny language: calls add to a sum, fill pages, wait, or go wrong.

use crate::domain::event::OutputStream;
use crate::domain::execution::{Exit, Trap};
use crate::domain::interruption::InterruptionReason;
use crate::domain::io::OutputSink;
use crate::error::{Error, Result};
use crate::execution::Ended;
use crate::session::kernel::{
    BoxFuture, Developed, Extent, Frozen, Image, Kernel, KernelSpec, Kernels, Thaw, Turn, Turned,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::sync::Semaphore;

pub const PAGE: usize = 4096;

/// What the tests share with all kernels.
pub struct Switches {
    /// Calls that `wait` take one of these to go on.
    pub gate: Semaphore,
    /// Calls that began to wait.
    pub waiting: Semaphore,
    /// Forks that still succeed.
    pub forks: AtomicI64,
    /// Freezes so far.
    pub freezes: AtomicU64,
    seeds: AtomicU64,
}

pub struct Adders {
    pub switches: Arc<Switches>,
    pub fingerprint: [u8; 32],
}

impl Adders {
    pub fn new() -> Adders {
        Adders {
            switches: Arc::new(Switches {
                gate: Semaphore::new(0),
                waiting: Semaphore::new(0),
                forks: AtomicI64::new(i64::MAX),
                freezes: AtomicU64::new(0),
                seeds: AtomicU64::new(1),
            }),
            fingerprint: [1; 32],
        }
    }

    fn adder(&self, pages: Vec<Vec<u8>>) -> Box<dyn Kernel> {
        let seed = self.switches.seeds.fetch_add(1, Ordering::Relaxed);
        Box::new(Adder { pages, dirty: BTreeSet::new(), seed, switches: self.switches.clone() })
    }
}

struct Adder {
    /// The sum stands in the first eight bytes of page 0.
    pages: Vec<Vec<u8>>,
    dirty: BTreeSet<usize>,
    seed: u64,
    switches: Arc<Switches>,
}

fn read_image(image: &Image) -> Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(image.directory().join("pages")).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(bytes.chunks(PAGE).map(<[u8]>::to_vec).collect())
}

impl Kernels for Adders {
    fn tool(&self) -> &str {
        "adder"
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    fn start(&self, spec: KernelSpec) -> BoxFuture<'_, Result<Box<dyn Kernel>>> {
        Box::pin(async move {
            let pages = spec.image.as_deref().map(read_image).transpose()?;
            Ok(self.adder(pages.unwrap_or_else(|| vec![first()])))
        })
    }

    fn thaw(&self, _: KernelSpec, layers: Vec<Frozen>) -> BoxFuture<'_, std::result::Result<Box<dyn Kernel>, Thaw>> {
        Box::pin(async move {
            let mut pages: Vec<Vec<u8>> = Vec::new();
            for layer in layers {
                let count: [u8; 8] = layer.meta[..].try_into().map_err(|_| Thaw::Unusable("no page count".into()))?;
                pages.resize(usize::from_le_bytes(count), vec![0; PAGE]);
                for (place, bytes) in layer.pieces {
                    pages[place as usize / PAGE] = bytes.to_vec();
                }
            }
            Ok(self.adder(pages))
        })
    }

    fn develop(&self, image: Frozen, directory: &Path) -> Result<Developed> {
        let bytes: Vec<u8> = image.pieces.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        std::fs::write(directory.join("pages"), &bytes).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Developed { total_bytes: bytes.len() as u64 })
    }
}

/// A page that cannot be compressed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..PAGE / 8).flat_map(|_| next().to_le_bytes()).collect()
}

/// The page that the sum is on.
fn first() -> Vec<u8> {
    let mut page = noise(u64::MAX);
    page[..8].fill(0);
    page
}

impl Adder {
    fn sum(&self) -> i64 {
        i64::from_le_bytes(self.pages[0][..8].try_into().unwrap())
    }

    fn state(&self, pages: impl Iterator<Item = usize>, whole: bool) -> Frozen {
        Frozen {
            pieces: pages.map(|page| ((page * PAGE) as u64, Bytes::copy_from_slice(&self.pages[page]))).collect(),
            meta: Bytes::copy_from_slice(&self.pages.len().to_le_bytes()),
            whole,
        }
    }
}

impl Kernel for Adder {
    fn turn(&mut self, turn: Turn) -> BoxFuture<'_, Turned> {
        Box::pin(async move {
            let number = |name: &str| turn.parameters.get(name).and_then(serde_json::Value::as_i64);
            let sum = self.sum() + number("add").unwrap_or(0);
            self.pages[0][..8].copy_from_slice(&sum.to_le_bytes());
            self.dirty.insert(0);
            if let Some(pages) = number("grow") {
                let first = self.pages.len();
                self.pages.extend((0..pages).map(|page| noise(turn.number * 1000 + page as u64)));
                self.dirty.extend(first..self.pages.len());
            }
            if turn.parameters.get("wait").is_some() {
                self.switches.waiting.add_permits(1);
                self.switches.gate.acquire().await.unwrap().forget();
            }
            if turn.parameters.get("seed").is_some() {
                turn.live.write(OutputStream::Stdout, self.seed.to_string().into());
            }
            turn.live.write(OutputStream::Stdout, format!("{sum}\n").into());
            let trap = Exit::Trapped(Trap { code: "unreachable".into(), ..Trap::default() });
            match turn.parameters.get("end").and_then(serde_json::Value::as_str) {
                Some("trap") => Turned::Dead(Ended::new(trap, "it trapped"), InterruptionReason::Trapped),
                Some("timeout") => Turned::Dead(Ended::new(Exit::TimedOut, "late"), InterruptionReason::TimedOut),
                _ => Turned::Alive(Ended::new(Exit::Exited { code: 0 }, "")),
            }
        })
    }

    fn end(self: Box<Self>) {}

    fn memory_bytes(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    fn freeze(&mut self, extent: Extent) -> Result<Frozen> {
        self.switches.freezes.fetch_add(1, Ordering::Relaxed);
        let dirty = std::mem::take(&mut self.dirty);
        Ok(match extent {
            Extent::Changed => self.state(dirty.into_iter(), false),
            Extent::Whole => self.state(0..self.pages.len(), true),
        })
    }

    fn image(&mut self) -> Result<Frozen> {
        Ok(self.state(0..self.pages.len(), true))
    }

    fn fork(&mut self) -> BoxFuture<'_, Result<Box<dyn Kernel>>> {
        Box::pin(async move {
            if self.switches.forks.fetch_sub(1, Ordering::Relaxed) <= 0 {
                return Err(Error::Internal("no more forks".into()));
            }
            let seed = self.switches.seeds.fetch_add(1, Ordering::Relaxed);
            let copy =
                Adder { pages: self.pages.clone(), dirty: BTreeSet::new(), seed, switches: self.switches.clone() };
            Ok(Box::new(copy) as Box<dyn Kernel>)
        })
    }
}
