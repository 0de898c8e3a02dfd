//! Which content coding a client takes (RFC 9110, section 12.5.3).
//!
//! ```text
//! Accept-Encoding = #( codings [ weight ] )
//! codings         = content-coding / "identity" / "*"
//! ```

use super::accept::{OWS, is_token, split, weight};
use crate::encode::Coding;
use http::{HeaderMap, header};

/// The coding to answer with; none to send the bytes as they are.
///
/// A client gets what it asks for by its name, of several with the same weight the first here. One that sends `*` need
/// not know how to decode anything: it gets the bytes as they are, unless it refuses these. If nothing at all will do,
/// they are sent all the same, as there is nothing better to say.
pub fn choose(headers: &HeaderMap) -> Option<Coding> {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let items: Vec<(&str, u16)> = lines.flat_map(|line| split(line, b',')).filter_map(parse).collect();
    let weight_of = |names: &[&str]| {
        let named = items.iter().filter(|(name, _)| names.iter().any(|n| n.eq_ignore_ascii_case(name)));
        named.map(|(_, weight)| *weight).max()
    };
    let codings = [(Coding::Zstd, weight_of(&["zstd"])), (Coding::Gzip, weight_of(&["gzip", "x-gzip"]))];
    let (mut chosen, mut best) = (None, 0);
    for (coding, weight) in codings {
        if weight.is_some_and(|weight| weight > best) {
            (chosen, best) = (Some(coding), weight.unwrap_or(0));
        }
    }
    let (identity, any) = (weight_of(&["identity"]), weight_of(&["*"]));
    if chosen.is_some() {
        // Not named, the bytes as they are come last.
        return chosen.filter(|_| best >= identity.unwrap_or(0));
    }
    let refused = identity == Some(0);
    let unnamed = codings.iter().rev().find(|(_, weight)| weight.is_none());
    unnamed.filter(|_| refused && any > Some(0)).map(|(coding, _)| *coding)
}

/// An item's name and weight; none if it is malformed.
fn parse(item: &str) -> Option<(&str, u16)> {
    let mut parts = item.split(';');
    let name = parts.next()?.trim_matches(OWS);
    let weight = match parts.next() {
        None => 1000,
        Some(parameter) => {
            let (q, value) = parameter.trim_matches(OWS).split_once('=')?;
            if !q.eq_ignore_ascii_case("q") {
                return None;
            }
            weight(value)?
        }
    };
    (is_token(name) && parts.next().is_none()).then_some((name, weight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn chosen(lines: &[&str]) -> Option<Coding> {
        let line = |line: &&str| (header::ACCEPT_ENCODING, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        choose(&lines.iter().map(line).collect())
    }

    #[test]
    fn a_client_gets_the_coding_that_it_prefers_of_those_that_it_names() {
        let zstd: [&[&str]; 7] = [
            &["zstd"],
            &["gzip, zstd"],
            &["gzip", "zstd"],
            // containerd
            &["zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"],
            // browsers
            &["gzip, deflate, br, zstd"],
            &["ZSTD ; Q=0.001 , br"],
            &["identity;q=0.5, zstd;q=0.5"],
        ];
        for lines in zstd {
            assert_eq!(chosen(lines), Some(Coding::Zstd), "{lines:?}");
        }
        let gzip: [&[&str]; 7] = [
            // Go
            &["gzip"],
            &["x-gzip"],
            &["zstd;q=0.5, gzip;q=0.6"],
            &["zstd;q=0, gzip"],
            &["zstd;q=1.5, gzip;q=0.1"],
            &["gzip;q=0.1, identity;q=0, *;q=0"],
            &["identity;q=0, *;q=0.1"],
        ];
        for lines in gzip {
            assert_eq!(chosen(lines), Some(Coding::Gzip), "{lines:?}");
        }
        let identity: [&[&str]; 13] = [
            &[],
            &[""],
            // docker
            &["identity"],
            &["*"],
            &["br, deflate"],
            &["gzip;q=0"],
            &["gzip;q=0.5, identity"],
            &["gzip;q=0.5, identity;q=0.6, zstd;q=0.4"],
            &["gzip;level=1"],
            &["gzip;q=0.5;x=1"],
            // Nothing will do.
            &["identity;q=0"],
            &["*;q=0"],
            &["identity;q=0, zstd;q=0, gzip;q=0, *"],
        ];
        for lines in identity {
            assert_eq!(chosen(lines), None, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read(line in "[ -~]{0,80}") {
            let _ = chosen(&[&line]);
        }

        #[test]
        fn the_greatest_weight_decides(
            zstd in proptest::option::of(0..=10u16),
            gzip in proptest::option::of(0..=10u16),
            identity in proptest::option::of(0..=10u16),
            any in proptest::option::of(0..=10u16),
            order in Just([0usize, 1, 2, 3]).prop_shuffle(),
            one_line in any::<bool>(),
        ) {
            let items = [("zstd", zstd), ("gzip", gzip), ("identity", identity), ("*", any)];
            let items: Vec<String> = order
                .iter()
                .filter_map(|i| items[*i].1.map(|q| format!("{} ; q={}.{}", items[*i].0, q / 10, q % 10)))
                .collect();
            let joined = items.join("\t,,");
            let lines: Vec<&str> =
                if one_line { vec![&joined] } else { items.iter().map(String::as_str).collect() };
            let must = identity == Some(0) && any > Some(0);
            let expected = match zstd.max(gzip).unwrap_or(0) {
                0 if must && gzip.is_none() => Some(Coding::Gzip),
                0 if must && zstd.is_none() => Some(Coding::Zstd),
                0 => None,
                best if Some(best) < identity => None,
                best if Some(best) == zstd => Some(Coding::Zstd),
                _ => Some(Coding::Gzip),
            };
            prop_assert_eq!(chosen(&lines), expected);
        }
    }
}
