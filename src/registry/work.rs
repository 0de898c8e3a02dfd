//! Shared work: what is being done, step by step, so that clients can be told the truth about it; and which clients it is
//! for, so that it waits for its turn in the queue of each.

use crate::{
    access::{Claim, Client, Gate, Refused, Ticket},
    image::ReadProgress,
    nix::BuildProgress,
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// Clients of one piece of work that are told apart. With so many its turn comes soon enough.
const MAX_CLIENTS: usize = 1024;

tokio::task_local! {
    /// The work that this task does. Not an argument, since all that passes it on would be [`Flights`](super::Flights)
    /// that wait for others.
    static WORK: Arc<Work>;
}

/// A piece of shared work, with whatever it waits for.
#[derive(Debug, Default)]
pub struct Work {
    state: Mutex<State>,
}

/// Work that it waits for inherits its clients.
#[derive(Debug, Default)]
struct State {
    parts: Vec<Part>,
    clients: HashSet<Option<Client>>,
    /// On its place in the queue that it joined last.
    claim: Option<Claim<Client>>,
}

/// For whom a piece of work is wanted.
#[derive(Debug, Clone)]
pub(super) enum Behalf {
    /// A client, or nobody: the operator, and what the registry does by itself.
    Client(Option<Client>),
    /// All that the work is for which this task does.
    Work,
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
        let state = self.lock();
        state.parts.iter().fold(Vec::new(), |mut steps, part| {
            match part {
                Part::Step(step) => steps.push(step.clone()),
                Part::Work(work) => steps.extend(work.steps()),
            }
            steps
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `future` as this work.
    pub(super) async fn run<T>(self: Arc<Self>, future: impl Future<Output = T>) -> T {
        WORK.scope(self, future).await
    }

    /// From now on this is for these as well.
    pub(super) fn is_wanted_by(self: &Arc<Self>, behalf: &Behalf) {
        let clients = match behalf {
            Behalf::Client(client) => vec![client.clone()],
            Behalf::Work => match WORK.try_with(Clone::clone) {
                Ok(outer) => {
                    let mut outer = outer.lock();
                    outer.parts.push(Part::Work(self.clone()));
                    outer.clients.iter().cloned().collect()
                }
                Err(_) => vec![None],
            },
        };
        self.is_for(&clients);
    }

    fn is_for(&self, clients: &[Option<Client>]) {
        let mut state = self.lock();
        let mut new = Vec::new();
        for client in clients {
            if state.clients.len() < MAX_CLIENTS && state.clients.insert(client.clone()) {
                new.push(client.clone());
            }
        }
        if new.is_empty() {
            return;
        }
        let claim = state.claim.clone();
        let works = state.parts.iter().filter_map(|part| match part {
            Part::Work(work) => Some(work.clone()),
            Part::Step(_) => None,
        });
        let works: Vec<Arc<Self>> = works.collect();
        // Locks are taken from outer to inner work, one at a time, and a gate's last.
        drop(state);
        for client in &new {
            claim.iter().for_each(|claim| claim.also_for(client));
        }
        works.iter().for_each(|work| work.is_for(&new));
    }

    fn queue(
        &self,
        queue: impl FnOnce(&[Option<Client>]) -> Result<Ticket<Client>, Refused>,
    ) -> Result<Ticket<Client>, Refused> {
        let mut state = self.lock();
        let clients: Vec<_> = state.clients.iter().cloned().collect();
        let ticket = queue(&clients)?;
        state.claim = Some(ticket.claim());
        Ok(ticket)
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

/// A place in the gate's queue for the current work's clients, present and future.
pub(super) fn queue(gate: &Gate<Client>) -> Result<Ticket<Client>, Refused> {
    queue_by(|clients| gate.queue(clients))
}

/// The same for what has to be done alone.
pub(super) fn queue_alone(gate: &Gate<Client>) -> Result<Ticket<Client>, Refused> {
    queue_by(|clients| gate.queue_alone(clients))
}

fn queue_by(
    queue: impl FnOnce(&[Option<Client>]) -> Result<Ticket<Client>, Refused>,
) -> Result<Ticket<Client>, Refused> {
    match WORK.try_with(Clone::clone) {
        Ok(work) => work.queue(queue),
        Err(_) => queue(&[None]),
    }
}

/// The clients of the current work; `None` is the registry itself.
pub(super) fn clients() -> Vec<Option<Client>> {
    WORK.try_with(|work| work.lock().clients.iter().cloned().collect()).unwrap_or_else(|_| vec![None])
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
        let _ = WORK.try_with(|work| work.lock().parts.push(Part::Step(step.clone())));
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
                inner.is_wanted_by(&Behalf::Work);
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
