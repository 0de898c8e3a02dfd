//! How often each has done something within a while.

use lru::LruCache;
use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Counts by key, each from its first event on until a window has passed. When there are too many keys, the one whose last
/// event is longest ago is forgotten.
#[derive(Debug)]
pub struct Tally<K: Hash + Eq> {
    window: Duration,
    counts: Mutex<LruCache<K, (Instant, usize)>>,
}

impl<K: Hash + Eq> Tally<K> {
    /// Counts of at most `capacity` keys.
    pub fn new(window: Duration, capacity: NonZeroUsize) -> Self {
        Self { window, counts: Mutex::new(LruCache::new(capacity)) }
    }

    /// It has happened once more.
    pub fn count(&self, key: K, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = counts.get_or_insert_mut(key, || (now, 0));
        if now.saturating_duration_since(*since) >= self.window {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }

    /// If it has happened `max` times, how long until it is forgotten.
    pub fn reached(&self, key: &K, max: usize, now: Instant) -> Option<Duration> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // To ask keeps nothing from being forgotten.
        let (since, count) = counts.peek(key)?;
        let left = self.window.checked_sub(now.saturating_duration_since(*since))?;
        (*count >= max && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn what_has_happened_is_forgotten_when_the_window_has_passed() {
        let tally = Tally::new(WINDOW, NonZeroUsize::new(10).unwrap());
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        for second in 0..3 {
            assert_eq!(tally.reached(&"a", 3, after(second)), None);
            tally.count("a", after(second));
        }
        assert_eq!(tally.reached(&"a", 3, after(10)), Some(Duration::from_secs(50)));
        assert_eq!(tally.reached(&"b", 3, after(10)), None);
        assert_eq!(tally.reached(&"a", 3, after(60)), None);
        tally.count("a", after(61));
        assert_eq!(tally.reached(&"a", 1, after(61)), Some(WINDOW));
        assert_eq!(tally.reached(&"a", 2, after(61)), None);
    }

    #[test]
    fn no_more_are_kept_than_may_be() {
        let tally = Tally::new(WINDOW, NonZeroUsize::new(2).unwrap());
        for n in 0..100 {
            tally.count(n, Instant::now());
        }
        assert_eq!(tally.counts.lock().unwrap().len(), 2);
    }
}
