//! Conditional requests by entity tag (RFC 9110, sections 8.8 and 13).
//!
//! ```text
//! If-Match, If-None-Match = "*" / #entity-tag
//! If-Range                = entity-tag / HTTP-date
//! entity-tag              = [ "W/" ] DQUOTE *etagc DQUOTE
//! ```
//! The tag of everything served here is its digest in quotes: a strong one, since the bytes cannot differ, and a weak
//! one of what is encoded on the way. There are no dates: an output of Nix is dated 1970, so `Last-Modified` would say nothing.

use crate::oci::Digest;
use http::{HeaderMap, HeaderValue, header};

/// `"<digest>"`.
pub fn entity_tag(digest: &Digest) -> HeaderValue {
    // A digest is printable ASCII without quotes.
    HeaderValue::try_from(format!("\"{digest}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// `W/"<digest>"`.
pub fn weak_entity_tag(digest: &Digest) -> HeaderValue {
    HeaderValue::try_from(format!("W/\"{digest}\"")).unwrap_or_else(|_| HeaderValue::from_static("W/\"\""))
}

/// What the conditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client has this already.
    NotModified,
    /// 412: the client wants something else.
    PreconditionFailed,
}

/// Evaluates `If-Match`, then `If-None-Match` (RFC 9110, section 13.2.2) for existing content of this digest.
pub fn evaluate(headers: &HeaderMap, digest: &Digest) -> Outcome {
    let tag = digest.to_string();
    if headers.contains_key(header::IF_MATCH) && !lists(headers, &header::IF_MATCH, &tag, false) {
        return Outcome::PreconditionFailed;
    }
    if lists(headers, &header::IF_NONE_MATCH, &tag, true) {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// Whether a `Range` may be honoured: there is no `If-Range`, or it is the strong entity tag of this content. A date
/// never matches, as nothing here has one.
pub fn range_applies(headers: &HeaderMap, digest: &Digest) -> bool {
    let mut values = headers.get_all(header::IF_RANGE).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => *value == entity_tag(digest),
        (Some(_), Some(_)) => false,
    }
}

fn lists(headers: &HeaderMap, name: &header::HeaderName, tag: &str, weak_matches: bool) -> bool {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).any(|line| {
        line.trim_matches([' ', '\t']) == "*"
            || tags(line).any(|(weak, opaque)| opaque == tag && (weak_matches || !weak))
    })
}

/// The entity tags of a line, each with whether it is weak, as far as the line follows the grammar.
fn tags(line: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let s = rest.trim_start_matches([' ', '\t', ',']);
        let (weak, s) = s.strip_prefix("W/").map_or((false, s), |s| (true, s));
        // A backslash does not escape here, and a comma may stand between the quotes.
        let (opaque, after) = s.strip_prefix('"')?.split_once('"')?;
        rest = after;
        Some((weak, opaque))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAG: &str = "\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn check(name: header::HeaderName, value: &str) -> Outcome {
        evaluate(&headers(&[(name, value)]), &Digest::of(b""))
    }

    #[test]
    fn the_entity_tag_is_the_digest_in_quotes() {
        assert_eq!(entity_tag(&Digest::of(b"")), TAG);
    }

    #[test]
    fn a_client_that_has_the_content_is_told_so() {
        let matching = [
            "*",
            " * ",
            TAG,
            &format!("W/{TAG}"),
            &format!("\"a,b\", {TAG}"),
            &format!("W/\"x\",,\t{TAG} , \"y\""),
        ];
        for value in matching {
            assert_eq!(check(header::IF_NONE_MATCH, value), Outcome::NotModified, "{value}");
        }
        for value in ["", "\"\"", "\"sha256:\"", TAG.trim_matches('"'), &TAG[..20], &format!("\"x{TAG}")] {
            assert_eq!(check(header::IF_NONE_MATCH, value), Outcome::Proceed, "{value}");
        }
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        assert_eq!(check(header::IF_MATCH, "*"), Outcome::Proceed);
        assert_eq!(check(header::IF_MATCH, TAG), Outcome::Proceed);
        assert_eq!(check(header::IF_MATCH, &format!("W/{TAG}")), Outcome::PreconditionFailed);
        assert_eq!(check(header::IF_MATCH, "\"other\""), Outcome::PreconditionFailed);
        let both = headers(&[(header::IF_MATCH, "\"other\""), (header::IF_NONE_MATCH, TAG)]);
        assert_eq!(evaluate(&both, &Digest::of(b"")), Outcome::PreconditionFailed);
    }

    #[test]
    fn a_range_depends_on_the_strong_tag_alone() {
        let applies = |value: &str| range_applies(&headers(&[(header::IF_RANGE, value)]), &Digest::of(b""));
        assert!(range_applies(&HeaderMap::new(), &Digest::of(b"")));
        assert!(applies(TAG));
        for value in [&format!("W/{TAG}"), "*", "\"other\"", "Thu, 01 Jan 1970 00:00:01 GMT", ""] {
            assert!(!applies(value), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "[ -~]{0,60}") {
            let _ = check(header::IF_NONE_MATCH, &line);
            let _ = check(header::IF_MATCH, &line);
        }
    }
}
