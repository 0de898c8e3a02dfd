//! Turns at bcrypt: each takes a processor for a while, so few are taken at a time, and few wait.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At most so many at a time, at most so many waiting.
#[derive(Debug)]
pub(super) struct Checks {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Checks {
    pub(super) fn new(max: NonZeroUsize, max_waiting: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(max.get())), waiting: AtomicUsize::new(0), max_waiting }
    }

    /// A turn, which ends when it is dropped; nothing if too many wait for theirs.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Some(turn);
        }
        let ahead = self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        if ahead >= self.max_waiting {
            return None;
        }
        self.turns.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_more_than_may_wait_is_turned_away() {
        let checks = Checks::new(NonZeroUsize::MIN, 1);
        let turn = checks.turn().await.unwrap();
        let mut waiting = Box::pin(checks.turn());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert!(checks.turn().await.is_none());
        drop(turn);
        drop(waiting.await.unwrap());
        assert!(checks.turn().await.is_some());
    }
}
