//! Repository names.
//!
//! The specification's grammar is
//! ```text
//! [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
//! ```
//! Nix attribute names such as `myApp`, `python3.12` or `_1password` need more, and the registry that this one
//! replaces took any of `[a-zA-Z0-9._/-]`; so a component here is `[a-zA-Z0-9_][a-zA-Z0-9._-]*`.

use std::{borrow::Borrow, fmt, sync::Arc};

/// A validated repository name of 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

/// Why a string is not a repository name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("the repository name is empty")]
    Empty,
    /// The name is longer than the limit.
    #[error("the repository name is {length} bytes long, the limit is {limit}")]
    TooLong {
        /// Bytes of the name.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A component between slashes is empty, or has a byte that does not belong there.
    #[error(
        "{component:?} cannot stand in a repository name: each component between slashes is made of letters, \
         digits, '.', '_' and '-', and begins with a letter, a digit or '_'"
    )]
    Component {
        /// The offending component.
        component: String,
    },
}

impl RepositoryName {
    /// The specification leaves 255 bytes for a name.
    pub const MAX_LENGTH: usize = 255;

    /// Parses a name of at most `limit` bytes.
    pub fn parse(s: &str, limit: usize) -> Result<Self, NameError> {
        let limit = limit.min(Self::MAX_LENGTH);
        if s.is_empty() {
            return Err(NameError::Empty);
        }
        if s.len() > limit {
            return Err(NameError::TooLong { length: s.len(), limit });
        }
        for component in s.split('/') {
            let first = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
            let rest = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
            let bytes = component.as_bytes();
            if !bytes.first().is_some_and(first) || !bytes.iter().all(rest) {
                return Err(NameError::Component { component: component.into() });
            }
        }
        Ok(Self(s.into()))
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components between slashes; at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl std::str::FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::parse(s, Self::MAX_LENGTH)
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for RepositoryName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_of_the_specification_is_accepted(
            name in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}){0,3}"
        ) {
            let parsed = name.parse::<RepositoryName>().unwrap();
            prop_assert_eq!(parsed.as_str(), &name);
        }

        #[test]
        fn an_accepted_name_has_no_dot_component_and_no_odd_byte(name in "\\PC{0,300}") {
            if let Ok(parsed) = name.parse::<RepositoryName>() {
                prop_assert!(parsed.components().all(|c| c != "." && c != ".." && !c.is_empty()));
                prop_assert!(name.len() <= 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)));
            }
        }
    }

    #[test]
    fn attribute_names_are_accepted() {
        for name in ["packages/myApp", "packages/python3.12", "_1password", "a.b.c/d", "foo-bar_"] {
            assert!(name.parse::<RepositoryName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn paths_and_oddities_are_refused() {
        for name in ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".hidden", "-x", "a b", "a$b", "a\"b", "ä"]
        {
            assert!(name.parse::<RepositoryName>().is_err(), "{name}");
        }
        assert_eq!(
            RepositoryName::parse(&"a".repeat(30), 20),
            Err(NameError::TooLong { length: 30, limit: 20 })
        );
    }
}
