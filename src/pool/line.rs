//! Who waits, first come first served.

use std::collections::VecDeque;

/// A line. Each place has a number; numbers only grow.
pub(super) struct Line<T> {
    next: u64,
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line { next: 0, waiting: VecDeque::new() }
    }
}

impl<T> Line<T> {
    /// Takes a place at the end. Answers its number.
    pub(super) fn join(&mut self, who: T) -> u64 {
        self.next += 1;
        self.waiting.push_back((self.next, who));
        self.next
    }

    /// Gives a place up; nothing for one that was served.
    pub(super) fn leave(&mut self, number: u64) -> Option<T> {
        let at = self.waiting.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.waiting.remove(at).map(|(_, who)| who)
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<&T> {
        self.waiting.front().map(|(_, who)| who)
    }

    /// Serves whoever is next.
    pub(super) fn serve(&mut self) -> Option<T> {
        self.waiting.pop_front().map(|(_, who)| who)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_whoever_leaves() {
        let mut line = Line::default();
        let places: Vec<u64> = (0..5).map(|who| line.join(who)).collect();
        assert_eq!((line.leave(places[1]), line.leave(places[1])), (Some(1), None));
        assert_eq!((line.serve(), line.first(), line.len()), (Some(0), Some(&2), 3));
        assert_eq!(line.leave(places[0]), None, "one that was served has no place");
        let late = line.join(9);
        assert_eq!(line.leave(places[4]), Some(4));
        assert_eq!([line.serve(), line.serve(), line.serve(), line.serve()], [Some(2), Some(3), Some(9), None]);
        assert!(line.is_empty() && line.leave(late).is_none());
    }
}
