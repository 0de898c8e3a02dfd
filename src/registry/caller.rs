//! On whose behalf something is done: whether they may have it built, and whom it counts for.

use super::{Registry, RegistryError, Result};
use crate::access::{Client, Share, Shares};
use std::time::Duration;

tokio::task_local! {
    /// Whom the work that this task does counts for. Not an argument, since all that passes it on would be
    /// [`Flights`](super::Flights) that wait for others.
    static CLIENT: Option<Client>;
}

/// What a client does when it is asked to come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It comes back by itself, and may not wait for an answer for long.
    ComesBack,
    /// It gives up, but waits for an answer for as long as that takes.
    AsksOnce,
}

/// Who wants something of the registry.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whether it comes back.
    pub patience: Patience,
    /// Whether things may be evaluated and built for it. If not, it gets what is there.
    pub may_build: bool,
    /// Whom evaluations and builds count for; nobody for the operator.
    pub client: Option<Client>,
}

impl Caller {
    /// Whoever runs the registry: may do everything, waits for it, and is not counted.
    pub fn operator() -> Self {
        Self { patience: Patience::AsksOnce, may_build: true, client: None }
    }
}

/// What each client has of the registry's work at a time.
#[derive(Debug)]
pub(super) struct Clients {
    evaluations: Shares<Client>,
    builds: Shares<Client>,
}

impl Clients {
    pub(super) fn new(max_evaluations: usize, max_builds: usize) -> Self {
        Self { evaluations: Shares::new(max_evaluations), builds: Shares::new(max_builds) }
    }

    /// A place among the evaluations of whoever the work is for.
    pub(super) fn evaluation(&self) -> Result<Share<Client>> {
        let overloaded = |max| RegistryError::Overloaded {
            message: format!(
                "a client may have {max} evaluations running or waiting (MAX_CLIENT_EVALUATIONS), try again later"
            ),
            retry_after: Duration::from_secs(5),
        };
        self.evaluations.take(current()).ok_or_else(|| overloaded(self.evaluations.max().unwrap_or_default()))
    }

    /// A place among the builds of whoever the work is for.
    pub(super) fn build(&self) -> Result<Share<Client>> {
        let overloaded = |max| RegistryError::Overloaded {
            message: format!(
                "a client may have {max} builds running or waiting (MAX_CLIENT_BUILDS), try again later"
            ),
            retry_after: Duration::from_secs(30),
        };
        self.builds.take(current()).ok_or_else(|| overloaded(self.builds.max().unwrap_or_default()))
    }
}

/// Whom the work that runs here counts for.
pub(super) fn current() -> Option<Client> {
    CLIENT.try_with(Clone::clone).ok().flatten()
}

/// Has work count for a client.
pub(super) async fn counted<T>(client: Option<Client>, work: impl Future<Output = T>) -> T {
    CLIENT.scope(client, work).await
}

impl Caller {
    /// Has all work that is begun by this count for the caller.
    pub(super) fn begin<T>(&self, begin: impl FnOnce() -> T) -> T {
        CLIENT.sync_scope(self.client.clone(), begin)
    }
}

impl Registry {
    /// How long a request may wait.
    pub(super) fn wait_of(&self, caller: &Caller) -> Duration {
        match caller.patience {
            Patience::ComesBack => self.settings.pull_wait,
            Patience::AsksOnce => self.settings.pull_wait_once,
        }
    }
}
