//! Wrong credentials by address, and the users known there.
//!
//! A wrong claim counts once, however often it is repeated: a stale secret that a node sends with every request is one
//! guess. After [`max`](Attempts::new) distinct ones within the window the address is blocked: no claim from it is
//! checked any more, so no guess is confirmed.
//!
//! Users who logged in from that address before still pass. Otherwise one node with enough stale secrets would lock out
//! everything behind the same NAT. For a guesser behind the same address, though, that alone would confirm guesses
//! without limit, since only the right one passes. So during a block, claims for such a user count against the user; after
//! `max` distinct ones the user is blocked at this address as well.
//!
//! Claims are remembered as keyed hashes. Right ones are kept apart, where wrong ones cannot evict them.

use super::Source;
use lru::LruCache;
use std::{
    collections::VecDeque,
    num::{NonZeroU32, NonZeroUsize},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A user name and secret as presented, by keyed hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// Of the user name, which is empty for a bearer token.
    pub(super) user: [u8; 32],
    /// Of user name and secret.
    pub(super) whole: [u8; 32],
}

/// What is known of a claim without checking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Right, and it came from there before: the user's name.
    Right(Arc<str>),
    /// Wrong, and it came from there before.
    Wrong,
    /// Not to be checked for this long.
    Blocked(Duration),
    /// To be checked.
    Unknown,
}

/// Right and wrong claims by where they come from.
#[derive(Debug)]
pub(super) struct Attempts {
    limits: Limits,
    memory: Mutex<Memory>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    max: u32,
    window: Duration,
    /// Wrong claims to remember of one address. More than `max` if that is small: then the stale secrets behind a busy
    /// address count in one window each, instead of blocking it in every window.
    kept: usize,
}

#[derive(Debug)]
struct Memory {
    /// By source; the least recently wrong is evicted first.
    wrong: LruCache<Source, Tally>,
    /// By source and hash of the user name.
    right: LruCache<(Source, [u8; 32]), Right>,
}

#[derive(Debug)]
struct Right {
    whole: [u8; 32],
    name: Arc<str>,
    /// Other claims for this user from the same source.
    others: Tally,
}

/// Distinct claims, remembered beyond the window in which they counted.
#[derive(Debug, Default)]
struct Tally {
    since: Option<Instant>,
    count: u32,
    /// The first half of each hash, latest last.
    claims: VecDeque<[u8; 16]>,
}

fn half(claim: &Claim) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&claim.whole[..16]);
    half
}

impl Tally {
    fn knows(&self, claim: &Claim) -> bool {
        self.claims.contains(&half(claim))
    }

    /// What is left of the window.
    fn left(&self, now: Instant, limits: Limits) -> Option<Duration> {
        let age = now.saturating_duration_since(self.since?);
        limits.window.checked_sub(age).filter(|left| !left.is_zero())
    }

    fn blocked(&self, now: Instant, limits: Limits) -> Option<Duration> {
        self.left(now, limits).filter(|_| self.count >= limits.max)
    }

    fn add(&mut self, claim: &Claim, now: Instant, limits: Limits) {
        if self.knows(claim) {
            return;
        }
        if self.left(now, limits).is_none() {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
        self.claims.push_back(half(claim));
        if self.claims.len() > limits.kept {
            self.claims.pop_front();
        }
    }
}

impl Attempts {
    /// At most `max` distinct wrong claims from one source within the window. Remembers wrong claims of `capacity`
    /// sources, and as many pairs of source and user.
    pub(super) fn new(max: NonZeroU32, window: Duration, capacity: NonZeroUsize) -> Self {
        let kept = max.get().clamp(64, 1024) as usize;
        let (wrong, right) = (LruCache::new(capacity), LruCache::new(capacity));
        Self { limits: Limits { max: max.get(), window, kept }, memory: Mutex::new(Memory { wrong, right }) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the claim. During a block it counts against a user known there.
    pub(super) fn look(&self, source: Source, claim: &Claim, now: Instant) -> Verdict {
        let (source, limits) = (source.group(), self.limits);
        let Memory { wrong, right } = &mut *self.memory();
        // Peek: asking must not refresh it.
        let tally = wrong.peek(&source);
        let blocked = tally.and_then(|tally| tally.blocked(now, limits));
        let here = (source, claim.user);
        if let Some(user) = right.peek_mut(&here) {
            let passes = blocked.is_none() || user.others.blocked(now, limits).is_none();
            if user.whole != claim.whole {
                if blocked.is_some() {
                    user.others.add(claim, now, limits);
                }
            } else if passes {
                let name = user.name.clone();
                right.promote(&here);
                return Verdict::Right(name);
            }
        }
        match (blocked, tally) {
            // Not even that it is known to be wrong: that would confirm what another client behind the address sent.
            (Some(left), _) => Verdict::Blocked(left),
            (None, Some(tally)) if tally.knows(claim) => Verdict::Wrong,
            (None, _) => Verdict::Unknown,
        }
    }

    /// The claim was checked and is wrong.
    pub(super) fn failed(&self, source: Source, claim: &Claim, now: Instant) {
        let source = source.group();
        let Memory { wrong, right } = &mut *self.memory();
        wrong.get_or_insert_mut(source, Tally::default).add(claim, now, self.limits);
        if let Some(user) = right.peek_mut(&(source, claim.user)) {
            user.others.add(claim, now, self.limits);
        }
    }

    /// The claim is right, and this is the user's name.
    pub(super) fn succeeded(&self, source: Source, claim: &Claim, name: Arc<str>) {
        let new = || Right { whole: claim.whole, name, others: Tally::default() };
        let mut memory = self.memory();
        memory.right.get_or_insert_mut((source.group(), claim.user), new).whole = claim.whole;
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

    fn claim(user: u8, secret: u8) -> Claim {
        let mut whole = [secret; 32];
        whole[0] = user;
        Claim { user: [user; 32], whole }
    }

    const ALICE: u8 = 1;
    const BOB: u8 = 2;
    const EVE: u8 = 3;

    /// Checks each claim, and finds it wrong.
    fn guess(attempts: &Attempts, source: Source, guesses: impl IntoIterator<Item = Claim>, now: Instant) {
        for claim in guesses {
            assert_eq!(attempts.look(source, &claim, now), Verdict::Unknown);
            attempts.failed(source, &claim, now);
        }
    }

    #[test]
    fn an_address_with_too_many_wrong_claims_is_not_listened_to_until_the_window_has_passed() {
        let (attempts, here) = (attempts(10), source("192.0.2.1"));
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        for second in 0..3 {
            guess(&attempts, here, [claim(EVE, second)], after(second.into()));
        }
        let look = |source, claim, seconds| attempts.look(source, &claim, after(seconds));
        let left = Verdict::Blocked(Duration::from_secs(50));
        // A claim known to be wrong gets the same answer as any other.
        assert_eq!((look(here, claim(EVE, 0), 10), look(here, claim(EVE, 9), 10)), (left.clone(), left));
        assert_eq!(look(source("192.0.2.2"), claim(EVE, 0), 10), Verdict::Unknown);
        assert_eq!(look(Source::Unix, claim(EVE, 0), 10), Verdict::Unknown);
        assert_eq!(look(here, claim(EVE, 9), 60), Verdict::Unknown);
        // A new window.
        attempts.failed(here, &claim(EVE, 9), after(61));
        assert_eq!(look(here, claim(EVE, 10), 62), Verdict::Unknown);
    }

    #[test]
    fn a_wrong_claim_counts_once_and_in_no_later_window() {
        let (attempts, here, begin) = (attempts(10), source("192.0.2.1"), Instant::now());
        for round in 0..100 {
            let now = begin + round * WINDOW / 2;
            attempts.failed(here, &claim(ALICE, 0), now);
            attempts.failed(here, &claim(BOB, 0), now);
            assert_eq!(attempts.look(here, &claim(ALICE, 0), now), Verdict::Wrong);
            assert_eq!(attempts.look(here, &claim(ALICE, 1), now), Verdict::Unknown);
        }
        // Nine stale secrets block the address in three windows, and never again.
        let stale = |n| claim(EVE, n);
        let windows = (0..9).map(|n| (n, begin + WINDOW * (100 + u32::from(n) / 3)));
        windows.for_each(|(n, now)| attempts.failed(here, &stale(n), now));
        let now = begin + 200 * WINDOW;
        for n in 0..9 {
            assert_eq!(attempts.look(here, &stale(n), now), Verdict::Wrong);
            attempts.failed(here, &stale(n), now);
        }
        assert_eq!(attempts.look(here, &claim(ALICE, 1), now), Verdict::Unknown);
    }

    #[test]
    fn a_user_known_there_passes_whatever_others_got_wrong() {
        let (attempts, here, now) = (attempts(10), source("192.0.2.1"), Instant::now());
        attempts.succeeded(here, &claim(ALICE, 7), "alice".into());
        guess(&attempts, here, (0..3).map(|n| claim(EVE, n)), now);
        assert_eq!(attempts.look(here, &claim(ALICE, 7), now), Verdict::Right("alice".into()));
        // Right, but only from elsewhere.
        attempts.succeeded(source("192.0.2.2"), &claim(BOB, 7), "bob".into());
        assert_eq!(attempts.look(here, &claim(BOB, 7), now), Verdict::Blocked(WINDOW));
    }

    #[test]
    fn a_block_confirms_no_more_guesses_at_one_user_than_there_may_be_without() {
        let (attempts, here, now) = (attempts(10), source("192.0.2.1"), Instant::now());
        attempts.succeeded(here, &claim(ALICE, 7), "alice".into());
        attempts.succeeded(here, &claim(BOB, 7), "bob".into());
        // One of these is already a guess at alice.
        guess(&attempts, here, [claim(EVE, 0), claim(EVE, 1), claim(ALICE, 0)], now);
        let right = || attempts.look(here, &claim(ALICE, 7), now);
        for n in [0, 1, 1, 0, 1] {
            assert_eq!(attempts.look(here, &claim(ALICE, n), now), Verdict::Blocked(WINDOW));
            assert_eq!(right(), Verdict::Right("alice".into()));
        }
        assert_eq!(attempts.look(here, &claim(ALICE, 2), now), Verdict::Blocked(WINDOW));
        assert_eq!(right(), Verdict::Blocked(WINDOW));
        assert_eq!(attempts.look(here, &claim(BOB, 7), now), Verdict::Right("bob".into()));
        assert_eq!(attempts.look(here, &claim(ALICE, 7), now + WINDOW), Verdict::Right("alice".into()));
    }

    #[test]
    fn a_network_of_64_bits_is_one_source() {
        let (attempts, now) = (attempts(10), Instant::now());
        for n in 0..3 {
            guess(&attempts, source(&format!("2001:db8::{n}")), [claim(EVE, n)], now);
        }
        let look = |address| attempts.look(source(address), &claim(EVE, 9), now);
        assert_eq!(look("2001:db8::ffff:0:1"), Verdict::Blocked(WINDOW));
        assert_eq!(look("2001:db8:0:1::"), Verdict::Unknown);
    }

    #[test]
    fn no_more_is_remembered_than_may_be_and_wrong_claims_evict_no_right_ones() {
        let (attempts, now) = (attempts(2), Instant::now());
        let here = source("192.0.2.1");
        attempts.succeeded(here, &claim(ALICE, 7), "alice".into());
        for n in 0..100 {
            attempts.failed(source(&format!("192.0.2.{n}")), &claim(ALICE, 0), now);
            for secret in 100..200 {
                attempts.failed(here, &claim(ALICE, secret), now);
            }
        }
        assert_eq!(attempts.look(here, &claim(ALICE, 7), now + WINDOW), Verdict::Right("alice".into()));
        for n in 0..100 {
            attempts.succeeded(source(&format!("192.0.2.{n}")), &claim(BOB, 7), "bob".into());
        }
        let memory = attempts.memory();
        assert_eq!((memory.wrong.len(), memory.right.len()), (2, 2));
        assert!(memory.wrong.iter().all(|(_, tally)| tally.claims.len() <= 64));
    }
}
