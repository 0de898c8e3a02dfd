//! Names for requests, to find them in the log.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// Ten characters of base32, in the alphabet of Crockford: easy to read out, nothing to confuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

/// Gives out request ids: consecutive numbers from a random one on, so that two processes are unlikely to share any.
#[derive(Debug)]
pub struct RequestIds(AtomicU64);

impl RequestIds {
    /// A new sequence.
    pub fn new() -> Self {
        // The standard library's hash keys come from the system's random numbers.
        Self(AtomicU64::new(RandomState::new().hash_one(0)))
    }

    /// The next id.
    pub fn next(&self) -> RequestId {
        RequestId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let digits: [u8; 10] = std::array::from_fn(|at| ALPHABET[(self.0 >> (5 * (9 - at)) & 31) as usize]);
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_differ() {
        let ids = RequestIds::new();
        let (a, b) = (ids.next().to_string(), ids.next().to_string());
        assert!(a.len() == 10 && b.len() == 10 && a != b);
        assert_eq!(RequestId(31 << 45 | 1).to_string(), "z000000001");
    }
}
