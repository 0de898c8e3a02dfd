//! Store paths.
//!
//! ```text
//! /nix/store/<digest>-<name>
//! digest ::= 32 of [0-9abcdfghijklmnpqrsvwxyz]
//! name   ::= 1 to 211 of [a-zA-Z0-9+._?=-]
//! ```
//! (Nix manual, "Store Path".) The store folder is a setting: it is not always `/nix/store`.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// The folder that holds all store objects, `/nix/store` on most machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDir(Arc<Path>);

/// The base name of a store object: `<digest>-<name>`, without the store folder.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorePath(Arc<str>);

/// Why a string is not a store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    /// Not below the store folder.
    #[error("{path:?} is not in the Nix store {store:?}")]
    NotInStore {
        /// The path.
        path: PathBuf,
        /// The store folder.
        store: PathBuf,
    },
    /// The base name does not follow the grammar.
    #[error("{0:?} is not the name of a store path")]
    Name(String),
}

impl StorePath {
    /// Parses a base name.
    pub fn from_base_name(name: &str) -> Result<Self, StorePathError> {
        let digest = |b: u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&b);
        let rest = |b: u8| b.is_ascii_alphanumeric() || b"+._?=-".contains(&b);
        let bytes = name.as_bytes();
        let valid = bytes.len() > 33
            && bytes.len() <= 33 + 211
            && bytes[..32].iter().all(|b| digest(*b))
            && bytes[32] == b'-'
            && bytes[33..].iter().all(|b| rest(*b));
        if valid {
            Ok(Self(name.into()))
        } else {
            Err(StorePathError::Name(name.chars().take(300).collect()))
        }
    }

    /// The base name.
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The name after the digest.
    pub fn name(&self) -> &str {
        &self.0[33..]
    }

    /// Whether this is a derivation.
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
    }
}

impl TryFrom<String> for StorePath {
    type Error = StorePathError;

    fn try_from(s: String) -> Result<Self, StorePathError> {
        Self::from_base_name(&s)
    }
}

impl From<StorePath> for String {
    fn from(path: StorePath) -> Self {
        path.0.as_ref().into()
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StoreDir {
    /// The store at an absolute folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into().into())
    }

    /// The folder.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Parses an absolute path that is exactly a store object's.
    pub fn parse(&self, path: &str) -> Result<StorePath, StorePathError> {
        let (store_path, rest) = self.split(Path::new(path))?;
        if rest.as_os_str().is_empty() {
            Ok(store_path)
        } else {
            Err(StorePathError::Name(path.chars().take(300).collect()))
        }
    }

    /// Splits an absolute path below the store into the store object and what lies within it (empty for the object
    /// itself). Purely textual; a path with `..` is refused.
    pub fn split<'p>(&self, path: &'p Path) -> Result<(StorePath, &'p Path), StorePathError> {
        let outside = || StorePathError::NotInStore { path: path.into(), store: self.0.to_path_buf() };
        let relative = path.strip_prefix(&self.0).map_err(|_| outside())?;
        let mut components = relative.components();
        let first = components.next().ok_or_else(outside)?;
        let rest = components.as_path();
        if !rest.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(outside());
        }
        let Component::Normal(name) = first else { return Err(outside()) };
        let name = name.to_str().ok_or_else(|| StorePathError::Name(name.to_string_lossy().into()))?;
        Ok((StorePath::from_base_name(name)?, rest))
    }

    /// The absolute path of a store object.
    pub fn join(&self, path: &StorePath) -> PathBuf {
        self.0.join(path.base_name())
    }

    /// The absolute path of a store object, as text for nix-daemon.
    pub fn print(&self, path: &StorePath) -> String {
        format!("{}/{}", self.0.display(), path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "00bgd045z0d4icpbc2yyz4gx48ak44la-hello-2.12";

    #[test]
    fn a_store_path_is_split_from_what_lies_within() {
        let store = StoreDir::new("/nix/store");
        let inside = format!("/nix/store/{NAME}/bin/hello");
        let (path, rest) = store.split(Path::new(&inside)).unwrap();
        assert_eq!((path.base_name(), path.name(), rest), (NAME, "hello-2.12", Path::new("bin/hello")));
        assert_eq!(store.print(&path), format!("/nix/store/{NAME}"));
        assert!(store.parse(&inside).is_err());
    }

    #[test]
    fn what_is_not_in_the_store_is_refused() {
        let store = StoreDir::new("/nix/store");
        for bad in ["/etc/passwd", "/nix/store", "/nix/store/../etc", "nix/store/x", "/nix/storefront/x"] {
            assert!(store.split(Path::new(bad)).is_err(), "{bad}");
        }
        assert!(store.split(Path::new(&format!("/nix/store/{NAME}/../../../etc"))).is_err());
        assert!(store.parse("/nix/store/not-a-store-path").is_err());
    }
}
