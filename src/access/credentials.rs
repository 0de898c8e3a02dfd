//! What a request says of who sends it: `Authorization` (RFC 9110, section 11.6.2) with `Basic` (RFC 7617) or `Bearer`
//! (RFC 6750).

use super::rules::ANONYMOUS;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};

/// What is claimed. There is deliberately no way to print one.
pub enum Credentials {
    /// Nothing.
    None,
    /// To be nobody in particular. That is what `podman` sends that has not logged in, an empty user with an empty
    /// password, and what `docker login -u anonymous` makes docker send, which sends nothing of its own accord.
    Anonymous,
    /// To be a user.
    Basic {
        /// The user's name.
        user: String,
        /// The password, or a token.
        password: String,
    },
    /// To have a token.
    Bearer(String),
    /// Something else.
    Unreadable,
}

impl Credentials {
    /// What the headers say.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::None,
            (Some(value), None) => value.to_str().ok().and_then(parse).unwrap_or(Self::Unreadable),
            (Some(_), Some(_)) => Self::Unreadable,
        }
    }
}

fn parse(value: &str) -> Option<Credentials> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return (!rest.is_empty()).then(|| Credentials::Bearer(rest.into()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    if user == ANONYMOUS || (user.is_empty() && password.is_empty()) {
        return Some(Credentials::Anonymous);
    }
    Some(Credentials::Basic { user: user.into(), password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn shown(lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        match Credentials::from_headers(&headers) {
            Credentials::None => "none".into(),
            Credentials::Anonymous => "anonymous".into(),
            Credentials::Basic { user, password } => format!("basic {user} {password}"),
            Credentials::Bearer(token) => format!("bearer {token}"),
            Credentials::Unreadable => "unreadable".into(),
        }
    }

    #[test]
    fn what_is_claimed_is_understood() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (line, expected) in [
            (basic("alice:pass:word"), "basic alice pass:word"),
            (basic("alice:"), "basic alice "),
            (basic("alice:\u{fc}"), "basic alice \u{fc}"),
            (basic(":"), "anonymous"),
            (basic("anonymous:x"), "anonymous"),
            (basic(":x"), "basic  x"),
            (basic("alice"), "unreadable"),
            ("basic YWxpY2U6eA==".into(), "basic alice x"),
            ("BASIC   YWxpY2U6eA==".into(), "basic alice x"),
            ("Basic YWxpY2U6eA".into(), "unreadable"),
            ("Basic //79".into(), "unreadable"),
            ("Basic".into(), "unreadable"),
            ("Bearer abc".into(), "bearer abc"),
            ("Bearer ".into(), "unreadable"),
            ("Digest x".into(), "unreadable"),
            ("".into(), "unreadable"),
        ] {
            assert_eq!(shown(&[&line]), expected, "{line}");
        }
        assert_eq!(shown(&[]), "none");
        assert_eq!(shown(&["Bearer a", "Bearer b"]), "unreadable");
    }

    proptest! {
        #[test]
        fn any_header_is_read(line in "(Basic |Bearer )?[ -~]{0,60}") {
            let _ = shown(&[&line]);
        }
    }
}
