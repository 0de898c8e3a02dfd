//! Passwords and tokens in URLs, such as `git+https://user:token@host/…`: Nix and git quote the URL in what they say.

/// What stands in their place.
const HIDDEN: &str = "***";

/// A parameter with one of these in its name is nobody else's business.
const SECRET_NAMES: [&str; 7] = ["auth", "credential", "key", "passw", "secret", "signature", "token"];

/// The text without the user information of its URLs (RFC 3986, section 3.2.1) and without query parameters that are
/// called like secrets. The user of `ssh://git@host` stays: it is no secret.
pub fn hide_secrets(text: &str) -> String {
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
    hide_parameters(&out)
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
        ] {
            assert_eq!(hide_secrets(text), shown);
            assert!(!hide_secrets(text).contains("s3"));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_twice_is_once(text in "[a&?=:/@ é'k]{0,40}|\\PC{0,40}") {
            let once = hide_secrets(&text);
            prop_assert_eq!(hide_secrets(&once), once);
        }
    }
}
