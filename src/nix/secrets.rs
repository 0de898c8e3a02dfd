//! Passwords and tokens in what Nix, git and builders say.
//!
//! They quote URLs (`git+https://user:token@host/…`), headers of requests, settings, and now and then a token alone. All
//! text of theirs goes through [`hide_secrets`]: messages, lines of builds, and the references of sources.

use regex::Regex;
use std::{borrow::Cow, sync::LazyLock};

/// What stands in their place.
const HIDDEN: &str = "***";

/// A parameter with one of these in its name is nobody else's business.
const SECRET_NAMES: [&str; 7] = ["auth", "credential", "key", "passw", "secret", "signature", "token"];

/// Tokens that are known by how they begin: GitHub's and GitLab's. What follows is long enough to be no word.
static TOKENS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?x)
        (?<name> gh[a-z]_ ) [A-Za-z0-9]{16,}
        | (?<pat> github_pat_ ) [A-Za-z0-9_]{16,}
        | (?<lab> gl[a-z]{2,8}- | GR1348941 ) [A-Za-z0-9_.-]{16,}
        ",
    )
    .ok()
});

/// Values behind names: headers and settings up to the end of the line, or of the quotes that the header is in.
static VALUES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?xi)
        (?<double> " (?: (?:proxy-)?authorization | (?:private|job|deploy)-token | cookie ) [\x20\t]* : ) [\x20\t]* [^"\n]+
        | (?<single> ' (?: (?:proxy-)?authorization | (?:private|job|deploy)-token | cookie ) [\x20\t]* : ) [\x20\t]* [^'\n]+
        | (?<plain> (?: (?:proxy-)?authorization | (?:private|job|deploy)-token | access-tokens | cookie ) ["'’]? [\x20\t]* [:=] )
            [\x20\t]* [^\n]+
        | (?<words> access-tokens ["'’]? ) [\x20\t]+ ["'‘]? [^\x20\t\n=]+ = [^\n]+
        | (?<bearer> (?-u:\b) bearer ) [\x20\t]+ [a-z0-9._~+/=-]{8,}
        "#,
    )
    .ok()
});

/// The text without the user information of its URLs (RFC 3986, section 3.2.1), without query parameters that are called
/// like secrets, and without tokens and the values of headers and settings that hold some. The user of `ssh://git@host`
/// stays: it is no secret.
pub fn hide_secrets(text: &str) -> String {
    let text = hide(&VALUES, text, " ");
    let text = hide_parameters(&hide_users(&text));
    hide(&TOKENS, &text, "").into_owned()
}

/// Keeps the named part of each match, which is one.
fn hide<'a>(pattern: &Option<Regex>, text: &'a str, space: &str) -> Cow<'a, str> {
    // A constant that a test compiles.
    let Some(pattern) = pattern else { return Cow::Owned(HIDDEN.into()) };
    pattern.replace_all(text, |found: &regex::Captures<'_>| {
        let name = found.iter().skip(1).flatten().next().map_or("", |name| name.as_str());
        format!("{name}{space}{HIDDEN}")
    })
}

fn hide_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        out.push_str(before);
        let authority = &after[..after.find(ends_authority).unwrap_or(after.len())];
        rest = after;
        if let Some((user, _)) = authority.rsplit_once('@') {
            let public = before.ends_with("ssh://") && !user.contains(':');
            out.push_str(if public { user } else { HIDDEN });
            rest = &after[user.len()..];
        }
    }
    out.push_str(rest);
    out
}

fn hide_parameters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['?', '&']) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after;
        let name =
            &after[..after.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.%".contains(c)).unwrap_or(0)];
        let lower = name.to_ascii_lowercase();
        if let Some(value) = after[name.len()..].strip_prefix('=')
            && SECRET_NAMES.iter().any(|secret| lower.contains(secret))
        {
            out.push_str(name);
            out.push('=');
            out.push_str(HIDDEN);
            rest = &value[value.find(|c| c == '&' || c == '#' || ends_url(c)).unwrap_or(value.len())..];
        }
    }
    out.push_str(rest);
    out
}

fn ends_authority(c: char) -> bool {
    matches!(c, '/' | '?' | '#') || ends_url(c)
}

fn ends_url(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"'`<>\\‘’“”".contains(c)
}

#[cfg(test)]
mod tests {
    use super::hide_secrets;
    use proptest::prelude::*;

    #[test]
    fn what_opens_doors_is_hidden_and_nothing_else() {
        for (text, shown) in [
            ("git+https://user:s3cret@host/r.git?ref=main", "git+https://***@host/r.git?ref=main"),
            ("see 'https://ghp_s3cret@host:8443/r': 403", "see 'https://***@host:8443/r': 403"),
            ("https://user:s3@cret@host, then http://a:s3cret@b", "https://***@host, then http://***@b"),
            ("git+ssh://git@host/r and ssh://git:s3cret@host", "git+ssh://git@host/r and ssh://***@host"),
            ("https://host/a?private_token=s3cret&dir=x#y", "https://host/a?private_token=***&dir=x#y"),
            ("‘https://host/a?dir=x&X-Amz-Signature=s3cret’", "‘https://host/a?dir=x&X-Amz-Signature=***’"),
            ("github:o/r?access_token=s3cret", "github:o/r?access_token=***"),
            ("https://host/a@b c@d ?x=y&key", "https://host/a@b c@d ?x=y&key"),
            ("://@", "://***@"),
            ("error: token ghp_s3aaaaaaaaaaaaaaaaaaaa0 is bad", "error: token ghp_*** is bad"),
            ("(github_pat_s3AA_aaaaaaaaaaaaaaaa)glpat-s3aaaaaaaaaa-aaaaaaa", "(github_pat_***)glpat-***"),
            ("xghs_s3aaaaaaaaaaaaaaaaaaaaa, highs_and_lows", "xghs_***, highs_and_lows"),
            ("Authorization: Basic s3cret\nnext: line", "Authorization: ***\nnext: line"),
            ("curl -H 'PRIVATE-TOKEN: s3cret' https://host", "curl -H 'PRIVATE-TOKEN: ***' https://host"),
            (r#"{"authorization": "token s3cret"}"#, r#"{"authorization": ***"#),
            ("-H \"authorization:Bearer s3cret\" x", "-H \"authorization: ***\" x"),
            ("sent Bearer s3cret.s3cret, got 401", "sent Bearer ***, got 401"),
            ("extra-access-tokens = github.com=s3cret gitlab.com=PAT:s3cret", "extra-access-tokens = ***"),
            ("--option access-tokens 'github.com=s3cret' x", "--option access-tokens ***"),
            ("the option 'access-tokens' is not valid", "the option 'access-tokens' is not valid"),
            ("the bearer of this", "the bearer of this"),
            ("builder for 'authorization-1.0.drv' failed", "builder for 'authorization-1.0.drv' failed"),
        ] {
            assert_eq!(hide_secrets(text), shown);
            assert!(!hide_secrets(text).contains("s3"));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_twice_is_once(
            text in "[a&?=:/@ é'k]{0,40}|\\PC{0,40}|(bearer|authorization|'|\"|:|=| |\n|access-tokens|cookie|aaaaaaaa|ghp_|glpat-|x@|://){0,12}"
        ) {
            let once = hide_secrets(&text);
            prop_assert_eq!(hide_secrets(&once), once);
        }

        #[test]
        fn no_token_survives(
            before in "\\PC{0,20}",
            prefix in "ghp_|gho_|ghu_|ghs_|ghr_|github_pat_|glpat-",
            token in "[A-Za-z0-9]{20,40}",
            after in "\\PC{0,20}",
        ) {
            let shown = hide_secrets(&format!("{before}{prefix}{token}{after}"));
            prop_assert!(!shown.contains(&token), "{shown}");
        }

        #[test]
        fn no_value_of_a_header_or_setting_survives(
            before in "\\PC{0,20}\n?",
            name in "Authorization: |authorization:|AUTHORIZATION : Basic |Bearer |bearer  |PRIVATE-TOKEN: |access-tokens = github.com=|access-tokens=x=",
            value in "[A-Za-z0-9]{20,40}",
            after in "(\n\\PC{0,20})?",
        ) {
            let shown = hide_secrets(&format!("{before} {name}{value}{after}"));
            prop_assert!(!shown.contains(&value), "{shown}");
        }
    }
}
