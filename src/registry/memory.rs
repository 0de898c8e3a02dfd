//! Things remembered for a while: failures, and what names meant a moment ago.

use lru::LruCache;
use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A bounded map whose entries end by themselves; the least recently used go first when it is full.
#[derive(Debug)]
pub(super) struct Memory<K: Hash + Eq, V> {
    entries: Mutex<LruCache<K, (Instant, V)>>,
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        Self { entries: Mutex::new(LruCache::new(capacity)) }
    }

    /// What is remembered under this key and has not ended.
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        Some(self.get_with_left(key)?.0)
    }

    /// The same, with how long it is going to be remembered.
    pub(super) fn get_with_left<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<(V, Duration)>
    where
        K: std::borrow::Borrow<Q>,
    {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = entries.get(key)?;
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Some((value.clone(), left));
        }
        entries.pop(key);
        None
    }

    /// Remembers `value` for `duration`.
    pub(super) fn put(&self, key: K, value: V, duration: Duration) {
        if !duration.is_zero() {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // What has ended takes no memory until the map is full.
            while entries.peek_lru().is_some_and(|(_, (until, _))| *until <= now) {
                entries.pop_lru();
            }
            entries.put(key, (now + duration, value));
        }
    }

    /// How many are remembered that have not ended.
    pub(super) fn len(&self) -> usize {
        let now = Instant::now();
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|(_, (until, _))| *until > now).count()
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets one.
    pub(super) fn remove(&self, key: &K) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).pop(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_no_more_than_its_capacity_and_nothing_for_ever() {
        let memory = Memory::new(NonZeroUsize::new(2).unwrap());
        let hour = Duration::from_secs(3600);
        memory.put("a", 1, hour);
        memory.put("b", 2, hour);
        assert_eq!(memory.get("a"), Some(1));
        memory.put("c", 3, hour);
        assert_eq!((memory.get("a"), memory.get("b"), memory.get("c")), (Some(1), None, Some(3)));
        assert_eq!(memory.len(), 2);
        memory.put("a", 4, Duration::from_nanos(1));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(memory.len(), 1);
        assert_eq!(memory.get("a"), None);
    }
}
