//! Work that waits for its turn, runs, and ends in one way or another.

use super::{
    WORK_SECONDS,
    labels::{OfOutcome, Outcome},
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{sync::OnceLock, time::Instant};

/// All work of one kind. Clones share it.
#[derive(Debug, Clone)]
pub struct Jobs {
    name: &'static str,
    what: &'static str,
    queued: Gauge,
    running: Gauge,
    ended: Family<OfOutcome, Counter>,
    seconds: Histogram,
    max_running: Gauge,
    max_queued: Gauge,
}

impl Jobs {
    /// None of it yet. `name` is in the singular.
    pub(super) fn new(name: &'static str, what: &'static str) -> Self {
        let ended = Family::<OfOutcome, Counter>::default();
        // An error that comes once has to be seen as an increase.
        for outcome in Outcome::ALL.iter().copied() {
            drop(ended.get_or_create(&OfOutcome { outcome }));
        }
        Self {
            name,
            what,
            queued: Gauge::default(),
            running: Gauge::default(),
            ended,
            seconds: Histogram::new(WORK_SECONDS),
            max_running: Gauge::default(),
            max_queued: Gauge::default(),
        }
    }

    /// How much of it may run, and wait, at a time.
    pub fn limit(&self, max_running: usize, max_queued: usize) {
        self.max_running.set(i64::try_from(max_running).unwrap_or(i64::MAX));
        self.max_queued.set(i64::try_from(max_queued).unwrap_or(i64::MAX));
    }

    /// A piece of work, which waits for its turn.
    pub fn queue(&self) -> Job {
        self.queued.inc();
        Job { jobs: self.clone(), begun: OnceLock::new(), ended: false }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let Self { name, what, .. } = self;
        let mut gauge = |suffix: &str, help: &str, gauge: &Gauge| {
            registry.register(format!("{name}s_{suffix}"), format!("{help}: {what}"), gauge.clone());
        };
        gauge("running", "Run now", &self.running);
        gauge("limit", "May run at a time", &self.max_running);
        gauge("queued", "Wait for their turn", &self.queued);
        gauge("queue_limit", "May wait before clients are sent away", &self.max_queued);
        registry.register(format!("{name}s"), format!("Have ended, and how: {what}"), self.ended.clone());
        registry.register_with_unit(
            format!("{name}_duration"),
            format!("Time from their turn to their end: {what}"),
            Unit::Seconds,
            self.seconds.clone(),
        );
    }
}

/// A piece of work. One that is dropped without an end has panicked.
#[derive(Debug)]
pub struct Job {
    jobs: Jobs,
    begun: OnceLock<Instant>,
    ended: bool,
}

impl Job {
    /// Its turn has come.
    pub fn begin(&self) {
        if self.begun.set(Instant::now()).is_ok() {
            self.jobs.queued.dec();
            self.jobs.running.inc();
        }
    }

    /// It has ended.
    pub fn end(mut self, outcome: Outcome) {
        self.note(outcome);
    }

    /// It turned out to be a part of other work.
    pub fn discard(mut self) {
        self.leave();
    }

    fn note(&mut self, outcome: Outcome) {
        self.jobs.ended.get_or_create(&OfOutcome { outcome }).inc();
        if let Some(begun) = self.begun.get() {
            self.jobs.seconds.observe(begun.elapsed().as_secs_f64());
        }
        self.leave();
    }

    fn leave(&mut self) {
        self.ended = true;
        match self.begun.get() {
            Some(_) => self.jobs.running.dec(),
            None => self.jobs.queued.dec(),
        };
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.ended {
            self.note(Outcome::Internal);
        }
    }
}
