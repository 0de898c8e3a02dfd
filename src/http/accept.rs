//! Which form of a manifest a client takes (RFC 9110, sections 5.6, 8.3.1 and 12.5.1).
//!
//! ```text
//! Accept      = #( media-range [ weight ] )
//! media-range = ( "*/*" / ( type "/" "*" ) / ( type "/" subtype ) ) parameters
//! weight      = OWS ";" OWS "q=" qvalue
//! qvalue      = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
//! ```

use crate::{metrics, oci::Document};
use http::{HeaderMap, header};

/// The media ranges that a client accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// `None` when there is no `Accept` header at all, which accepts everything.
    ranges: Option<Vec<MediaRange>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct MediaRange {
    /// Lower case; `*` for any.
    kind: String,
    /// Lower case; `*` for any.
    subtype: String,
    /// Parameters other than `q`. None of the types that are served here has any, so such a range matches none.
    has_parameters: bool,
    /// Thousandths.
    weight: u16,
}

impl Accept {
    /// Reads all `Accept` header lines. Items that are malformed are passed over.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        if !headers.contains_key(header::ACCEPT) {
            return Self { ranges: None };
        }
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
        let ranges = lines.flat_map(|line| split(line, b',')).filter_map(MediaRange::parse).collect();
        Self { ranges: Some(ranges) }
    }

    /// Whether a type without parameters is accepted: the most specific range that matches it decides, and `q=0`
    /// there means that it is not.
    pub fn accepts(&self, media_type: &str) -> bool {
        let Some(ranges) = &self.ranges else { return true };
        let Some((kind, subtype)) = media_type.split_once('/') else { return false };
        let best = ranges
            .iter()
            .filter_map(|r| Some((r.specificity(kind, subtype)?, r.weight)))
            // Of two equally specific ones, that with the greater weight.
            .max();
        best.is_some_and(|(_, weight)| weight > 0)
    }

    /// The document to answer with: the first, which is the OCI form, unless the client takes only a later one.
    ///
    /// A client that takes none of them gets the first all the same. The specification knows no 406, RFC 9110
    /// (section 12.5.1) lets a server disregard the header, and whoever typed `curl -H 'Accept: text/html'` is
    /// helped more by the manifest than by an error.
    pub fn choose<'a>(&self, documents: &'a [Document]) -> Option<&'a Document> {
        documents.iter().find(|d| self.accepts(&d.media_type)).or(documents.first())
    }
}

/// The format of metrics for this client: the newer one if it names it.
pub fn metrics_format(headers: &HeaderMap) -> metrics::Format {
    let ranges = Accept::from_headers(headers).ranges.unwrap_or_default();
    let named = |range: &MediaRange| {
        (range.kind.as_str(), range.subtype.as_str()) == ("application", "openmetrics-text")
            && range.weight > 0
    };
    if ranges.iter().any(named) { metrics::Format::OpenMetrics } else { metrics::Format::Prometheus }
}

impl MediaRange {
    fn parse(item: &str) -> Option<Self> {
        let mut parts = split(item, b';');
        let (kind, subtype) = parts.next()?.trim_matches(OWS).split_once('/')?;
        let valid = is_token(kind) && is_token(subtype) && (kind != "*" || subtype == "*");
        let mut range = Self {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            has_parameters: false,
            weight: 1000,
        };
        for part in parts {
            let part = part.trim_matches(OWS);
            if part.is_empty() {
                continue;
            }
            let (name, value) = part.split_once('=')?;
            if name.eq_ignore_ascii_case("q") {
                range.weight = weight(value)?;
                // What stands behind the weight were extensions of Accept once (RFC 7231), not parameters of the type.
                break;
            }
            if !is_token(name) || !(is_token(value) || is_quoted(value)) {
                return None;
            }
            range.has_parameters = true;
        }
        valid.then_some(range)
    }

    /// How closely the range matches a type without parameters; `None` if it does not.
    fn specificity(&self, kind: &str, subtype: &str) -> Option<u8> {
        if self.has_parameters {
            return None;
        }
        let same = |range: &str, part: &str| range.eq_ignore_ascii_case(part);
        match (self.kind.as_str(), self.subtype.as_str()) {
            ("*", _) => Some(0),
            (k, "*") if same(k, kind) => Some(1),
            (k, s) if same(k, kind) && same(s, subtype) => Some(2),
            _ => None,
        }
    }
}

/// Optional white space.
pub(super) const OWS: [char; 2] = [' ', '\t'];

/// Splits at `separator` outside of quoted strings.
pub(super) fn split(s: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(s);
    std::iter::from_fn(move || {
        let s = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = s.bytes().position(|b| {
            let literal = std::mem::take(&mut escaped);
            match b {
                b'\\' if quoted && !literal => escaped = true,
                b'"' if !literal => quoted = !quoted,
                _ => {}
            }
            b == separator && !quoted
        });
        rest = end.map(|end| &s[end + 1..]);
        Some(end.map_or(s, |end| &s[..end]))
    })
}

pub(super) fn is_token(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_quoted(s: &str) -> bool {
    s.len() >= 2 && s.starts_with('"') && s.ends_with('"')
}

/// Thousandths.
pub(super) fn weight(s: &str) -> Option<u16> {
    let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media_type::{DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST};
    use http::HeaderValue;
    use proptest::prelude::*;

    fn accept(lines: &[&str]) -> Accept {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Accept::from_headers(&headers)
    }

    fn form(lines: &[&str]) -> String {
        let documents = [Document::new(OCI_MANIFEST, "oci"), Document::new(DOCKER_MANIFEST, "docker")];
        accept(lines).choose(&documents).unwrap().media_type.clone()
    }

    #[test]
    fn the_docker_form_is_for_those_who_do_not_take_the_oci_form() {
        let oci: [&[&str]; 12] = [
            &[],
            &["*/*"],
            &["application/*"],
            &["text/html"],
            &[""],
            &["nonsense"],
            &[OCI_MANIFEST],
            &[DOCKER_MANIFEST, OCI_MANIFEST],
            &[
                "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json;q=0.1",
            ],
            &["application/vnd.docker.distribution.manifest.v2+json, */*;q=0.001"],
            &[
                "APPLICATION/VND.OCI.IMAGE.MANIFEST.V1+JSON , application/vnd.docker.distribution.manifest.v2+json",
            ],
            &[
                "application/vnd.oci.image.manifest.v1+json;q=0, application/vnd.docker.distribution.manifest.v2+json;q=0",
            ],
        ];
        for lines in oci {
            assert_eq!(form(lines), OCI_MANIFEST, "{lines:?}");
        }
        let docker: [&[&str]; 6] = [
            &[DOCKER_MANIFEST],
            &["text/html", DOCKER_MANIFEST],
            &["application/vnd.oci.image.manifest.v1+json;q=0, */*"],
            &["application/vnd.oci.image.manifest.v1+json ; Q=0.000 ,application/*;q=0.5"],
            &[
                "application/vnd.oci.image.manifest.v1+json;q=nonsense, application/vnd.docker.distribution.manifest.v2+json",
            ],
            &[
                "x/y;a=\"q,\\\",application/vnd.oci.image.manifest.v1+json,\", application/vnd.docker.distribution.manifest.v2+json",
            ],
        ];
        for lines in docker {
            assert_eq!(form(lines), DOCKER_MANIFEST, "{lines:?}");
        }
    }

    #[test]
    fn the_headers_of_real_clients_lead_to_the_oci_form() {
        let containerd = "application/vnd.docker.distribution.manifest.v2+json, \
            application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
            application/vnd.oci.image.index.v1+json, */*";
        assert_eq!(form(&[containerd]), OCI_MANIFEST);
        // skopeo and podman: a line each.
        assert_eq!(form(&[OCI_MANIFEST, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX]), OCI_MANIFEST);
    }

    #[test]
    fn weights_follow_the_grammar() {
        let valid = [("0", 0), ("0.", 0), ("0.5", 500), ("0.001", 1), ("1", 1000), ("1.000", 1000)];
        for (s, expected) in valid {
            assert_eq!(weight(s), Some(expected), "{s}");
        }
        for s in ["", "2", "1.001", "0.0001", "-1", ".5", "0.5x", "00", "1e0", "\"1\""] {
            assert_eq!(weight(s), None, "{s}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read(line in "[ -~]{0,80}") {
            let _ = form(&[&line]);
        }

        #[test]
        fn the_most_specific_range_decides(
            exact in proptest::option::of(0..=10u16),
            kind in proptest::option::of(0..=10u16),
            any in proptest::option::of(0..=10u16),
            other in proptest::option::of(0..=10u16),
            order in Just([0usize, 1, 2, 3]).prop_shuffle(),
            one_line in any::<bool>(),
        ) {
            let items = [(OCI_MANIFEST, exact), ("application/*", kind), ("*/*", any), ("text/plain", other)];
            let items: Vec<String> = order
                .iter()
                .filter_map(|i| items[*i].1.map(|q| format!("{} ; q={}.{}", items[*i].0, q / 10, q % 10)))
                .collect();
            let expected = exact.or(kind).or(any).is_some_and(|q| q > 0);
            let joined = items.join("\t,,");
            let lines: Vec<&str> =
                if one_line { vec![&joined] } else { items.iter().map(String::as_str).collect() };
            let none = lines.is_empty();
            prop_assert_eq!(accept(&lines).accepts(OCI_MANIFEST), expected || none);
        }
    }
}
