//! A limit on how many do something at a time, and on how many wait for their turn.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At most so many inside, at most so many waiting.
#[derive(Debug)]
pub(super) struct Gate {
    inside: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// Nobody more may wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    pub(super) fn new(max_inside: usize, max_waiting: usize) -> Self {
        Self { inside: Arc::new(Semaphore::new(max_inside)), waiting: AtomicUsize::new(0), max_waiting }
    }

    /// Waits for a place inside, or says at once that too many wait already. The place is taken until it is dropped.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Full> {
        if let Ok(permit) = self.inside.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let ahead = self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        if ahead >= self.max_waiting {
            return Err(Full);
        }
        self.inside.clone().acquire_owned().await.map_err(|_closed| Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_more_than_may_wait_is_turned_away() {
        let gate = Gate::new(1, 1);
        let inside = gate.enter().await.unwrap();
        let mut waiting = Box::pin(gate.enter());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(gate.enter().await.err(), Some(Full));
        drop(inside);
        let inside = waiting.await.unwrap();
        drop(inside);
        assert!(gate.enter().await.is_ok(), "those who left are not counted");
    }
}
