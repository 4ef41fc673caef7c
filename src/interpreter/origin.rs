//! What isolates start from: an image and the files that belong to it, and how a snapshot keeps all that.
//!
//! ```text
//! memory.image    the memory
//! state           files and descriptors, as they were frozen
//! packages.zip    read-only files that the snapshot adds to the library; only if it does
//! ```

use super::library::Library;
use super::memory::Image;
use super::stored;
use super::wasi::{self, Base};
use crate::error::{Error, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MEMORY: &str = "memory.image";
const STATE: &str = "state";
const PACKAGES: &str = "packages.zip";

/// A state, or what changed of one, as data.
#[derive(Clone, Debug, Default)]
pub struct Frozen {
    /// Bytes of the memory by their address.
    pub pieces: Vec<(u64, Bytes)>,
    /// Everything else.
    pub meta: Bytes,
}

/// What of a state is no memory.
#[derive(Serialize, Deserialize)]
pub(super) struct Meta {
    /// Bytes of memory.
    pub memory: u64,
    /// SHA-256 of the image that the pages are changes of.
    pub image: [u8; 32],
    pub world: wasi::State,
}

impl Meta {
    pub fn read(meta: &[u8]) -> std::result::Result<Meta, String> {
        postcard::from_bytes(meta).map_err(|error| format!("its description cannot be read: {error}"))
    }

    pub fn write(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(|error| Error::Internal(format!("a state cannot be written down: {error}")))
    }
}

/// Where isolates start.
pub struct Origin {
    image: Arc<Image>,
    base: Arc<Base>,
    /// Files and descriptors of a snapshot; `None` for the built-in image.
    world: Option<wasi::State>,
    /// The file of a snapshot's packages.
    packages: Option<PathBuf>,
}

impl Origin {
    pub(super) fn built_in(image: Image, library: &Library) -> Origin {
        Origin { image: Arc::new(image), base: library.base().clone(), world: None, packages: None }
    }

    /// The same memory with other files.
    pub(super) fn with_base(&self, base: Arc<Base>) -> Origin {
        Origin { image: self.image.clone(), base, world: self.world.clone(), packages: self.packages.clone() }
    }

    /// Opens the files of a snapshot, whose digest was checked. `Err` says what is wrong.
    pub(super) fn open(directory: &Path, library: &Library) -> std::result::Result<Origin, String> {
        let image = Image::open(&directory.join(MEMORY))?;
        let state = fs::read(directory.join(STATE)).map_err(|error| format!("its state cannot be read: {error}"))?;
        let meta = Meta::read(&state)?;
        if meta.image != image.digest() {
            return Err("its files belong to another memory".into());
        }
        let packages = Some(directory.join(PACKAGES)).filter(|path| path.exists());
        let base = match &packages {
            Some(path) => library.with(stored::read(path)?),
            None => library.base().clone(),
        };
        Ok(Origin { image: Arc::new(image), base, world: Some(meta.world), packages })
    }

    /// The memory.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    pub(super) fn base(&self) -> &Arc<Base> {
        &self.base
    }

    pub(super) fn world(&self) -> Option<&wasi::State> {
        self.world.as_ref()
    }

    /// Writes a state that began here as the files of a snapshot, and gives its bytes of memory. `packages` are
    /// those that the state was made with, if its origin has no file of them.
    pub fn develop(&self, frozen: &Frozen, packages: &[(String, Bytes)], directory: &Path) -> Result<u64> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| Error::StoreUnavailable {
            problem: format!("{} cannot be written: {error}", path.display()),
        };
        let meta = Meta::read(&frozen.meta).map_err(Error::Internal)?;
        if meta.image != self.image.digest() {
            return Err(Error::Internal("a state was to be laid over another image than its own".into()));
        }
        let length = usize::try_from(meta.memory).map_err(|error| Error::Internal(error.to_string()))?;
        let mut memory = self.image.memory().to_vec();
        memory.resize(length.max(memory.len()), 0);
        for (address, bytes) in &frozen.pieces {
            let start = *address as usize;
            let place = start.checked_add(bytes.len()).and_then(|end| memory.get_mut(start..end));
            let place = place.ok_or_else(|| Error::Internal("a state has pages outside of its memory".into()))?;
            place.copy_from_slice(bytes);
        }
        let path = directory.join(MEMORY);
        Image::write(&path, self.image.artifact(), &memory).map_err(|error| failed(&path, &error))?;
        // The pages are in the image now.
        let image = Image::open(&path).map_err(Error::Internal)?.digest();
        let path = directory.join(STATE);
        fs::write(&path, Meta { image, ..meta }.write()?).map_err(|error| failed(&path, &error))?;
        let path = directory.join(PACKAGES);
        match &self.packages {
            // The files of a snapshot are never changed: both can have the same one.
            Some(own) => fs::hard_link(own, &path).map_err(|error| failed(&path, &error))?,
            None if packages.is_empty() => {}
            None => {
                stored::write(&path, packages.iter().cloned())
                    .map_err(|problem| Error::StoreUnavailable { problem })?;
            }
        }
        Ok(memory.len() as u64)
    }
}

/// SHA-256 of the image that a state belongs to.
pub fn base_of(frozen: &Frozen) -> Result<[u8; 32]> {
    Meta::read(&frozen.meta).map(|meta| meta.image).map_err(Error::Internal)
}
