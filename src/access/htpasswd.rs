//! Users and their passwords: `user:hash` a line, as `htpasswd -nB USER` prints it.
//!
//! Only bcrypt is accepted: every other format that Apache knows can be tried out too fast, or is no hash at all.

use super::lines::{BadLine, check_user, lines};
use std::{collections::HashMap, sync::Arc};

/// The highest cost factor: about a second of a processor for each check.
const MAX_COST: u32 = 14;
/// The lowest that bcrypt has.
const MIN_COST: u32 = 4;

/// The users of a file.
#[derive(Default)]
pub(super) struct Htpasswd {
    users: HashMap<Arc<str>, usize>,
    /// In the order of the file.
    hashes: Vec<String>,
}

impl std::fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Htpasswd").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl Htpasswd {
    pub(super) fn parse(text: &str) -> Result<Self, BadLine> {
        let mut all = Self::default();
        for (number, line) in lines(text) {
            let advice = "expected USER:HASH as `htpasswd -nB USER` prints it";
            let Some((user, hash)) = line.split_once(':') else {
                return Err(BadLine::new(number, format!("there is no colon; {advice}")));
            };
            check_user(number, user)?;
            check_hash(hash).map_err(|reason| {
                BadLine::new(number, format!("the password of {user:?} {reason}; {advice}"))
            })?;
            if all.users.insert(user.into(), all.hashes.len()).is_some() {
                return Err(BadLine::new(number, format!("{user:?} is there a second time")));
            }
            all.hashes.push(hash.to_owned());
        }
        Ok(all)
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The user's name, if the password is theirs. Takes as long for a user that there is not: the hash of another one,
    /// which `choice` picks, is calculated all the same. So `choice` should be the same for the same name, and nobody
    /// be able to foretell it; then the costs of those who are not there are spread as the costs of those who are.
    pub(super) fn verify(&self, user: &str, password: &str, choice: u64) -> Option<Arc<str>> {
        let known = self.users.get_key_value(user);
        let at = match known {
            Some((_, at)) => *at,
            None => (choice % self.hashes.len().max(1) as u64) as usize,
        };
        // Compares in constant time.
        let is_right =
            self.hashes.get(at).is_some_and(|hash| bcrypt::verify(password, hash).unwrap_or(false));
        known.filter(|_| is_right).map(|(name, _)| name.clone())
    }
}

/// What is wrong with a hash.
fn check_hash(hash: &str) -> Result<(), String> {
    if !["$2y$", "$2b$", "$2a$"].iter().any(|version| hash.starts_with(version)) {
        return Err("is not hashed by bcrypt".into());
    }
    match hash.parse::<bcrypt::HashParts>().map(|parts| parts.get_cost()) {
        Err(_) => Err("has a damaged hash".into()),
        Ok(MIN_COST..=MAX_COST) => Ok(()),
        Ok(cost) => Err(format!("has cost {cost}, which is not from {MIN_COST} to {MAX_COST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(password: &str) -> String {
        bcrypt::hash(password, MIN_COST).unwrap()
    }

    #[test]
    fn a_user_is_known_by_name_and_password() {
        // As htpasswd of Apache 2.4 wrote it.
        let apache = "$2y$05$8XsnY14AaSUvj6aV7xTzUeYcC6OgcE5Q0GKwhGXOyCOqBgJxtjTWa";
        assert!(check_hash(apache).is_ok());
        let text = format!("# users\n\nalice:{}\nbob:{}\n", hash("one"), hash("two"));
        let users = Htpasswd::parse(&text).unwrap();
        assert_eq!(users.len(), 2);
        let verify = |user, password| users.verify(user, password, 7).map(|name| name.to_string());
        assert_eq!(verify("alice", "one").as_deref(), Some("alice"));
        for (user, password) in [("alice", "two"), ("bob", "one"), ("eve", "one"), ("eve", "two"), ("", "")] {
            assert_eq!(verify(user, password), None, "{user} {password}");
        }
        assert!(Htpasswd::default().verify("alice", "one", 7).is_none());
    }

    #[test]
    fn a_line_that_cannot_be_used_says_what_to_run_and_does_not_quote_the_hash() {
        let dear = hash("x").replace("$04$", "$17$");
        for (line, part) in [
            ("alice", "no colon"),
            ("alice:$apr1$s3cret", "is not hashed by bcrypt"),
            ("alice:s3cret", "is not hashed by bcrypt"),
            ("alice:$2x$05$s3cret", "is not hashed by bcrypt"),
            ("alice:$2y$05$s3cret", "has a damaged hash"),
            (&format!("alice:{dear}"), "has cost 17, which is not from 4 to 14"),
        ] {
            let BadLine { line, reason } = Htpasswd::parse(&format!("#\n{line}")).unwrap_err();
            assert!(line == 2 && reason.contains(part) && reason.contains("htpasswd -nB"), "{line} {reason}");
            assert!(!reason.contains("s3cret") && !reason.contains("$17"), "{reason}");
        }
        for (line, part) in [
            (":x", "no user name"),
            ("anonymous:x", "meaning of its own"),
            ("authenticated:x", "meaning of its own"),
        ] {
            let reason = Htpasswd::parse(line).unwrap_err().reason;
            assert!(reason.contains(part), "{reason}");
        }
        let twice = format!("a:{0}\na:{0}", hash("x"));
        assert!(Htpasswd::parse(&twice).unwrap_err().reason.contains("second time"));
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "(\\PC|\n|[$:a2y05]){0,90}") {
            let _ = Htpasswd::parse(&text);
        }
    }
}
