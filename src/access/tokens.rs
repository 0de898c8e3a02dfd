//! Tokens: `name:hash` a line, where the hash is the SHA-256 of the token in hexadecimal.
//!
//! A token is long and random, so unlike a password it needs neither a slow hash nor a limit on guesses; and no token lies
//! on the disk.

use super::lines::{BadLine, check_user, lines};
use crate::oci::Digest;
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// The shortest token that is looked at: what is shorter can be found by trying.
pub(super) const MIN_LENGTH: usize = 20;

/// The tokens of a file. The same name can have several, so that one can be replaced by the next.
#[derive(Default)]
pub(super) struct Tokens(Vec<(Arc<str>, Digest)>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tokens").field(&self.0.len()).finish()
    }
}

impl Tokens {
    pub(super) fn parse(text: &str) -> Result<Self, BadLine> {
        let mut all: Vec<(Arc<str>, Digest)> = Vec::new();
        for (number, line) in lines(text) {
            let bad = |reason: &str| {
                let advice = "expected NAME:HASH with 64 hexadecimal digits, as `printf %s TOKEN | sha256sum` prints them";
                BadLine::new(number, format!("{reason}; {advice}"))
            };
            let (name, hash) = line.split_once(':').ok_or_else(|| bad("there is no colon"))?;
            check_user(number, name)?;
            let hash = Digest::from_hex(&hash.to_ascii_lowercase());
            let hash = hash.ok_or_else(|| bad(&format!("what {name:?} has is no SHA-256")))?;
            if let Some((other, _)) = all.iter().find(|(_, known)| *known == hash) {
                return Err(BadLine::new(number, format!("{name:?} has the same token as {other:?}")));
            }
            all.push((name.into(), hash));
        }
        Ok(Self(all))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whose token this is. Compares with all of them, each in constant time.
    pub(super) fn find(&self, token: &str) -> Option<Arc<str>> {
        let hash = Digest::of(token.as_bytes());
        let mut found = u32::MAX;
        for (at, (_, known)) in (0..).zip(&self.0) {
            found = u32::conditional_select(&found, &at, known.as_raw().ct_eq(hash.as_raw()));
        }
        let is_long = Choice::from(u8::from(token.len() >= MIN_LENGTH));
        found = u32::conditional_select(&u32::MAX, &found, is_long);
        self.0.get(found as usize).map(|(name, _)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(name: &str, token: &str) -> String {
        format!("{name}:{}", Digest::of(token.as_bytes()).hex())
    }

    const TOKENS: [&str; 3] = ["0123456789abcdefghij", "abcdefghij0123456789", "the second one of the first"];

    #[test]
    fn a_token_leads_to_its_name() {
        let lines = [line("ci", TOKENS[0]), line("node", TOKENS[1]).to_uppercase(), line("ci", TOKENS[2])];
        let tokens = Tokens::parse(&lines.join("\n")).unwrap();
        let found = TOKENS.map(|token| tokens.find(token).map(|name| name.to_string()));
        assert_eq!(found, ["ci", "NODE", "ci"].map(|name| Some(name.to_owned())));
        for token in ["", "0123456789abcdefghi", "0123456789abcdefghijk"] {
            assert_eq!(tokens.find(token), None);
        }
        assert_eq!(Tokens::default().find(TOKENS[0]), None);
    }

    #[test]
    fn a_token_that_could_be_guessed_opens_nothing() {
        assert_eq!(Tokens::parse(&line("ci", "s3cret")).unwrap().find("s3cret"), None);
    }

    #[test]
    fn a_line_that_cannot_be_used_says_what_is_expected_and_does_not_quote_a_token() {
        for text in [
            "ci",
            "ci:s3cret",
            &format!("ci:{}", "g".repeat(64)),
            &format!("{} ", line("ci", "s")[..40].to_owned()),
        ] {
            let reason = Tokens::parse(text).unwrap_err().reason;
            assert!(reason.contains("64 hexadecimal digits") && !reason.contains("s3cret"), "{reason}");
        }
        let twice = [line("a", TOKENS[0]), line("b", TOKENS[0])].join("\n");
        let bad = Tokens::parse(&twice).unwrap_err();
        assert!(bad.line == 2 && bad.reason.contains("the same token as \"a\""), "{bad:?}");
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "(\\PC|\n|[:a0-9]){0,140}") {
            let _ = Tokens::parse(&text);
        }
    }
}
