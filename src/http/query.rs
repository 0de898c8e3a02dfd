//! Percent-decoding of path segments and query parameters (RFC 3986).

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The path or the query cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// The decoded bytes are not UTF-8.
    #[error("{0:?} is not percent-encoded UTF-8")]
    NotUtf8(String),
    /// A percent sign is not followed by two hexadecimal digits.
    #[error("{0:?} has a percent sign without two hexadecimal digits after it")]
    Incomplete(String),
    /// A slash within a segment would make two of one.
    #[error("{0:?} has an encoded slash, which no component of a name can have")]
    Slash(String),
}

/// Decodes one segment of a path.
pub fn decode_segment(segment: &str) -> Result<Cow<'_, str>, EncodingError> {
    let decoded = decode(segment)?;
    // Compared with the segment itself, so that a slash can only have come from `%2F`.
    if decoded.contains('/') {
        return Err(EncodingError::Slash(cut(segment)));
    }
    Ok(decoded)
}

fn decode(s: &str) -> Result<Cow<'_, str>, EncodingError> {
    let bytes = s.as_bytes();
    let complete = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit));
    if bytes.iter().enumerate().any(|(at, b)| *b == b'%' && !complete(at)) {
        return Err(EncodingError::Incomplete(cut(s)));
    }
    percent_decode_str(s).decode_utf8().map_err(|_| EncodingError::NotUtf8(cut(s)))
}

fn cut(s: &str) -> String {
    s.chars().take(200).collect()
}

/// The value of the first query parameter called `name`, decoded as HTML forms and Go's `net/url` encode: `+` is a
/// space. All other parameters are passed over undecoded: one that nobody asks for must not disturb.
pub fn parameter(query: &str, name: &str) -> Result<Option<String>, EncodingError> {
    let value = query.split('&').map(|p| p.split_once('=').unwrap_or((p, ""))).find(|(n, _)| *n == name);
    value.map(|(_, value)| decode(&value.replace('+', " ")).map(Cow::into_owned)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_parameter_of_a_name_counts_and_others_do_not_disturb() {
        let query = "ns=docker.io&bad=%&n=1&n=2&last=a%2Fb+c";
        assert_eq!(parameter(query, "n"), Ok(Some("1".into())));
        assert_eq!(parameter(query, "last"), Ok(Some("a/b c".into())));
        assert_eq!(parameter(query, "artifactType"), Ok(None));
        assert_eq!(parameter(query, "bad"), Err(EncodingError::Incomplete("%".into())));
        assert_eq!(parameter("", "n"), Ok(None));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(s in "\\PC{0,30}") {
            let encoded = percent_encoding::utf8_percent_encode(&s, percent_encoding::NON_ALPHANUMERIC).to_string();
            match decode_segment(&encoded) {
                Ok(decoded) => prop_assert_eq!(decoded.as_ref(), s.as_str()),
                Err(e) => prop_assert!(matches!(e, EncodingError::Slash(_)) && s.contains('/')),
            }
        }

        #[test]
        fn whatever_comes_is_decoded_or_refused(s in "[%a-f0-9/]{0,20}") {
            if let Ok(decoded) = decode_segment(&s) {
                prop_assert!(!decoded.contains('/'));
            }
        }
    }
}
