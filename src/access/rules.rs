//! Rules: who may read, and who may build, which names.
//!
//! ```text
//! # allow or deny   read or build   USER   NAME
//! allow             read            anonymous      public/*
//! allow             build           ci             *
//! deny              read            *              shop/secret
//! allow             read            authenticated  *
//! ```
//!
//! The first line that fits decides, and without one the answer is no. To build takes in to read: `allow build` fits
//! whoever wants to read as well, and `deny read` whoever wants to build. In both patterns `*` stands for any
//! characters, slashes too. Letters of names match in either case, since names find attributes in either.

use super::lines::{BadLine, lines};
use crate::oci::RepositoryName;
use std::sync::Arc;

/// What those who have not logged in are called.
pub(super) const ANONYMOUS: &str = "anonymous";
/// What stands for everybody who has.
pub(super) const AUTHENTICATED: &str = "authenticated";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody in particular.
    Anonymous,
    /// A user of the htpasswd file, or a name of the file of tokens.
    User(Arc<str>),
}

/// What somebody wants to do with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To be given what is there.
    Read,
    /// To have it evaluated and built.
    Build,
}

/// All rules, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    right: Right,
    user: String,
    /// In lower case.
    name: String,
}

impl Default for Rules {
    /// What holds without a file of rules: everybody who has logged in may do everything.
    fn default() -> Self {
        let any = Rule { allow: true, right: Right::Build, user: AUTHENTICATED.into(), name: "*".into() };
        Self(vec![any])
    }
}

impl Rules {
    pub(super) fn parse(text: &str) -> Result<Self, BadLine> {
        lines(text)
            .map(|(number, line)| rule(line).map_err(|reason| BadLine::new(number, reason)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether somebody may do something with a name.
    pub fn allow(&self, who: &Identity, right: Right, name: &RepositoryName) -> bool {
        let name = name.as_str().to_ascii_lowercase();
        self.of(who, right).find(|rule| matches(&rule.name, &name)).is_some_and(|rule| rule.allow)
    }

    /// Whether there can be a name with which somebody may do it.
    pub fn allow_any(&self, who: &Identity, right: Right) -> bool {
        self.of(who, right).find(|rule| rule.allow || is_all(&rule.name)).is_some_and(|rule| rule.allow)
    }

    /// Whether there can be no name with which somebody may not do it.
    pub fn allow_all(&self, who: &Identity, right: Right) -> bool {
        self.of(who, right).find(|rule| !rule.allow || is_all(&rule.name)).is_some_and(|rule| rule.allow)
    }

    /// The rules that speak of somebody and a right.
    fn of(&self, who: &Identity, right: Right) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(move |rule| {
            let speaks_of_right = match (rule.allow, right) {
                (true, Right::Read) | (false, Right::Build) => true,
                (_, right) => rule.right == right,
            };
            speaks_of_right && speaks_of(&rule.user, who)
        })
    }
}

fn speaks_of(pattern: &str, who: &Identity) -> bool {
    match who {
        Identity::Anonymous => pattern != AUTHENTICATED && matches(pattern, ANONYMOUS),
        Identity::User(name) => pattern == AUTHENTICATED || matches(pattern, name),
    }
}

fn rule(line: &str) -> Result<Rule, String> {
    const EXPECTED: &str =
        "expected `allow` or `deny`, then `read` or `build`, a user and a name, with white space between";
    let words: Vec<&str> = line.split_whitespace().collect();
    let [verb, right, user, name] = words[..] else {
        return Err(format!("{} words; {EXPECTED}", words.len()));
    };
    let allow = match verb {
        "allow" => true,
        "deny" => false,
        _ => return Err(format!("{verb:?} is neither `allow` nor `deny`; {EXPECTED}")),
    };
    let right = match right {
        "read" => Right::Read,
        "build" => Right::Build,
        _ => return Err(format!("{right:?} is neither `read` nor `build`; {EXPECTED}")),
    };
    if let Some(odd) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-/*".contains(*c)) {
        return Err(format!("{odd:?} cannot stand in the name of an image; {EXPECTED}"));
    }
    Ok(Rule { allow, right, user: user.into(), name: name.to_ascii_lowercase() })
}

fn is_all(pattern: &str) -> bool {
    pattern.bytes().all(|b| b == b'*')
}

/// Whether the whole text fits the pattern. Goes back to the last `*` alone, so it takes at most the product of the
/// lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                p = after + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
