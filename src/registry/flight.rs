//! Work that is done once, however many ask for it.

use super::{RegistryError, Result, Work, work::Behalf};
use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::watch;

/// How often work is joined that is refused for what others have had. To lose each of these races takes some doing.
pub(super) const TRIES: usize = 4;

/// Running work by key. The work belongs to nobody who waits for it: it goes on when they leave.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    running: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

/// Work that has been begun, by this or by another request.
#[derive(Debug, Clone)]
pub(super) struct Flight<V> {
    /// When it was begun.
    pub(super) since: Instant,
    /// How far it is.
    pub(super) work: Arc<Work>,
    /// Whether others had begun it.
    joined: bool,
    result: watch::Receiver<Option<V>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work of this key, beginning it if it is not under way.
    pub(super) fn join<F>(&self, behalf: &Behalf, key: K, begin: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(&key) {
            flight.work.is_wanted_by(behalf);
            return Flight { joined: true, ..flight.clone() };
        }
        let (sender, result) = watch::channel(None);
        let flight = Flight { since: Instant::now(), work: Arc::default(), joined: false, result };
        flight.work.is_wanted_by(behalf);
        running.insert(key.clone(), flight.clone());
        let landing = Landing { running: self.running.clone(), key };
        let (work, begun) = (flight.work.clone(), begin());
        tokio::spawn(async move {
            let value = work.run(begun).await;
            // Off the list first: whoever comes now begins anew instead of taking an old result for a fresh one.
            drop(landing);
            sender.send_replace(Some(value));
        });
        flight
    }

    /// The work of this key, if it is under way.
    pub(super) fn running(&self, key: &K) -> Option<Flight<V>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

/// Takes the work off the list, also when it panics.
struct Landing<K: Hash + Eq, V> {
    running: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<V: Clone> Flight<V> {
    /// Waits for the result; nothing if the work panicked.
    pub(super) async fn wait(mut self) -> Option<V> {
        self.result.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }
}

impl<T: Clone> Flight<Result<T>> {
    /// Waits for work that can fail, without a limit of its own; the work has them.
    pub(super) async fn landed(self) -> Result<T> {
        self.wait()
            .await
            .unwrap_or_else(|| Err(RegistryError::internal("the work for this request panicked")))
    }

    /// Whether this is worth another try: it was begun by others, and refused for what they have had, perhaps before
    /// anybody else joined it.
    pub(super) fn is_refused_for_others(&self, result: &Result<T>) -> bool {
        self.joined && matches!(result, Err(RegistryError::OverLimit { .. }))
    }
}

/// Joins work and waits for it. What others began and may have no more of is begun again.
pub(super) async fn landed<T: Clone>(mut join: impl FnMut() -> Flight<Result<T>>) -> Result<T> {
    for _ in 1..TRIES {
        let flight = join();
        let result = flight.clone().landed().await;
        if !flight.is_refused_for_others(&result) {
            return result;
        }
    }
    join().landed().await
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
