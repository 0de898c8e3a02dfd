//! How much of something one client has at a time.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

type Taken<K> = Arc<Mutex<HashMap<K, usize>>>;

/// Counts by client; only clients that have something take memory.
#[derive(Debug)]
pub struct Shares<K: Hash + Eq> {
    max: Option<usize>,
    taken: Taken<K>,
}

/// One of those that a client may have, until it is dropped.
#[derive(Debug)]
pub struct Share<K: Hash + Eq> {
    /// Nothing where nothing is counted.
    of: Option<(Taken<K>, K)>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// So many for each; zero is no limit.
    pub fn new(max: usize) -> Self {
        Self { max: Some(max).filter(|max| *max > 0), taken: Arc::default() }
    }

    /// How many there are for each, if that is limited.
    pub fn max(&self) -> Option<usize> {
        self.max
    }

    /// One more for this client, or nothing if it has all that it may have. Nobody is not counted.
    pub fn take(&self, client: Option<K>) -> Option<Share<K>> {
        let (Some(max), Some(client)) = (self.max, client) else { return Some(Share { of: None }) };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.entry(client.clone()) {
            Entry::Occupied(count) if *count.get() >= max => return None,
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(none) => *none.insert(0) += 1,
        }
        Some(Share { of: Some((self.taken.clone(), client)) })
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let Some((taken, client)) = &self.of else { return };
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_and_what_was_given_back_takes_no_memory() {
        let shares = Shares::new(2);
        let both = [shares.take(Some("a")).unwrap(), shares.take(Some("a")).unwrap()];
        assert!(shares.take(Some("a")).is_none());
        let other = shares.take(Some("b"));
        assert!(other.is_some() && shares.take(None).is_some());
        drop(both);
        assert!(shares.take(Some("a")).is_some());
        drop(other);
        assert!(shares.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn zero_is_no_limit() {
        let shares = Shares::new(0);
        let many: Vec<_> = (0..1000).map(|_| shares.take(Some(1)).unwrap()).collect();
        assert_eq!((many.len(), shares.max()), (1000, None));
    }
}
