//! How often an address was wrong. Beyond a number it is not listened to for a while.

use super::Source;
use lru::LruCache;
use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures by where they come from; those of addresses that were wrong longest ago go first when it is full.
#[derive(Debug)]
pub(super) struct Attempts {
    max: u32,
    window: Duration,
    failures: Mutex<LruCache<Source, Failures>>,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Attempts {
    pub(super) fn new(max: NonZeroU32, window: Duration, capacity: NonZeroUsize) -> Self {
        Self { max: max.get(), window, failures: Mutex::new(LruCache::new(capacity)) }
    }

    /// How long the source is not listened to, if it was wrong too often.
    pub(super) fn blocked(&self, source: Source, now: Instant) -> Option<Duration> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        // To ask does not make it any younger.
        let Failures { since, count } = failures.peek(&source.group())?;
        let left =
            self.window.checked_sub(now.saturating_duration_since(*since)).filter(|left| !left.is_zero())?;
        (*count >= self.max).then_some(left)
    }

    /// It was wrong once more.
    pub(super) fn failed(&self, source: Source, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let known = failures.get_or_insert_mut(source.group(), || Failures { since: now, count: 0 });
        if now.saturating_duration_since(known.since) >= self.window {
            *known = Failures { since: now, count: 0 };
        }
        known.count = known.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn attempts(capacity: usize) -> Attempts {
        Attempts::new(NonZeroU32::new(3).unwrap(), WINDOW, NonZeroUsize::new(capacity).unwrap())
    }

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn whoever_is_wrong_too_often_is_not_listened_to_until_the_window_has_passed() {
        let (attempts, here) = (attempts(10), source("192.0.2.1"));
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        for second in 0..3 {
            assert_eq!(attempts.blocked(here, after(second)), None);
            attempts.failed(here, after(second));
        }
        assert_eq!(attempts.blocked(here, after(10)), Some(Duration::from_secs(50)));
        assert_eq!(attempts.blocked(source("192.0.2.2"), after(10)), None);
        assert_eq!(attempts.blocked(Source::Unix, after(10)), None);
        assert_eq!(attempts.blocked(here, after(60)), None);
        // A new window.
        attempts.failed(here, after(61));
        assert_eq!(attempts.blocked(here, after(62)), None);
    }

    #[test]
    fn a_network_of_64_bits_is_one_source() {
        let attempts = attempts(10);
        let now = Instant::now();
        for n in 0..3 {
            attempts.failed(source(&format!("2001:db8::{n}")), now);
        }
        assert!(attempts.blocked(source("2001:db8::ffff:0:1"), now).is_some());
        assert!(attempts.blocked(source("2001:db8:0:1::"), now).is_none());
    }

    #[test]
    fn no_more_sources_are_remembered_than_may_be() {
        let attempts = attempts(2);
        let now = Instant::now();
        for n in 0..100 {
            attempts.failed(source(&format!("192.0.2.{n}")), now);
        }
        assert_eq!(attempts.failures.lock().unwrap().len(), 2);
    }
}
