//! What a manifest is asked for by: a tag, the tag of a referrer, or a digest.

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

/// A tag that clients derive from a manifest's digest to find what refers to it: signatures, attestations, SBOMs.
///
/// ```text
/// referrer  ::= algorithm "-" encoded suffix?
/// algorithm ::= "sha256" | "sha384" | "sha512" | "blake3"     encoded ::= [0-9a-f]{64,}     suffix ::= "." [a-zA-Z0-9._-]*
/// ```
/// Without a suffix it is the distribution specification's referrers tag schema, which cuts the encoded part at 64
/// characters. cosign and its relatives append `.sig`, `.att` or `.sbom`, and do not cut.
///
/// Not a [`Tag`], because no source of images has such a revision: clients ask for it with every pull and expect a 404 at
/// once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ReferrerTag(Tag);

impl ReferrerTag {
    /// Digest algorithms in use. No others, since `build-<64 hex>` may well be a branch.
    const ALGORITHMS: [&str; 4] = ["sha256", "sha384", "sha512", "blake3"];
    /// Where the referrers tag schema cuts the encoded part.
    const MIN_ENCODED: usize = 64;

    /// Parses a referrer's tag; nothing if it is any other string.
    pub fn parse(s: &str) -> Option<Self> {
        let (algorithm, rest) = s.split_once('-')?;
        let encoded = rest.split_once('.').map_or(rest, |(encoded, _)| encoded);
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if !Self::ALGORITHMS.contains(&algorithm)
            || encoded.len() < Self::MIN_ENCODED
            || !encoded.bytes().all(is_hex)
        {
            return None;
        }
        // The operator's limit does not apply: a client cannot choose a shorter one.
        Tag::parse(s, Tag::MAX_LENGTH).ok().map(Self)
    }

    /// The tag as a key of the index. Never a revision of a source.
    pub fn as_tag(&self) -> &Tag {
        &self.0
    }
}

impl fmt::Display for ReferrerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ReferrerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tag, a referrer's tag, or a digest: only a digest has a colon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A name that can move.
    Tag(Tag),
    /// What refers to a manifest, by the manifest's digest.
    Referrer(ReferrerTag),
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
    /// Parses a digest, a referrer's tag, or a tag of at most `tag_limit` bytes.
    pub fn parse(s: &str, tag_limit: usize) -> Result<Self, ReferenceError> {
        if s.contains(':') {
            return Ok(Self::Digest(s.parse()?));
        }
        Ok(match ReferrerTag::parse(s) {
            Some(referrer) => Self::Referrer(referrer),
            None => Self::Tag(Tag::parse(s, tag_limit)?),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Referrer(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(s: &str) -> Reference {
        // No longer than some operator allows.
        Reference::parse(s, 70).unwrap()
    }

    #[test]
    fn what_a_client_derives_from_a_digest_is_no_tag_of_an_image() {
        let hex = "0123456789abcdef".repeat(4);
        for suffix in ["", ".sig", ".att", ".sbom", ".", ".sbom.json"] {
            for tag in [format!("sha256-{hex}{suffix}"), format!("sha512-{hex}{suffix}")] {
                assert_eq!(parse(&tag), Reference::Referrer(ReferrerTag(tag.parse().unwrap())));
                assert_eq!(parse(&tag).to_string(), tag);
            }
        }
        // cosign does not cut.
        assert!(matches!(parse(&format!("sha384-{hex}{}.sbom", &hex[..32])), Reference::Referrer(_)));
        for other in [
            &format!("build-{hex}"),
            &format!("sha256-{}", &hex[1..]),
            &format!("SHA256-{}", &hex[2..]),
            &hex,
            "sha256",
            "sha256-latest",
            "sha256-.sig",
        ] {
            assert_eq!(parse(other), Reference::Tag(other.parse().unwrap()));
        }
        for other in
            [format!("sha256-{}", hex.to_uppercase()), format!("sha256-{hex}-sig"), format!("v-sha256-{hex}")]
        {
            assert_eq!(ReferrerTag::parse(&other), None, "{other}");
        }
        // Nor is it a tag if it is longer than any may be.
        assert!(Reference::parse(&format!("sha512-{hex}{hex}.sig"), Tag::MAX_LENGTH).is_err());
        assert!(Reference::parse(&format!("sha256-{hex}.s/g"), Tag::MAX_LENGTH).is_err());
    }

    proptest! {
        #[test]
        fn a_reference_is_printed_as_it_was_written(s in "(sha256-[0-9a-f]{63,65})?[a-z.]{0,3}\\PC{0,2}") {
            if let Ok(reference) = Reference::parse(&s, Tag::MAX_LENGTH) {
                prop_assert_eq!(reference.to_string(), s);
            }
        }

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
