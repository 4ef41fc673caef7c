//! How long callers stood in line lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What counts as lately.
const WINDOW: Duration = Duration::from_secs(300);
/// Waits that are remembered: where there are more, the newest.
const REMEMBERED: usize = 4096;

/// The waits of the last minutes.
#[derive(Default)]
pub(super) struct Waits {
    seen: VecDeque<(Instant, Duration)>,
}

impl Waits {
    /// Somebody was served after so much time.
    pub(super) fn add(&mut self, now: Instant, waited: Duration) {
        if self.seen.len() >= REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back((now, waited));
    }

    /// Median and 99th percentile; none when nobody was served.
    pub(super) fn figures(&self, now: Instant) -> Option<(Duration, Duration)> {
        let recent = self.seen.iter().filter(|(at, _)| now.saturating_duration_since(*at) <= WINDOW);
        let mut waits: Vec<Duration> = recent.map(|(_, waited)| *waited).collect();
        waits.sort_unstable();
        // The smallest wait that so many of a hundred did not exceed.
        let rank = |percent: usize| (waits.len() * percent).div_ceil(100).checked_sub(1);
        Some((waits[rank(50)?], waits[rank(99)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_the_last_minutes() {
        let (begin, mut waits) = (Instant::now(), Waits::default());
        assert_eq!(waits.figures(begin), None);
        for number in 1..=100 {
            waits.add(begin, Duration::from_millis(101 - number));
        }
        let millis = Duration::from_millis;
        assert_eq!(waits.figures(begin), Some((millis(50), millis(99))));
        waits.add(begin + WINDOW, millis(7));
        assert_eq!(waits.figures(begin + WINDOW + millis(1)), Some((millis(7), millis(7))));
        assert_eq!(waits.figures(begin + WINDOW * 3), None);
        for _ in 0..2 * REMEMBERED {
            waits.add(begin, millis(1));
        }
        assert_eq!(waits.seen.len(), REMEMBERED);
    }
}
