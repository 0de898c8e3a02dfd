//! How often packages are used elsewhere.

use crate::{nix::StorePath, oci::Digest};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    io::Read,
    path::Path,
    path::PathBuf,
};

/// Bytes of a popularity file. That of all nixpkgs has about 3 MiB.
const MAX_SIZE: u64 = 64 << 20;

/// Popularity of packages: how many others refer to them, by name with version (`glibc-2.40-66`). The format is that of
/// Nixery's `NIX_POPULARITY_URL`: a JSON object from names to counts, as its `popcount` makes from a channel.
#[derive(Debug, Clone, Default)]
pub struct Popularity(HashMap<String, u64>);

/// A popularity file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PopularityError {
    /// It cannot be read.
    #[error("{path:?}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// It is longer than 64 MiB.
    #[error("{0:?} is longer than {MAX_SIZE} bytes")]
    TooLong(PathBuf),
    /// It is not JSON of the right shape.
    #[error(
        "{path:?}: {error}; it must be a JSON object of names with versions and counts, like {{\"glibc-2.40\": 61000}}"
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// The reason, with line and column.
        error: serde_json::Error,
    },
}

impl Popularity {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, PopularityError> {
        let io_error = |error| PopularityError::Io { path: path.into(), error };
        let mut text = Vec::new();
        File::open(path).map_err(io_error)?.take(MAX_SIZE + 1).read_to_end(&mut text).map_err(io_error)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(PopularityError::TooLong(path.into()));
        }
        Self::parse(&text).map_err(|error| PopularityError::Json { path: path.into(), error })
    }

    /// Parses the text of a file.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text).map(Self)
    }

    /// Identifies what it says; nothing if that is nothing.
    pub fn digest(&self) -> Option<Digest> {
        let sorted: BTreeMap<&String, &u64> = self.0.iter().collect();
        // Strings and numbers: there is nothing for which this fails.
        let text = serde_json::to_vec(&sorted).unwrap_or_default();
        (!sorted.is_empty()).then(|| Digest::of(&text))
    }

    /// The popularity of a path: what the file says, else 1. `nss-cacert` and `iana-etc`, which Nixery puts into every
    /// image, have 500 000 whatever it says.
    pub fn of(&self, path: &StorePath) -> u64 {
        let name = path.name();
        if name.starts_with("nss-cacert") || name.starts_with("iana-etc") {
            return 500_000;
        }
        self.0.get(name).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("00bgd045z0d4icpbc2yyz4gx48ak44la-{name}")).unwrap()
    }

    #[test]
    fn a_name_with_its_version_has_a_count() {
        let popularity = Popularity::parse(br#"{"glibc-2.40-66": 61000, "nss-cacert-3.1": 7}"#).unwrap();
        assert_eq!(popularity.of(&path("glibc-2.40-66")), 61_000);
        assert_eq!(popularity.of(&path("glibc-2.40")), 1);
        assert_eq!(popularity.of(&path("nss-cacert-3.1")), 500_000);
        assert_eq!(popularity.of(&path("iana-etc-20240318")), 500_000);
    }

    #[test]
    fn an_unusable_file_says_where_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("popularity.json");
        for (text, part) in
            [("{", "line 1"), (r#"{"a": -1}"#, "-1"), ("[1]", "JSON object"), (r#"{"a": "b"}"#, "string")]
        {
            std::fs::write(&file, text).unwrap();
            let error = Popularity::open(&file).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("popularity.json"), "{text}: {error}");
        }
        assert!(matches!(Popularity::open(dir.path()), Err(PopularityError::Io { .. })));
        File::create(&file).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert!(matches!(Popularity::open(&file), Err(PopularityError::TooLong(_))));
    }
}
