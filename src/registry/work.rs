//! What is being done for whoever waits, step by step: so that they can be told the truth about it.

use crate::{image::ReadProgress, nix::BuildProgress};
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

tokio::task_local! {
    /// The work that this task does. Not an argument, since all that passes it on would be [`Flights`](super::Flights)
    /// that wait for others.
    static WORK: Arc<Work>;
}

/// A piece of shared work, with whatever it waits for.
#[derive(Debug, Default)]
pub struct Work {
    parts: Mutex<Vec<Part>>,
}

#[derive(Debug)]
enum Part {
    Step(Arc<Step>),
    Work(Arc<Work>),
}

/// A step on the way to an image.
#[derive(Debug)]
pub struct Step {
    /// Which one.
    pub task: Task,
    queued: Instant,
    begun: OnceLock<Instant>,
    finished: OnceLock<Instant>,
}

/// What a step does.
#[derive(Debug)]
pub enum Task {
    /// Finding out what a name means.
    Evaluating,
    /// Building, or fetching what has been built.
    Building(Arc<BuildProgress>),
    /// Reading and hashing the image.
    Reading(Arc<ReadProgress>),
}

impl Work {
    /// All steps, the first first. Only the last can be unfinished, unless one failed and another way was tried.
    pub fn steps(&self) -> Vec<Arc<Step>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().fold(Vec::new(), |mut steps, part| {
            match part {
                Part::Step(step) => steps.push(step.clone()),
                Part::Work(work) => steps.extend(work.steps()),
            }
            steps
        })
    }

    fn add(&self, part: Part) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    }

    /// Runs `future` as this work.
    pub(super) async fn run<T>(self: Arc<Self>, future: impl Future<Output = T>) -> T {
        WORK.scope(self, future).await
    }

    /// The work that runs here waits for this one.
    pub(super) fn is_awaited(self: &Arc<Self>) {
        // Else it is a request that waits, which has no steps of its own.
        let _ = WORK.try_with(|work| work.add(Part::Work(self.clone())));
    }

    /// What there is to say to those who do not want to wait any longer.
    pub(super) fn describe(&self) -> String {
        let Some(step) = self.steps().pop() else { return "the image is still being looked for".into() };
        let (done, doing) = match step.task {
            Task::Evaluating => ("evaluated", "evaluation"),
            Task::Building(_) => ("built", "build"),
            Task::Reading(_) => ("read", "reading"),
        };
        let seconds = step.took().as_secs();
        match step.begun.get() {
            None => format!(
                "the image waits for its turn to be {done}, for {seconds} s so far; it keeps its place"
            ),
            Some(_) => {
                format!("the image is still being {done}, for {seconds} s so far; the {doing} goes on")
            }
        }
    }
}

impl Step {
    /// A step of the work that runs here; it waits for its turn.
    pub(super) fn queue(task: Task) -> Arc<Self> {
        let step = Arc::new(Self {
            task,
            queued: Instant::now(),
            begun: OnceLock::new(),
            finished: OnceLock::new(),
        });
        let _ = WORK.try_with(|work| work.add(Part::Step(step.clone())));
        step
    }

    /// Its turn has come.
    pub(super) fn begin(&self) {
        let _ = self.begun.set(Instant::now());
    }

    /// It has succeeded.
    pub(super) fn finish(&self) {
        let _ = self.finished.set(Instant::now());
    }

    /// Whether it waits for its turn.
    pub fn is_queued(&self) -> bool {
        self.begun.get().is_none()
    }

    /// Whether it has succeeded.
    pub fn is_finished(&self) -> bool {
        self.finished.get().is_some()
    }

    /// How long it took, or has taken so far; until its turn has come, how long it has waited for it.
    pub fn took(&self) -> Duration {
        let since = self.begun.get().unwrap_or(&self.queued);
        self.finished.get().map_or_else(|| since.elapsed(), |finished| finished.duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_told_what_for() {
        let (outer, inner) = (Arc::new(Work::default()), Arc::new(Work::default()));
        assert_eq!(outer.describe(), "the image is still being looked for");
        outer
            .clone()
            .run(async {
                let step = Step::queue(Task::Evaluating);
                assert!(
                    outer.describe().contains("waits for its turn to be evaluated"),
                    "{}",
                    outer.describe()
                );
                step.begin();
                assert!(outer.describe().contains("still being evaluated"), "{}", outer.describe());
                step.finish();
                inner.is_awaited();
            })
            .await;
        assert_eq!(outer.steps().len(), 1);
        // Work that has been joined, and goes on for somebody else.
        inner.clone().run(async { Step::queue(Task::Building(Arc::default())).begin() }).await;
        for work in [&inner, &outer] {
            assert!(work.describe().contains("still being built"), "{}", work.describe());
        }
        assert_eq!(outer.steps().len(), 2);
        // Outside of shared work there is nobody to be told.
        Step::queue(Task::Evaluating).finish();
    }
}
