//! What a manifest is asked for by: a tag or a digest.

use super::{Digest, DigestError};
use std::{fmt, sync::Arc};

/// A validated tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// The string is not a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{tag:?} is not a tag: a tag has 1 to {limit} letters, digits, '_', '.' or '-', \
     and begins with none of '.' and '-'"
)]
pub struct TagError {
    /// The string, cut at 200 characters.
    pub tag: String,
    /// Bytes allowed.
    pub limit: usize,
}

impl Tag {
    /// The specification's limit, in bytes.
    pub const MAX_LENGTH: usize = 128;

    /// Parses a tag of at most `limit` bytes.
    pub fn parse(s: &str, limit: usize) -> Result<Self, TagError> {
        let limit = limit.min(Self::MAX_LENGTH);
        let first = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let rest = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
        if s.len() > limit || !s.as_bytes().first().is_some_and(first) || !s.as_bytes().iter().all(rest) {
            return Err(TagError { tag: s.chars().take(200).collect(), limit });
        }
        Ok(Self(s.into()))
    }

    /// The tag as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Tag {
    type Err = TagError;

    fn from_str(s: &str) -> Result<Self, TagError> {
        Self::parse(s, Self::MAX_LENGTH)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag or a digest: only a digest has a colon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A name that can move.
    Tag(Tag),
    /// The content itself.
    Digest(Digest),
}

/// Why a string is neither a tag nor a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Without a colon, and not a tag.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// With a colon, and not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// Parses a digest, or a tag of at most `tag_limit` bytes.
    pub fn parse(s: &str, tag_limit: usize) -> Result<Self, ReferenceError> {
        Ok(if s.contains(':') { Self::Digest(s.parse()?) } else { Self::Tag(Tag::parse(s, tag_limit)?) })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_tag_of_the_specification_is_accepted(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let parsed = tag.parse::<Tag>().unwrap();
            prop_assert_eq!(parsed.as_str(), &tag);
        }

        #[test]
        fn nothing_else_is_a_tag(s in "\\PC{0,140}") {
            let first = s.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
            let rest = s.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            prop_assert_eq!(s.parse::<Tag>().is_ok(), first && rest && s.len() <= 128);
        }
    }
}
