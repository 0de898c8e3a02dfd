//! How much to compress: as much as the client leaves time for.

use std::time::Duration;

/// From storing to the highest; see [`Costs`](Pace).
pub(super) const LEVELS: usize = 5;

/// Time that a response may take for its first chunks, before anything is known of its client: less than anybody
/// notices, and enough to compress what is small.
pub(super) const GRACE: f64 = 0.005;
/// Chunks whose time can be saved for one that takes longer.
const SAVED: f64 = 4.0;
/// How much a level that is not in use is taken to become cheaper with each chunk, so that it is tried again: what
/// comes next may be easier to compress.
const HOPE: f64 = 0.98;
/// The highest level for the first chunk; each further chunk may go one higher.
const FIRST: usize = 2;
/// What gets smaller by less than this part of itself is not worth the client's time to decode it.
const WORTH: usize = 16;
/// The most chunks that are stored untried after one that was not worth it.
const PAUSE: u32 = 7;

/// Chooses levels such that encoding keeps up with the client, or is at least as fast as a given rate.
///
/// It keeps an account of time. Each chunk adds what may be spent on it: the time in which the client takes so many
/// bytes, at least that of the given rate. The highest level that the account can pay is chosen. So between two levels,
/// of which one is too slow and the other faster than need be, chunks alternate.
#[derive(Debug)]
pub(super) struct Pace {
    /// Seconds a byte that may always be spent; infinite if there is no rate to keep.
    least: f64,
    /// Seconds a byte that the client takes.
    client: f64,
    /// Seconds a byte that each level takes; guessed until it has been used.
    costs: [f64; LEVELS],
    account: f64,
    /// What is in it at the beginning, and never has to be earned to be saved.
    grace: f64,
    /// The highest level for the next chunk.
    up_to: usize,
    /// How many chunks are to be stored after the next that is not worth compressing, and how many are left now.
    pause: (u32, u32),
}

impl Pace {
    /// Keeps `min_rate` bytes a second; with zero it always chooses the highest level. `costs` are guesses, in
    /// nanoseconds a byte; `grace` is in seconds.
    pub(super) fn new(min_rate: u64, costs: [f64; LEVELS], grace: f64) -> Self {
        Self {
            least: 1.0 / min_rate as f64,
            client: 0.0,
            costs: costs.map(|cost| cost / 1e9),
            account: grace,
            grace,
            up_to: FIRST,
            pause: (1, 0),
        }
    }

    /// The level for a chunk.
    pub(super) fn level(&mut self, bytes: usize) -> usize {
        let earned = bytes as f64 * self.least.max(self.client);
        self.account = (self.account + earned).min(SAVED * earned + self.grace);
        if self.pause.1 > 0 {
            self.pause.1 -= 1;
            return 0;
        }
        let paid = |level: &usize| self.costs[*level] * bytes as f64 <= self.account;
        let level = (1..=self.up_to).rev().find(paid).unwrap_or(0);
        self.up_to = (level + 1).min(LEVELS - 1);
        level
    }

    /// How long a chunk took at a level, and by how many bytes it got smaller.
    pub(super) fn spent(&mut self, level: usize, bytes: usize, time: Duration, gain: usize) {
        if level > 0 && gain >= bytes / WORTH {
            self.pause = (1, 0);
        } else if level > 0 {
            self.pause = ((2 * self.pause.0 + 1).min(PAUSE), self.pause.0);
        }
        let time = time.as_secs_f64();
        self.account -= time;
        let (measured, expected) = (time / bytes.max(1) as f64, self.costs[level]);
        // What is bad is believed at once.
        let cost = measured.max((measured + expected) / 2.0);
        self.costs[level] = cost;
        for higher in &mut self.costs[level + 1..] {
            *higher = (*higher * HOPE).max(cost);
        }
    }

    /// How long the client took for a chunk, of `bytes` before it was encoded.
    pub(super) fn taken(&mut self, bytes: usize, time: Duration) {
        let cost = time.as_secs_f64() / bytes.max(1) as f64;
        self.client += (cost - self.client) / 4.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: usize = 1 << 20;
    const GUESSES: [f64; LEVELS] = [0.2, 1.5, 2.5, 5.0, 12.0];

    /// The levels that 1000 chunks get, and the seconds that the encoder needs for them, where levels take `costs`
    /// nanoseconds a byte and the client takes `client`.
    fn simulate(min_rate: u64, costs: [f64; LEVELS], client: f64) -> (Vec<usize>, f64) {
        let mut pace = Pace::new(min_rate, GUESSES, GRACE);
        let (mut levels, mut busy) = (Vec::new(), 0.0);
        for _ in 0..1000 {
            let level = pace.level(CHUNK);
            let seconds = |cost: f64| CHUNK as f64 * cost / 1e9;
            pace.spent(level, CHUNK, Duration::from_secs_f64(seconds(costs[level])), CHUNK);
            pace.taken(CHUNK, Duration::from_secs_f64(seconds(client)));
            busy += seconds(costs[level]);
            levels.push(level);
        }
        (levels, busy)
    }

    #[test]
    fn a_slow_client_gets_the_highest_level_and_a_fast_one_nothing_that_would_hold_it_up() {
        let (levels, _) = simulate(1 << 30, GUESSES, 100.0);
        assert!(levels[10..].iter().all(|level| *level == LEVELS - 1), "{levels:?}");
        let (levels, _) = simulate(1 << 40, GUESSES, 0.0);
        assert!(levels[10..].iter().all(|level| *level == 0), "{levels:?}");
    }

    #[test]
    fn without_a_rate_to_keep_the_level_is_the_highest() {
        let (levels, _) = simulate(0, GUESSES, 0.0);
        assert!(levels[10..].iter().all(|level| *level == LEVELS - 1), "{levels:?}");
    }

    #[test]
    fn what_cannot_be_compressed_is_tried_less_and_less() {
        let mut pace = Pace::new(0, GUESSES, GRACE);
        let levels: Vec<usize> = (0..80)
            .map(|_| {
                let level = pace.level(CHUNK);
                pace.spent(level, CHUNK, Duration::from_millis(1), 0);
                level
            })
            .collect();
        assert_eq!(levels.iter().filter(|level| **level > 0).count(), 12, "{levels:?}");
        // Of what can be, all of it.
        let mut tried = 0;
        for _ in 0..100 {
            let level = pace.level(CHUNK);
            tried += usize::from(level > 0);
            pace.spent(level, CHUNK, Duration::from_millis(1), CHUNK / 2);
        }
        assert!(tried >= 100 - PAUSE as usize, "{tried}");
    }

    #[test]
    fn between_two_levels_chunks_alternate() {
        // Level 1 reaches 0.67 GB/s, storing 5.
        let (levels, _) = simulate(1_000_000_000, GUESSES, 0.0);
        let compressed = levels.iter().filter(|level| **level == 1).count();
        assert!((500..800).contains(&compressed), "{compressed}");
    }

    #[test]
    fn what_becomes_easier_is_compressed_again() {
        let mut pace = Pace::new(100 << 20, GUESSES, GRACE);
        for _ in 0..100 {
            let level = pace.level(CHUNK);
            pace.spent(level, CHUNK, Duration::from_millis(if level > 0 { 100 } else { 1 }), CHUNK);
        }
        let mut used = Vec::new();
        for _ in 0..500 {
            let level = pace.level(CHUNK);
            pace.spent(level, CHUNK, Duration::from_millis(1), CHUNK);
            used.push(level);
        }
        assert!(used.ends_with(&[LEVELS - 1; 100]), "{used:?}");
    }

    proptest! {
        #[test]
        fn the_encoder_keeps_the_rate_whatever_the_levels_cost(
            rate in 1u64 << 24..1 << 31,
            factors in proptest::array::uniform5(0.1..20.0f64),
            client in 0.0..50.0f64,
        ) {
            let mut costs = GUESSES;
            costs.iter_mut().zip(factors).for_each(|(cost, factor)| *cost *= factor);
            costs[0] = 0.2;
            let (_, busy) = simulate(rate, costs, client);
            // What the client itself does not take need not be kept.
            let may = 1000.0 * CHUNK as f64 * (client / 1e9).max(1.0 / rate as f64);
            let dearest = costs.iter().fold(0.0f64, |a, b| a.max(*b)) * CHUNK as f64 / 1e9;
            prop_assert!(busy < may + GRACE + dearest, "{busy} s instead of {may}");
        }
    }
}
