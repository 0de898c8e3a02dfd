//! What the files say, as they were when they were last read, and what follows from it for somebody.

use super::{
    AccessError, AccessSettings, Identity, Rejection, Right, Source,
    attempts::{Attempts, Claim, Verdict},
    htpasswd::Htpasswd,
    lines::read,
    rules::Rules,
    tokens::Tokens,
};
use crate::oci::RepositoryName;
use lru::LruCache;
use sha2::{Digest, Sha256};
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Where the files are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// `AUTH_HTPASSWD`
    pub htpasswd: Option<PathBuf>,
    /// `AUTH_TOKENS`
    pub tokens: Option<PathBuf>,
    /// `AUTH_RULES`
    pub rules: Option<PathBuf>,
}

/// How much there is in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Users with passwords.
    pub users: usize,
    /// Tokens.
    pub tokens: usize,
    /// Rules; none if there is no file of them.
    pub rules: Option<usize>,
    /// Whether something can be read without logging in.
    pub is_open: bool,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users, {} tokens, ", self.users, self.tokens)?;
        match self.rules {
            Some(rules) => write!(f, "{rules} rules")?,
            None => f.write_str("no rules, so whoever logs in may read and build everything")?,
        }
        f.write_str(if self.is_open { "; some names are open to everybody" } else { "" })
    }
}

/// The files together, and which credentials turned out to be right or wrong by them.
pub(super) struct Policy {
    pub(super) htpasswd: Htpasswd,
    pub(super) tokens: Tokens,
    rules: Rules,
    has_rules: bool,
    /// Without it, what is remembered tells nothing of passwords, nor can be provoked to collide.
    key: [u8; 32],
    /// By hash of the whole claim, from any source.
    verified: Mutex<LruCache<[u8; 32], Arc<str>>>,
    attempts: Attempts,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Policy {
    /// Reads the files; one that is not set has nothing in it.
    pub(super) fn load(settings: &AccessSettings) -> Result<Self, AccessError> {
        let AccessSettings { files, max_failures, failure_window, max_remembered, .. } = settings;
        let htpasswd = files.htpasswd.as_ref().map(|path| read("AUTH_HTPASSWD", path, Htpasswd::parse));
        let tokens = files.tokens.as_ref().map(|path| read("AUTH_TOKENS", path, Tokens::parse));
        let rules = files.rules.as_ref().map(|path| read("AUTH_RULES", path, Rules::parse));
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| AccessError {
            setting: "AUTH_HTPASSWD",
            path: files.htpasswd.clone().unwrap_or_default(),
            line: None,
            reason: format!("there are no random numbers: {error}"),
        })?;
        Ok(Self {
            htpasswd: htpasswd.transpose()?.unwrap_or_default(),
            tokens: tokens.transpose()?.unwrap_or_default(),
            has_rules: rules.is_some(),
            rules: rules.transpose()?.unwrap_or_default(),
            key,
            verified: Mutex::new(LruCache::new(*max_remembered)),
            attempts: Attempts::new(*max_failures, *failure_window, *max_remembered),
        })
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            users: self.htpasswd.len(),
            tokens: self.tokens.len(),
            rules: self.has_rules.then(|| self.rules.len()),
            is_open: self.rules.allow_any(&Identity::Anonymous, Right::Read),
        }
    }

    pub(super) fn grant(self: &Arc<Self>, identity: Identity) -> Grant {
        Grant(Some((self.clone(), identity)))
    }

    /// Credentials as they are remembered. No user has an empty name, so that stands for a bearer token.
    pub(super) fn claim(&self, user: Option<&str>, secret: &str) -> Claim {
        let user = user.unwrap_or_default();
        Claim { user: self.keyed(&[user]), whole: self.keyed(&[user, secret]) }
    }

    /// The answer to a claim that needs no check; `None` if it has to be checked.
    pub(super) fn known(self: &Arc<Self>, source: Source, claim: &Claim) -> Option<Result<Grant, Rejection>> {
        let right = |name| Some(Ok(self.grant(Identity::User(name))));
        match self.attempts.look(source, claim, Instant::now()) {
            Verdict::Right(name) => right(name),
            Verdict::Wrong => Some(Err(Rejection::Wrong)),
            Verdict::Blocked(retry_after) => Some(Err(Rejection::TooManyFailures { retry_after })),
            Verdict::Unknown => {
                let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
                let name = verified.get(&claim.whole)?.clone();
                self.attempts.succeeded(source, claim, name.clone());
                right(name)
            }
        }
    }

    /// The user whose name and password these are; else the claim counts as wrong. Takes as long for unknown users.
    pub(super) fn verify(
        &self,
        source: Source,
        claim: &Claim,
        user: &str,
        password: &str,
    ) -> Option<Arc<str>> {
        let [a, b, c, d, e, f, g, h, ..] = claim.user;
        let name = self.htpasswd.verify(user, password, u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        match &name {
            Some(name) => {
                let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
                verified.put(claim.whole, name.clone());
                self.attempts.succeeded(source, claim, name.clone());
            }
            None => self.wrong(source, claim),
        }
        name
    }

    /// Counts a wrong claim.
    pub(super) fn wrong(&self, source: Source, claim: &Claim) {
        self.attempts.failed(source, claim, Instant::now());
    }

    fn keyed(&self, parts: &[&str]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.key);
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// Who somebody is, and what they may do.
#[derive(Debug, Clone)]
pub struct Grant(Option<(Arc<Policy>, Identity)>);

impl Grant {
    /// What everybody has where there is no access control.
    pub fn everything() -> Self {
        Self(None)
    }

    /// Who it is, as far as anybody asks.
    pub fn identity(&self) -> &Identity {
        self.0.as_ref().map_or(&Identity::Anonymous, |(_, identity)| identity)
    }

    /// Whether this may be done with the name.
    pub fn allows(&self, right: Right, name: &RepositoryName) -> bool {
        self.0.as_ref().is_none_or(|(policy, identity)| policy.rules.allow(identity, right, name))
    }

    /// Whether there can be a name with which it may be done.
    pub fn allows_any(&self, right: Right) -> bool {
        self.0.as_ref().is_none_or(|(policy, identity)| policy.rules.allow_any(identity, right))
    }

    /// Whether it may be done with all names that there can be.
    pub fn allows_all(&self, right: Right) -> bool {
        self.0.as_ref().is_none_or(|(policy, identity)| policy.rules.allow_all(identity, right))
    }
}
