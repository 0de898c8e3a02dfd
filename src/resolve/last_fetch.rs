//! What fetching a source came to last, as long as that is taken for current.

use super::fetch_error::FetchError;
use crate::nix::EvaluatorError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, MutexGuard};

/// How long the result of fetching a source is cached.
#[derive(Debug, Clone, Copy, Default)]
pub struct MaxAge {
    /// A source.
    pub fetched: Duration,
    /// A failure. Servers limit attempts, and each name that is asked for would make one.
    pub failed: Duration,
}

/// The last fetch of a source. There is one at a time, for all that want it.
#[derive(Debug)]
pub(super) struct LastFetch<T> {
    max_age: MaxAge,
    /// How long a fetch may take.
    limit: Duration,
    /// Held while it is fetched.
    outcome: Mutex<Option<Outcome<T>>>,
    /// How often all was forgotten. What a fetch comes to that began before is not current.
    generation: AtomicU64,
}

#[derive(Debug)]
struct Outcome<T> {
    at: Instant,
    max_age: Duration,
    generation: u64,
    found: Result<Arc<T>, FetchError>,
}

/// A fetch under way. A caller that gives up on it has waited as long as an evaluation may take: then it counts as one that
/// took too long.
struct Fetching<'l, T> {
    last: &'l LastFetch<T>,
    outcome: MutexGuard<'l, Option<Outcome<T>>>,
    begun: Instant,
    generation: u64,
    is_over: bool,
}

impl<T> LastFetch<T> {
    /// Nothing has been fetched yet; a fetch may take `limit`.
    pub(super) fn new(max_age: MaxAge, limit: Duration) -> Self {
        Self { max_age, limit, outcome: Mutex::default(), generation: AtomicU64::new(0) }
    }

    /// What it came to, if that is current or began after this was asked; else what it comes to now.
    pub(super) async fn get(
        &self,
        fetch: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<Arc<T>, FetchError> {
        self.get_unless(|outcome, asked| outcome.at < asked && outcome.at.elapsed() >= outcome.max_age, fetch)
            .await
    }

    /// The same, if that fetch began no earlier than `since`.
    pub(super) async fn get_since(
        &self,
        since: Instant,
        fetch: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<Arc<T>, FetchError> {
        self.get_unless(|outcome, _| outcome.at < since, fetch).await
    }

    async fn get_unless(
        &self,
        is_old: impl Fn(&Outcome<T>, Instant) -> bool,
        fetch: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<Arc<T>, FetchError> {
        let asked = Instant::now();
        let mut outcome = self.outcome.lock().await;
        let generation = self.generation.load(Ordering::SeqCst);
        if let Some(outcome) = &*outcome
            && outcome.generation == generation
            && !is_old(outcome, asked)
        {
            return outcome.found.clone();
        }
        // What fails is forgotten: it is not known any more what the source is.
        *outcome = None;
        let begun = Instant::now();
        let fetching = Fetching { last: self, outcome, begun, generation, is_over: false };
        let found = fetch.await.map(Arc::new);
        fetching.end(found.clone());
        found
    }

    /// Takes nothing for current any more, nor what is being fetched. Does not wait for that.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T> Fetching<'_, T> {
    fn end(mut self, found: Result<Arc<T>, FetchError>) {
        self.is_over = true;
        self.note(found);
    }

    fn note(&mut self, found: Result<Arc<T>, FetchError>) {
        let (at, max_age) = match &found {
            Ok(_) => (self.begun, self.last.max_age.fetched),
            // The fetcher did not say anything of the source.
            Err(FetchError::Fetcher(EvaluatorError::Unavailable { .. } | EvaluatorError::Answer { .. })) => {
                return;
            }
            // Others waited for it, perhaps for long.
            Err(_) => (Instant::now(), self.last.max_age.failed),
        };
        *self.outcome = Some(Outcome { at, max_age, generation: self.generation, found });
    }
}

impl<T> Drop for Fetching<'_, T> {
    fn drop(&mut self) {
        if !self.is_over {
            self.note(Err(EvaluatorError::TimedOut(self.last.limit).into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const HOUR: Duration = Duration::from_secs(3600);

    fn last() -> LastFetch<u32> {
        LastFetch::new(MaxAge { fetched: HOUR, failed: HOUR }, HOUR)
    }

    #[tokio::test]
    async fn it_is_fetched_once_until_it_is_forgotten_also_while_it_is_fetched() {
        let last = last();
        assert_eq!(*last.get(ready(Ok(1))).await.unwrap(), 1);
        assert_eq!(*last.get(ready(Ok(2))).await.unwrap(), 1);
        last.forget();
        let forgotten_meanwhile = async {
            // Does not wait for this.
            last.forget();
            Ok(3)
        };
        assert_eq!(*last.get(forgotten_meanwhile).await.unwrap(), 3);
        assert_eq!(*last.get(ready(Ok(4))).await.unwrap(), 4);
        assert_eq!(*last.get(ready(Ok(5))).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn failures_are_remembered_and_so_is_a_fetch_that_was_given_up() {
        let last = last();
        let failed = || ready(Err(FetchError::Unreachable("x".into())));
        last.get(failed()).await.unwrap_err();
        assert!(matches!(last.get(ready(Ok(1))).await, Err(FetchError::Unreachable(_))));
        last.forget();
        tokio::time::timeout(Duration::from_millis(1), last.get(pending())).await.unwrap_err();
        let given_up = last.get(ready(Ok(1))).await;
        assert!(matches!(given_up, Err(FetchError::Fetcher(EvaluatorError::TimedOut(HOUR)))));
        last.forget();
        let gone = EvaluatorError::Answer { role: "fetcher", socket: "/f".into(), reason: "x".into() };
        last.get(ready(Err(gone.into()))).await.unwrap_err();
        assert_eq!(*last.get(ready(Ok(1))).await.unwrap(), 1, "that says nothing of the source");
    }
}
