//! What an image offers: the programs on its search path.

use crate::container::{Containers, Viewer, Workplace};
use crate::domain::file::FileKind;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Entries of one directory that are looked at.
const ENTRIES: usize = 20_000;
/// Images that are remembered.
const REMEMBERED: usize = 256;

/// The programs of a container.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    names: Arc<HashSet<String>>,
}

impl Programs {
    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

#[cfg(test)]
impl FromIterator<&'static str> for Programs {
    fn from_iter<T: IntoIterator<Item = &'static str>>(names: T) -> Self {
        Programs { names: Arc::new(names.into_iter().map(str::to_owned).collect()) }
    }
}

/// What is known of images. An image never changes, so what was seen once in a container that cannot change it holds.
#[derive(Default)]
pub struct KnownPrograms {
    known: Mutex<(HashMap<String, Programs>, VecDeque<String>)>,
}

impl KnownPrograms {
    /// The programs of a container.
    pub async fn of(&self, containers: &Containers, viewer: &Viewer, place: &Workplace) -> Result<Programs> {
        let key = place.is_fixed().then(|| format!("{} {}", place.image(), place.search_path().join(":")));
        if let Some(key) = &key
            && let Some(programs) = self.known.lock().0.get(key)
        {
            return Ok(programs.clone());
        }
        let mut names = HashSet::new();
        let id = place.container().to_string();
        for directory in place.search_path() {
            let mut after = None;
            loop {
                let listing = match containers.list_directory(&id, viewer, directory, 1, after, ENTRIES).await {
                    Ok(listing) => listing,
                    // It is not there, or not for everybody.
                    Err(Error::File { .. }) => break,
                    Err(error) => return Err(error),
                };
                let programs = listing.entries.iter().filter(|entry| match entry.kind {
                    FileKind::File => entry.mode & 0o111 != 0,
                    kind => kind == FileKind::Link,
                });
                names.extend(programs.filter_map(|entry| {
                    let name = entry.path.rsplit(|byte| *byte == b'/').next()?;
                    Some(std::str::from_utf8(name).ok()?.to_owned())
                }));
                after = listing.next;
                if after.is_none() || names.len() > 4 * ENTRIES {
                    break;
                }
            }
        }
        let programs = Programs { names: Arc::new(names) };
        if let Some(key) = key {
            let mut known = self.known.lock();
            if known.0.insert(key.clone(), programs.clone()).is_none() {
                known.1.push_back(key);
            }
            if known.1.len() > REMEMBERED
                && let Some(oldest) = known.1.pop_front()
            {
                known.0.remove(&oldest);
            }
        }
        Ok(programs)
    }
}
