//! Revision look-ups, which forges rate-limit.

use super::{RegistryError, Result};
use crate::{access::Client, oci::Tag, resolve::Remote};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What look-ups are counted in. GitHub counts by the hour as well, and Nix asks again for a revision that it found after
/// an hour (`tarball-ttl`).
const WINDOW: Duration = Duration::from_secs(3600);
/// Where the forge is asked by its API. GitHub allows 60 without a token, and what a flake is now has to be asked for too.
const OF_FORGE: usize = 50;
/// How long a tag rests at most that is missing: `max` bounds the hour in any case.
const MAX_REST: Duration = Duration::from_secs(300);
/// Where a Git repository is asked.
const OF_GIT: usize = 1000;

/// The tags that were looked up as revisions within the last hour; no more than `max`, and half of them for one client.
#[derive(Debug)]
pub(super) struct LookUps {
    /// Zero is no limit, and nothing is noted.
    max: usize,
    asked: Mutex<VecDeque<LookUp>>,
}

#[derive(Debug)]
struct LookUp {
    at: Instant,
    tag: Tag,
    client: Client,
    outcome: LookUpOutcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookUpOutcome {
    /// The revision exists, or is being looked up. The next time costs nothing.
    Found,
    /// There is no such revision.
    Missing,
    /// The source could not be asked.
    Failed,
}

impl LookUps {
    /// `max` is `MAX_REVISIONS`; if it is not set, the sources decide.
    pub(super) fn new(max: Option<usize>, sources: &[Remote]) -> Self {
        let default = match sources.iter().min() {
            Some(Remote::Forge) => OF_FORGE,
            Some(Remote::Git) => OF_GIT,
            None => 0,
        };
        let max = max.unwrap_or(default);
        // One tag is looked up in each source.
        let max = if max == 0 { 0 } else { (max / sources.len().max(1)).max(1) };
        Self { max, asked: Mutex::default() }
    }

    /// Notes that a tag is going to be looked up for one of these clients, or says that it may not be. What was found
    /// within the last hour costs nothing.
    pub(super) fn begin(&self, tag: &Tag, clients: &[Option<Client>], now: Instant) -> Result<()> {
        if self.max == 0 || clients.contains(&None) {
            return Ok(());
        }
        let mut asked = self.asked(now);
        if asked.iter().any(|look| look.tag == *tag && look.outcome == LookUpOutcome::Found) {
            return Ok(());
        }
        let left = |look: &LookUp| WINDOW.saturating_sub(now.saturating_duration_since(look.at));
        let (max, share) = (self.max, self.max.div_ceil(2));
        if let Some(oldest) = asked.front().filter(|_| asked.len() >= max) {
            return Err(over(tag, format!("{max} tags were looked up as revisions"), left(oldest)));
        }
        let mut until = None;
        for client in clients.iter().flatten() {
            let mut own = asked.iter().filter(|look| look.client == *client).peekable();
            let oldest = own.peek().map(|look| left(look));
            if own.count() < share {
                let client = client.clone();
                asked.push_back(LookUp { at: now, tag: tag.clone(), client, outcome: LookUpOutcome::Found });
                return Ok(());
            }
            until = until.into_iter().chain(oldest).min();
        }
        let what = format!("{share} tags were looked up as revisions for one client");
        Err(over(tag, what, until.unwrap_or(WINDOW)))
    }

    /// Notes that a tag that was looked up is no revision of the source.
    pub(super) fn is_missing(&self, tag: &Tag, now: Instant) {
        for look in self.asked(now).iter_mut().filter(|look| look.tag == *tag) {
            look.outcome = LookUpOutcome::Missing;
        }
    }

    /// Notes that the source could not be asked for a tag.
    pub(super) fn has_failed(&self, tag: &Tag, now: Instant) {
        if let Some(look) = self.asked(now).iter_mut().rfind(|look| look.tag == *tag) {
            look.outcome = LookUpOutcome::Failed;
        }
    }

    /// How long a tag that led nowhere is not tried again. If there is no such revision, it is longer each time: a wrong
    /// tag that a cluster asks for again and again would use up the hour.
    pub(super) fn rest(&self, tag: &Tag, once: Duration, now: Instant) -> Duration {
        let outcomes: Vec<LookUpOutcome> =
            self.asked(now).iter().filter(|look| look.tag == *tag).map(|look| look.outcome).collect();
        if outcomes.last() != Some(&LookUpOutcome::Missing) {
            return once;
        }
        let misses = outcomes.iter().filter(|outcome| **outcome == LookUpOutcome::Missing).count();
        let doubled = u32::try_from(misses.saturating_sub(1)).ok().and_then(|n| 1u32.checked_shl(n));
        once.saturating_mul(doubled.unwrap_or(u32::MAX)).min(MAX_REST.max(once))
    }

    /// Those of the last hour, the oldest first.
    fn asked(&self, now: Instant) -> MutexGuard<'_, VecDeque<LookUp>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while asked.front().is_some_and(|look| now.saturating_duration_since(look.at) >= WINDOW) {
            asked.pop_front();
        }
        asked
    }
}

fn over(tag: &Tag, what: String, retry_after: Duration) -> RegistryError {
    RegistryError::OverLimit {
        message: format!(
            "{tag} is not looked up: {what} within an hour (MAX_REVISIONS); try again in {} min",
            retry_after.as_secs().div_ceil(60)
        ),
        retry_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn client(name: &str) -> Option<Client> {
        Some(Client::User(Arc::from(name)))
    }

    fn tag(n: usize) -> Tag {
        format!("v{n}").parse().unwrap()
    }

    fn retry_after(result: Result<()>) -> Option<Duration> {
        match result {
            Ok(()) => None,
            Err(RegistryError::OverLimit { retry_after, .. }) => Some(retry_after),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn one_client_uses_up_half_and_all_together_no_more_than_the_limit() {
        let (look_ups, begin) = (LookUps::new(Some(4), &[Remote::Forge]), Instant::now());
        let at = |minutes: u64| begin + Duration::from_secs(60 * minutes);
        let minutes = |n: u64| Some(Duration::from_secs(60 * n));
        let look = |n, who: &str, now| retry_after(look_ups.begin(&tag(n), &[client(who)], now));
        assert_eq!((look(1, "a", at(0)), look(2, "a", at(10))), (None, None));
        assert_eq!(look(3, "a", at(20)), minutes(40));
        assert_eq!(look(1, "a", at(20)), None, "it is known");
        assert_eq!(look(3, "b", at(20)), None);
        assert_eq!(look(3, "a", at(20)), None, "whoever has found it");
        // Of several it counts for one that has some left.
        assert_eq!(retry_after(look_ups.begin(&tag(4), &[client("a"), client("b")], at(20))), None);
        assert_eq!(look(5, "c", at(30)), minutes(30));
        assert_eq!(
            retry_after(look_ups.begin(&tag(5), &[None], at(30))),
            None,
            "the operator is not counted"
        );
        assert_eq!(look(5, "c", at(60)), None);
        assert_eq!(look_ups.asked(at(60)).len(), 4);
    }

    #[test]
    fn a_tag_that_is_missing_counts_each_time_and_rests_longer_each_time() {
        let (look_ups, now) = (LookUps::new(Some(100), &[]), Instant::now());
        let once = Duration::from_secs(10);
        assert_eq!(look_ups.rest(&tag(1), once, now), once, "it was never looked up");
        for seconds in [10, 20, 40, 80, 160, 300, 300, 300, 300, 300, 300] {
            look_ups.begin(&tag(1), &[client("a")], now).unwrap();
            look_ups.is_missing(&tag(1), now);
            assert_eq!(look_ups.rest(&tag(1), once, now), Duration::from_secs(seconds));
        }
        assert_eq!(look_ups.asked(now).len(), 11);
        assert_eq!(look_ups.rest(&tag(2), once, now), once);
        assert_eq!(look_ups.rest(&tag(1), Duration::ZERO, now), Duration::ZERO);
        assert_eq!(look_ups.rest(&tag(1), 2 * WINDOW, now), 2 * WINDOW);
    }

    #[test]
    fn a_source_that_cannot_be_asked_says_nothing_of_a_tag() {
        let (look_ups, now) = (LookUps::new(Some(4), &[]), Instant::now());
        let once = Duration::from_secs(10);
        let look = |who: &str| retry_after(look_ups.begin(&tag(1), &[client(who)], now));
        for _ in 0..2 {
            assert_eq!(look("a"), None);
            look_ups.has_failed(&tag(1), now);
            assert_eq!(look_ups.rest(&tag(1), once, now), once);
        }
        assert!(look("a").is_some(), "each attempt counts");
        assert_eq!(look("b"), None);
        assert_eq!(look_ups.rest(&tag(1), once, now), once, "a name that it has not");
        assert_eq!(look("a"), None, "it was found");
    }

    #[test]
    fn the_default_depends_on_who_is_asked() {
        use Remote::{Forge, Git};
        for (set, sources, max) in [
            (None, &[][..], 0),
            (None, &[Git], 1000),
            (None, &[Forge], 50),
            (None, &[Git, Forge], 25),
            (Some(0), &[Forge], 0),
            (Some(1), &[Forge, Forge], 1),
            (Some(7), &[], 7),
        ] {
            assert_eq!(LookUps::new(set, sources).max, max, "{set:?} {sources:?}");
        }
    }
}
