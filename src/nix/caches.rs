//! Binary caches that a flake names in its `nixConfig`, for nix-daemon to use beside its own.
//!
//! They are handed over as options of a connection, which nix-daemon takes from trusted users only.

use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Caches, and keys, that are taken from one flake.
const MAX_CACHES: usize = 32;

/// What the flake named when it was last evaluated. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Caches(Arc<Mutex<FlakeCaches>>);

/// What a flake names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlakeCaches {
    /// `substituters` and `extra-substituters`.
    pub substituters: Vec<String>,
    /// `trusted-public-keys` and `extra-trusted-public-keys`.
    pub public_keys: Vec<String>,
}

impl Caches {
    /// From here on these are used.
    pub fn set(&self, caches: FlakeCaches) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != caches {
            tracing::info!(
                substituters = caches.substituters.join(" "),
                keys = caches.public_keys.join(" "),
                "the flake's own binary caches are used (ACCEPT_FLAKE_CONFIG)"
            );
            *current = caches;
        }
    }

    /// The settings of Nix that say so.
    pub(super) fn settings(&self) -> HashMap<String, String> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words = |list: &[String]| {
            let usable = |word: &&String| !word.is_empty() && !word.contains(char::is_whitespace);
            list.iter().filter(usable).take(MAX_CACHES).cloned().collect::<Vec<_>>().join(" ")
        };
        [
            ("extra-substituters", words(&current.substituters)),
            ("extra-trusted-public-keys", words(&current.public_keys)),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flake_names_caches_and_cannot_smuggle_in_anything_else() {
        let caches = Caches::default();
        assert!(caches.settings().is_empty());
        let mut substituters = vec!["https://a".to_owned(), "https://b https://c".into(), "x\ny".into()];
        substituters.extend((0..100).map(|n| format!("https://{n}")));
        caches.clone().set(FlakeCaches { substituters, public_keys: vec!["k:1".into()] });
        let settings = caches.settings();
        assert!(settings["extra-substituters"].starts_with("https://a https://0 "));
        assert_eq!(settings["extra-substituters"].split(' ').count(), MAX_CACHES);
        assert_eq!(settings["extra-trusted-public-keys"], "k:1");
    }
}
