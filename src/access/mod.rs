//! Access: who asks, what they may do, how much of it at a time, and whose turn it is.
//!
//! | room | what it knows |
//! |---|---|
//! | [`credentials`] | what a request says of who sends it (`Authorization`) |
//! | `htpasswd`, `tokens` | the files with users' passwords and with tokens |
//! | [`rules`] | which user may read or build which names |
//! | `policy` | the three files together, as they were when they were last read |
//! | `attempts` | wrong credentials by address, and the users known there |
//! | [`proxies`] | whose word is taken for where a request comes from |
//! | [`shares`] | how much one client has at a time |
//! | [`gate`] | turns by client: how much of something is done at a time, and for whom |
//! | [`tally`] | how often a client did something within a while |
//!
//! Nothing here knows what images there are: whether a name may be asked for is decided before it is looked up, so no
//! answer to somebody who may not see it can depend on whether it exists.

mod attempts;
pub mod credentials;
pub mod gate;
mod htpasswd;
mod lines;
mod policy;
pub mod proxies;
pub mod rules;
pub mod shares;
mod source;
pub mod tally;
mod tokens;

pub use credentials::Credentials;
pub use gate::{Claim, Gate, GateLimits, Place, Refused, Ticket};
pub use lines::AccessError;
pub use policy::{Counts, Files, Grant};
pub use proxies::Proxies;
pub use rules::{Identity, Right};
pub use shares::{Share, Shares};
pub use source::{Client, Source};
pub use tally::Tally;

use policy::Policy;
use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// How access is controlled; each field is a setting.
#[derive(Debug, Clone)]
pub struct AccessSettings {
    /// `AUTH_HTPASSWD`, `AUTH_TOKENS`, `AUTH_RULES`; without any of them there is no access control.
    pub files: Files,
    /// `AUTH_REALM`: what clients are told that they log in to.
    pub realm: String,
    /// Distinct wrong passwords or tokens from one address within the window (`AUTH_MAX_FAILURES`).
    pub max_failures: NonZeroU32,
    /// How long an address is blocked, from the first of them (`AUTH_FAILURE_WINDOW`).
    pub failure_window: Duration,
    /// Passwords that are checked at a time (`AUTH_MAX_CHECKS`).
    pub max_checks: NonZeroUsize,
    /// Passwords that wait to be checked (`AUTH_MAX_QUEUED_CHECKS`).
    pub max_queued_checks: usize,
    /// Addresses with failures, and passwords that were right, that are remembered at a time (`MAX_REMEMBERED`).
    pub max_remembered: NonZeroUsize,
}

/// Access control, switched on.
#[derive(Debug)]
pub struct Access {
    settings: AccessSettings,
    policy: RwLock<Arc<Policy>>,
    /// Turns at bcrypt, which takes a processor for a while; in turn by where they come from.
    checks: Gate<Source>,
}

/// Why it is not known who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// What the request says of its sender is not right, or cannot be read.
    Wrong,
    /// The address is blocked.
    TooManyFailures {
        /// When it may try again.
        retry_after: Duration,
    },
    /// Too many passwords wait to be checked.
    Busy,
}

impl Access {
    /// Reads the files. Blocks.
    pub fn open(settings: AccessSettings) -> Result<Self, AccessError> {
        let policy = Policy::load(&settings)?;
        Ok(Self {
            policy: RwLock::new(Arc::new(policy)),
            checks: Gate::new(GateLimits {
                places: settings.max_checks,
                waiting: settings.max_queued_checks,
                of_client: 0,
                // They are short.
                spare: false,
            }),
            settings,
        })
    }

    /// Reads the files again, all or none, and forgets which passwords were right or wrong, and with that every block.
    /// Blocks the thread.
    pub fn reload(&self) -> Result<Counts, AccessError> {
        let policy = Policy::load(&self.settings)?;
        let counts = policy.counts();
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        Ok(counts)
    }

    /// What was found in the files.
    pub fn counts(&self) -> Counts {
        self.policy().counts()
    }

    /// What clients are told that they log in to.
    pub fn realm(&self) -> &str {
        &self.settings.realm
    }

    /// Whether there is anything to log in with.
    pub fn has_logins(&self) -> bool {
        self.settings.files.htpasswd.is_some() || self.settings.files.tokens.is_some()
    }

    fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who asks, and with it what they may do, by the files as they are now.
    ///
    /// A password is compared by bcrypt once, and known again from then on, right or wrong. That happens on a thread of its
    /// own, and goes on if the client leaves: to break off does not keep a failure from being counted.
    pub async fn identify(&self, credentials: Credentials, source: Source) -> Result<Grant, Rejection> {
        let policy = self.policy();
        let (user, secret) = match credentials {
            Credentials::None | Credentials::Anonymous => return Ok(policy.grant(Identity::Anonymous)),
            Credentials::Unreadable => return Err(Rejection::Wrong),
            Credentials::Basic { user, password } => (Some(user), password),
            Credentials::Bearer(token) => (None, token),
        };
        // Tokens are too long and random to be guessed, so a right one passes even if its address is blocked.
        if let Some(name) = policy.tokens.find(&secret) {
            return Ok(policy.grant(Identity::User(name)));
        }
        let claim = policy.claim(user.as_deref(), &secret);
        if let Some(known) = policy.known(source, &claim) {
            return known;
        }
        let (Some(user), false) = (user, policy.htpasswd.is_empty()) else {
            policy.wrong(source, &claim);
            return Err(Rejection::Wrong);
        };
        let turn = self.checks.queue(&[Some(source.group())]).map_err(|_refused| Rejection::Busy)?;
        let turn = turn.turn().await.map_err(|_refused| Rejection::Busy)?;
        // While this one waited, others may have found out.
        if let Some(known) = policy.known(source, &claim) {
            return known;
        }
        let checked = policy.clone();
        let check = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            checked.verify(source, &claim, &user, &secret)
        });
        match check.await {
            Ok(Some(name)) => Ok(policy.grant(Identity::User(name))),
            _ => Err(Rejection::Wrong),
        }
    }
}

#[cfg(test)]
mod tests;
