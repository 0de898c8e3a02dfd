//! What reading one image may cost the registry, whatever its bytes say: memory and time.
//!
//! A reading has one budget, which all its threads share. Code that allocates by what foreign bytes say charges that here
//! first: [`Budget::charge`] for what lives as long as the reading, [`Budget::hold`] for what goes earlier. What
//! does not depend on them (buffers of a fixed size, a thread's stack) is not counted.
//!
//! Time has two parts, because a large image on a slow disk is not an attack. The processor time of work that is not
//! proportional to the bytes of the image is counted by itself and has a tight limit; the time on the clock has a wide one.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How much there is. The defaults fit every image that clients can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes of memory, `MAX_READING_MEMORY`; 512 MiB.
    pub memory: u64,
    /// Processor time for compiling and matching expressions, `MAX_MATCHING_TIME`; a minute.
    pub matching: Duration,
    /// Time on the clock, `MAX_READING_TIME`; six hours, in which a slow disk reads the largest image at 3 MB/s.
    pub time: Duration,
    /// Bytes that all decompression may yield, `MAX_IMAGE_BYTES`; 64 GiB.
    pub unpacked: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            matching: Duration::from_secs(60),
            time: Duration::from_secs(6 * 3600),
            unpacked: 64 << 30,
        }
    }
}

/// Which part of the budget is used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetExceeded {
    /// Memory.
    #[error(
        "{what} would need more memory than the {limit} bytes that MAX_READING_MEMORY allows for reading one image"
    )]
    Memory {
        /// What it was needed for.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// Expressions.
    #[error(
        "compiling and matching its expressions takes more than {} s of processor time, which is what \
         MAX_MATCHING_TIME allows", .0.as_secs()
    )]
    Matching(Duration),
    /// The clock.
    #[error("reading it takes more than {} s, which is what MAX_READING_TIME allows", .0.as_secs())]
    Time(Duration),
    /// Decompressed bytes.
    #[error("it unpacks to more than {0} bytes, which is what MAX_IMAGE_BYTES allows")]
    Unpacked(u64),
}

/// The budget of one reading.
#[derive(Debug)]
pub struct Budget {
    allowed: Allowance,
    began: Instant,
    memory: AtomicU64,
    /// In nanoseconds.
    matching: AtomicU64,
    unpacked: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Allowance::default())
    }
}

impl Budget {
    /// A budget of which nothing is used. The clock starts now.
    pub fn new(allowed: Allowance) -> Self {
        let (memory, matching, unpacked) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { allowed, began: Instant::now(), memory, matching, unpacked }
    }

    /// Takes memory for the rest of the reading.
    pub fn charge(&self, bytes: u64, what: &'static str) -> Result<(), BudgetExceeded> {
        let limit = self.allowed.memory;
        let add = |used: u64| used.checked_add(bytes).filter(|used| *used <= limit);
        match self.memory.fetch_update(Relaxed, Relaxed, add) {
            Ok(_) => Ok(()),
            Err(_) => Err(BudgetExceeded::Memory { what, limit }),
        }
    }

    /// Takes memory until the result is dropped.
    pub fn hold(&self, bytes: u64, what: &'static str) -> Result<Held<'_>, BudgetExceeded> {
        let mut held = Held { budget: self, bytes: 0, what };
        held.grow(bytes)?;
        Ok(held)
    }

    /// How many threads that need so much memory each may run at a time: as many as wanted, if there is memory for them, but
    /// at least one, whose own charge says whether there is enough.
    pub fn threads(&self, wanted: NonZeroUsize, bytes: u64) -> NonZeroUsize {
        let left = self.allowed.memory.saturating_sub(self.memory.load(Relaxed));
        let fit = usize::try_from(left / bytes.max(1)).unwrap_or(usize::MAX);
        NonZeroUsize::new(fit).map_or(NonZeroUsize::MIN, |fit| fit.min(wanted))
    }

    /// An error once the reading has taken too long. Cheap enough to be asked for every chunk and every file.
    pub fn in_time(&self) -> Result<(), BudgetExceeded> {
        match self.began.elapsed() > self.allowed.time {
            true => Err(BudgetExceeded::Time(self.allowed.time)),
            false => Ok(()),
        }
    }

    /// Counts processor time that expressions took.
    pub fn matched(&self, time: Duration) -> Result<(), BudgetExceeded> {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let before = self.matching.fetch_add(nanoseconds, Relaxed);
        match u128::from(before) + u128::from(nanoseconds) > self.allowed.matching.as_nanos() {
            true => Err(BudgetExceeded::Matching(self.allowed.matching)),
            false => self.in_time(),
        }
    }

    /// Counts bytes that a decoder has yielded.
    pub fn unpacked(&self, bytes: u64) -> Result<(), BudgetExceeded> {
        match self.unpacked.fetch_add(bytes, Relaxed).saturating_add(bytes) > self.allowed.unpacked {
            true => Err(BudgetExceeded::Unpacked(self.allowed.unpacked)),
            false => self.in_time(),
        }
    }
}

/// Memory that is given back when this is dropped.
#[derive(Debug)]
pub struct Held<'b> {
    budget: &'b Budget,
    bytes: u64,
    what: &'static str,
}

impl Held<'_> {
    /// Takes more.
    pub fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.budget.charge(bytes, self.what)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Leaves it charged for the rest of the reading.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.memory.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(memory: u64) -> Budget {
        let (matching, time) = (Duration::from_secs(1), Duration::from_secs(3600));
        Budget::new(Allowance { memory, matching, time, unpacked: 100 })
    }

    #[test]
    fn memory_that_is_held_comes_back_and_what_is_charged_does_not() {
        let budget = budget(100);
        budget.charge(40, "names").unwrap();
        let mut held = budget.hold(50, "a window").unwrap();
        held.grow(10).unwrap();
        assert!(held.grow(1).is_err() && budget.charge(1, "names").is_err());
        drop(held);
        budget.hold(20, "JSON").unwrap().keep();
        let error = budget.hold(41, "a window").unwrap_err().to_string();
        assert!(error.contains("a window") && error.contains("100 bytes that MAX_READING_MEMORY"), "{error}");
        budget.charge(40, "names").unwrap();
        assert!(budget.charge(u64::MAX, "names").is_err());
    }

    #[test]
    fn as_many_threads_run_as_there_is_memory_for_but_at_least_one() {
        let (budget, four) = (budget(100), NonZeroUsize::new(4).unwrap());
        for (bytes, threads) in [(0, 4), (25, 4), (26, 3), (60, 1), (1000, 1)] {
            assert_eq!(budget.threads(four, bytes).get(), threads, "{bytes}");
        }
    }

    #[test]
    fn time_and_unpacked_bytes_add_up() {
        let budget = budget(0);
        budget.matched(Duration::from_millis(900)).unwrap();
        assert_eq!(
            budget.matched(Duration::from_millis(101)),
            Err(BudgetExceeded::Matching(Duration::from_secs(1)))
        );
        budget.unpacked(100).unwrap();
        assert_eq!(budget.unpacked(1), Err(BudgetExceeded::Unpacked(100)));
        let over = Budget::new(Allowance { time: Duration::ZERO, ..budget.allowed });
        std::thread::yield_now();
        assert!(matches!(over.in_time(), Err(BudgetExceeded::Time(_))));
    }
}
