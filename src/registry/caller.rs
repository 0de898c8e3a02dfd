//! On whose behalf something is done: whether they may have it built, and whom it counts for.

use super::{Registry, work::Behalf};
use crate::access::Client;
use std::time::Duration;

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

    /// For whom shared work is done that this caller asks for.
    pub(super) fn behalf(&self) -> Behalf {
        Behalf::Client(self.client.clone())
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
