//! Work that is done once, however many ask for it.

use super::{Work, caller};
use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::watch;

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
    pub(super) fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(&key) {
            return flight.clone();
        }
        let (sender, result) = watch::channel(None);
        let flight = Flight { since: Instant::now(), work: Arc::default(), result };
        running.insert(key.clone(), flight.clone());
        let landing = Landing { running: self.running.clone(), key };
        let (work, begun) = (flight.work.clone(), begin());
        let client = caller::current();
        tokio::spawn(async move {
            let value = caller::counted(client, work.run(begun)).await;
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
        self.work.is_awaited();
        self.result.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_thousand_requests_share_one_piece_of_work() {
        let flights = Flights::<u8, usize>::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let waiting: Vec<_> = (0..1000)
            .map(|_| {
                let runs = runs.clone();
                flights.join(1, || async move {
                    tokio::task::yield_now().await;
                    runs.fetch_add(1, Ordering::SeqCst)
                })
            })
            .collect();
        for flight in waiting {
            assert_eq!(flight.wait().await, Some(0));
        }
        let again = flights.join(1, || async move { 7 });
        assert_eq!(again.wait().await, Some(7), "finished work is not taken for running work");
    }

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_and_a_panic_is_no_hang() {
        let flights = Flights::<u8, usize>::default();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        drop(flights.join(1, || async move {
            tokio::task::yield_now().await;
            let _ = sender.send(());
            0
        }));
        receiver.await.unwrap();
        let flight = flights.join(2, || async { panic!("on purpose") });
        assert_eq!(flight.wait().await, None);
        assert_eq!(flights.join(2, || async { 3 }).wait().await, Some(3));
    }
}
