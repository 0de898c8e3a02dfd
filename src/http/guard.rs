//! What access control means for requests: who is let in, and what those are told who are not.
//!
//! | | status, code |
//! |---|---|
//! | no credentials, and they would be needed | 401 `UNAUTHORIZED` with a challenge |
//! | wrong credentials, whatever is asked for | 401 `UNAUTHORIZED` with a challenge |
//! | a name that this user may not read, be there one or not | 403 `DENIED` |
//! | something that would have to be built, and this user may not | 403 `DENIED` |
//! | too many different wrong credentials from an address, and these are not known to be right there | 429 `TOOMANYREQUESTS` |
//!
//! Whoever has not logged in gets 401 instead of 403: containerd sends its credentials only when it is asked to.
//! `/v2/` asks whenever there is anything to log in with, since all other clients send theirs only if that did.

use super::{error::Failure, route::Route};
use crate::{
    access::{Access, Client, Credentials, Grant, Identity, Proxies, Rejection, Right, Source},
    oci::{ErrorCode, RepositoryName},
    registry::RegistryError,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::{fmt, sync::Arc, time::Duration};

/// Whom requests come from, and whether they are let in.
#[derive(Debug, Default)]
pub struct Guard {
    access: Option<Arc<Access>>,
    proxies: Proxies,
}

/// Somebody who was let in.
#[derive(Debug)]
pub struct Visitor {
    grant: Grant,
    /// The challenge, where there is access control.
    challenge: Option<HeaderValue>,
    source: Source,
}

impl Guard {
    /// Without `access` everybody is let in.
    pub fn new(access: Option<Arc<Access>>, proxies: Proxies) -> Self {
        Self { access, proxies }
    }

    /// Whether it is a proxy that is trusted, and so stands for many clients.
    pub fn trusts(&self, peer: Source) -> bool {
        self.proxies.trust(peer)
    }

    /// Where a request of `peer` comes from.
    pub fn source(&self, peer: Source, headers: &HeaderMap) -> Source {
        self.proxies.client(peer, headers)
    }

    /// Keeps shared caches from giving to others what somebody was let in for (RFC 9111, section 3.5).
    pub fn keep_private(&self, headers: &mut HeaderMap) {
        if self.access.is_none() {
            return;
        }
        if let Some(value) = headers.get_mut(header::CACHE_CONTROL)
            && let Some(rest) = value.to_str().ok().and_then(|value| value.strip_prefix("public"))
            && let Ok(private) = HeaderValue::try_from(format!("private{rest}"))
        {
            *value = private;
        }
    }

    /// Lets somebody in who asks for `route`, or says why not. Nothing is looked up for that.
    pub async fn admit(
        &self,
        route: &Route,
        headers: &HeaderMap,
        source: Source,
    ) -> Result<Visitor, Failure> {
        let everything = Visitor { grant: Grant::everything(), challenge: None, source };
        let Some(access) = &self.access else { return Ok(everything) };
        // None of what is open names an image; a list names all that may be read.
        let name = match route {
            Route::Home | Route::Health | Route::Ready | Route::Metrics => return Ok(everything),
            Route::ApiVersion | Route::Catalog { .. } => None,
            Route::Manifest { repository, .. }
            | Route::Blob { repository, .. }
            | Route::Tags { repository, .. }
            | Route::Referrers { repository, .. } => Some(repository),
        };
        let challenge = challenge(access.realm());
        let credentials = Credentials::from_headers(headers);
        let is_silent = matches!(credentials, Credentials::None);
        let grant =
            access.identify(credentials, source).await.map_err(|rejection| refused(rejection, &challenge))?;
        let visitor = Visitor { grant, challenge: Some(challenge), source };
        match name {
            Some(name) if !visitor.may_read(name) => {
                Err(visitor.denied(format_args!("{} may not read {name}", visitor.who())))
            }
            None if *route == Route::ApiVersion && is_silent && access.has_logins() => {
                Err(visitor.denied("this registry wants to know who asks"))
            }
            None if *visitor.identity() == Identity::Anonymous && !visitor.grant.allows_any(Right::Read) => {
                Err(visitor.denied("nothing here can be read without logging in"))
            }
            _ => Ok(visitor),
        }
    }
}

impl Visitor {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        self.grant.identity()
    }

    /// Whom work counts for.
    pub fn client(&self) -> Client {
        match self.identity() {
            Identity::User(name) => Client::User(name.clone()),
            Identity::Anonymous => Client::Source(self.source.group()),
        }
    }

    /// Whether a name may be shown.
    pub fn may_read(&self, name: &RepositoryName) -> bool {
        self.grant.allows(Right::Read, name)
    }

    /// Whether all names that there can be may be shown.
    pub fn may_read_all(&self) -> bool {
        self.grant.allows_all(Right::Read)
    }

    /// Whether what the name means may be evaluated and built.
    pub fn may_build(&self, name: &RepositoryName) -> bool {
        self.grant.allows(Right::Build, name)
    }

    /// Whether the source may be evaluated to list it.
    pub fn may_list(&self) -> bool {
        self.grant.allows_any(Right::Build)
    }

    /// What there is to say about an error with a name. Where messages have other names, near misses for instance, some
    /// of these may be none of this user's business.
    pub fn failure(&self, error: RegistryError, name: &RepositoryName) -> Failure {
        use RegistryError as E;
        let error = match error {
            E::MayNotBuild { message } => {
                return self.denied(format_args!("{message}, and {} may not have it built", self.who()));
            }
            error if self.may_read_all() => error,
            E::NameUnknown { .. } => E::NameUnknown { message: format!("there is no image {name}") },
            E::ManifestUnknown { .. } => {
                E::ManifestUnknown { message: format!("{name} has no such tag or manifest") }
            }
            E::EvaluationFailed { names_others: true, .. } => E::EvaluationFailed {
                message: format!("there is no image {name} in what can be evaluated"),
                names_others: false,
            },
            E::NotAnImage { is_other, names_others: true, .. } => E::NotAnImage {
                message: format!("{name} is a folder of several images, and the request names none"),
                is_other,
                names_others: false,
            },
            error => error,
        };
        error.into()
    }

    fn who(&self) -> String {
        match self.identity() {
            Identity::Anonymous => "whoever has not logged in".into(),
            Identity::User(name) => format!("user {name}"),
        }
    }

    fn denied(&self, message: impl fmt::Display) -> Failure {
        match (self.identity(), &self.challenge) {
            (Identity::Anonymous, Some(challenge)) => unauthorized(message, challenge),
            _ => Failure::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message.to_string()),
        }
    }
}

fn refused(rejection: Rejection, challenge: &HeaderValue) -> Failure {
    let later = |message: &str, retry_after: Duration| {
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message);
        Failure { retry_after: Some(retry_after), ..failure }
    };
    match rejection {
        Rejection::Wrong => unauthorized("the user name, the password or the token is wrong", challenge),
        Rejection::TooManyFailures { retry_after } => later(
            &format!(
                "too many different wrong passwords or tokens came from this address (AUTH_MAX_FAILURES): try again in {} s, \
                 or have the registry reloaded",
                retry_after.as_secs() + 1
            ),
            retry_after,
        ),
        Rejection::Busy => {
            later("too many passwords wait to be checked (AUTH_MAX_QUEUED_CHECKS)", Duration::from_secs(5))
        }
    }
}

fn unauthorized(message: impl fmt::Display, challenge: &HeaderValue) -> Failure {
    let mut failure = Failure::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message.to_string());
    failure.headers.push((header::WWW_AUTHENTICATE, challenge.clone()));
    failure
}

/// `Basic` alone: a challenge to use `Bearer` would send clients to look for a server of tokens. Those who have one send
/// it unasked, or as a password.
fn challenge(realm: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""))
        .unwrap_or(HeaderValue::from_static("Basic realm=\"forge-registry\""))
}
