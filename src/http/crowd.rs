//! Connections of one client: a number of them is served, a few more are told why they are not, and the rest is closed.

use super::error::Failure;
use crate::{
    access::{Share, Shares, Source},
    oci::ErrorCode,
};
use http::StatusCode;
use std::time::Duration;

/// How many more than it may have are told so.
const TOLD: usize = 8;
/// When to try again: connections of a pull last for seconds.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// All connections, by where they come from.
#[derive(Debug)]
pub struct Crowd {
    served: Shares<Source>,
    told: Shares<Source>,
}

/// The place of one connection among those of its client, until it is dropped.
#[derive(Debug)]
pub struct Place {
    _share: Share<Source>,
    /// The limit that it is beyond.
    beyond: Option<usize>,
}

impl Crowd {
    /// So many for each; zero is no limit.
    pub fn new(max: usize) -> Self {
        Self { served: Shares::new(max), told: Shares::new(TOLD) }
    }

    /// A place for one more connection; `None` if it is to be closed without an answer. Pass `None` for proxies, which
    /// stand for many clients and are not counted.
    pub fn enter(&self, source: Option<Source>) -> Option<Place> {
        let source = source.map(Source::group);
        if let Some(share) = self.served.take(source) {
            return Some(Place { _share: share, beyond: None });
        }
        self.told.take(source).map(|share| Place { _share: share, beyond: self.served.max() })
    }
}

impl Place {
    /// Whether it is one that is only told why it is not served.
    pub fn is_beyond(&self) -> bool {
        self.beyond.is_some()
    }

    /// That, as an answer.
    pub fn refusal(&self) -> Option<Failure> {
        let max = self.beyond?;
        let message = format!(
            "a client may have {max} connections at a time (MAX_CLIENT_CONNECTIONS), try again later"
        );
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message);
        Some(Failure { retry_after: Some(RETRY_AFTER), ..failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_those_that_are_served_a_few_are_told_and_the_rest_is_not() {
        let crowd = Crowd::new(3);
        let source = |text: &str| Some(Source::of(text.parse().unwrap()));
        let places: Vec<_> = (0..20).filter_map(|_| crowd.enter(source("192.0.2.1"))).collect();
        assert_eq!(places.len(), 3 + TOLD);
        assert_eq!(places.iter().filter(|place| !place.is_beyond()).count(), 3);
        for other in [source("192.0.2.2"), None] {
            assert!(!crowd.enter(other).unwrap().is_beyond());
        }
        drop(places);
        assert!(!crowd.enter(source("192.0.2.1")).unwrap().is_beyond());
    }
}
