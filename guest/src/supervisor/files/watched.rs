//! Which folders are watched, and by which number of the kernel's.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use casemate_guest::protocol::Failure;

/// Folders that one channel watches at most.
const LIMIT: usize = 8192;

/// Folders by number, and numbers by folder.
#[derive(Debug, Default)]
pub struct Watched {
    both: RefCell<Both>,
}

#[derive(Debug, Default)]
struct Both {
    paths: HashMap<i32, Rc<[u8]>>,
    numbers: BTreeMap<Rc<[u8]>, i32>,
}

impl Both {
    fn remove(&mut self, number: i32) {
        // Another folder may have the path by now.
        if let Some(path) = self.paths.remove(&number)
            && self.numbers.get(&path) == Some(&number)
        {
            self.numbers.remove(&path);
        }
    }
}

impl Watched {
    /// Remembers a folder.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub fn insert(&self, number: i32, path: &[u8]) -> Result<(), Failure> {
        let mut both = self.both.borrow_mut();
        both.remove(number);
        if both.paths.len() >= LIMIT {
            return Err(Failure::TooMany("watched folders".into()));
        }
        let path: Rc<[u8]> = path.into();
        both.paths.insert(number, Rc::clone(&path));
        both.numbers.insert(path, number);
        Ok(())
    }

    /// Where a number's folder is.
    pub fn path(&self, number: i32) -> Option<Vec<u8>> {
        self.both.borrow().paths.get(&number).map(|path| path.to_vec())
    }

    /// Forgets one.
    pub fn remove(&self, number: i32) {
        self.both.borrow_mut().remove(number);
    }

    /// Forgets a folder and all below it; their numbers.
    pub fn take_below(&self, path: &[u8]) -> Vec<i32> {
        let mut both = self.both.borrow_mut();
        let below =
            |other: &[u8]| other.strip_prefix(path).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')));
        let from = both.numbers.range::<[u8], _>((std::ops::Bound::Included(path), std::ops::Bound::Unbounded));
        let starts = from.take_while(|(other, _)| other.starts_with(path));
        let numbers: Vec<_> = starts.filter(|(other, _)| below(other)).map(|(_, number)| *number).collect();
        numbers.iter().for_each(|number| both.remove(*number));
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_all_below_it() {
        let watched = Watched::default();
        for (number, path) in (1..).zip(["", "a", "a/b", "a.b", "ab", "a/b/c", "b"]) {
            watched.insert(number, path.as_bytes()).unwrap();
        }
        let mut gone = watched.take_below(b"a");
        gone.sort_unstable();
        assert_eq!(gone, [2, 3, 6]);
        assert_eq!((watched.path(3), watched.path(4)), (None, Some(b"a.b".to_vec())));
        // The number of a folder stays with it wherever it is.
        watched.insert(4, b"c").unwrap();
        watched.insert(8, b"a.b").unwrap();
        assert_eq!(watched.take_below(b"a.b"), [8]);
        assert_eq!(watched.path(4), Some(b"c".to_vec()));
    }

    #[test]
    fn there_is_a_limit() {
        let watched = Watched::default();
        for number in 0..LIMIT {
            watched.insert(number as i32, number.to_string().as_bytes()).unwrap();
        }
        assert!(matches!(watched.insert(-1, b"more"), Err(Failure::TooMany(_))));
        assert_eq!(watched.insert(5, b"known"), Ok(()));
    }
}
