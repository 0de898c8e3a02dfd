//! Byte ranges (RFC 9110, section 14).
//!
//! ```text
//! Range      = "bytes" "=" 1#( int-range / suffix-range )
//! int-range  = 1*DIGIT "-" [ 1*DIGIT ]
//! suffix-range = "-" 1*DIGIT
//! ```

use std::ops::Range;

/// More ranges than this in one request are refused like ranges beyond the end. No client sends more than a few; a
/// list that costs more to answer than to ask is an attack (section 17.15).
pub const MAX_RANGES: usize = 64;

/// What a `Range` header means for content of a certain length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// The header is not one of byte ranges, or does not follow the grammar: it is ignored, as section 14.2 says.
    Whole,
    /// One part; never empty.
    One(Range<u64>),
    /// Several parts, at least two, that neither overlap nor touch, in the order that they were asked for.
    Many(Vec<Range<u64>>),
    /// No part lies in the content: 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` header for content of `length` bytes.
pub fn parse(value: &str, length: u64) -> Ranges {
    let Some((unit, set)) = value.split_once('=') else { return Ranges::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Ranges::Whole;
    }
    let items = || set.split(',').map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty());
    if items().nth(MAX_RANGES).is_some() {
        return Ranges::Unsatisfiable;
    }
    let mut parts = Vec::new();
    let mut any = false;
    for item in items() {
        any = true;
        match one(item, length) {
            None => return Ranges::Whole,
            Some(part) if part.is_empty() => {}
            Some(part) => parts.push(part),
        }
    }
    let mut parts = coalesce(parts);
    match parts.len() {
        _ if !any => Ranges::Whole,
        0 => Ranges::Unsatisfiable,
        1 => Ranges::One(parts.swap_remove(0)),
        _ => Ranges::Many(parts),
    }
}

/// One item; empty if it lies beyond the end, `None` if it does not follow the grammar.
fn one(item: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = item.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(length.saturating_sub(suffix)..length);
    }
    let first = number(first)?;
    let end = match last {
        "" => length,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(length)
        }
    };
    // Beyond the end, `first` is greater than `end`, which is an empty range.
    Some(first..end)
}

/// Digits; as many as do not fit are a very large number.
fn number(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Joins parts that overlap or touch. A joined part takes the place of the first of those that went into it.
fn coalesce(mut parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(parts.len());
    let order = parts.clone();
    parts.sort_by_key(|part| part.start);
    for part in parts {
        match joined.last_mut() {
            Some(before) if part.start <= before.end => before.end = before.end.max(part.end),
            _ => joined.push(part),
        }
    }
    joined.sort_by_cached_key(|whole| order.iter().position(|part| whole.contains(&part.start)));
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        let table = [
            ("bytes=0-499", Ranges::One(0..500)),
            ("bytes=500-999", Ranges::One(500..1000)),
            ("bytes=-500", Ranges::One(9500..10000)),
            ("bytes=9500-", Ranges::One(9500..10000)),
            ("bytes=0-0,-1", Ranges::Many(vec![0..1, 9999..10000])),
            ("bytes= 0-999, 4500-5499, -1000", Ranges::Many(vec![0..1000, 4500..5500, 9000..10000])),
            ("bytes=500-600,601-999", Ranges::One(500..1000)),
            ("bytes=500-700,601-999", Ranges::One(500..1000)),
        ];
        for (value, expected) in table {
            assert_eq!(parse(value, 10000), expected, "{value}");
        }
    }

    #[test]
    fn ranges_are_clamped_and_what_lies_beyond_is_unsatisfiable() {
        let table = [
            ("bytes=0-99999999999999999999999999", 10, Ranges::One(0..10)),
            ("bytes=-99999999999999999999999999", 10, Ranges::One(0..10)),
            ("bytes=9-", 10, Ranges::One(9..10)),
            ("BYTES=9-9", 10, Ranges::One(9..10)),
            ("bytes=10-", 10, Ranges::Unsatisfiable),
            ("bytes=10-20,30-", 10, Ranges::Unsatisfiable),
            ("bytes=10-,5-5", 10, Ranges::One(5..6)),
            ("bytes=-0", 10, Ranges::Unsatisfiable),
            ("bytes=0-", 0, Ranges::Unsatisfiable),
            ("bytes=0-0", 0, Ranges::Unsatisfiable),
            ("bytes=-1", 0, Ranges::Unsatisfiable),
            ("bytes=8-9,1-2,,3-4", 10, Ranges::Many(vec![8..10, 1..5])),
        ];
        for (value, length, expected) in table {
            assert_eq!(parse(value, length), expected, "{value} of {length}");
        }
    }

    #[test]
    fn what_does_not_follow_the_grammar_is_ignored() {
        let values = [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0-1,x",
            "bytes=1",
            "lines=0-1",
            "bytes=0x0-1",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=--1",
            "bytes=1-2-3",
            "bytes 0-1",
        ];
        for value in values {
            assert_eq!(parse(value, 10), Ranges::Whole, "{value}");
        }
    }

    #[test]
    fn too_many_ranges_are_refused() {
        let ranges = |n: usize| (0..n).map(|i| format!("{0}-{0}", 2 * i)).collect::<Vec<_>>().join(",");
        assert!(
            matches!(parse(&format!("bytes={}", ranges(64)), 1000), Ranges::Many(parts) if parts.len() == 64)
        );
        assert_eq!(parse(&format!("bytes={}", ranges(65)), 1000), Ranges::Unsatisfiable);
    }

    /// Which bytes are asked for, one by one.
    fn naive(specs: &[(Option<u64>, Option<u64>)], length: u64) -> Vec<u64> {
        let asked = |at: u64| {
            specs.iter().any(|spec| match *spec {
                (Some(first), Some(last)) => first <= at && at <= last,
                (Some(first), None) => first <= at,
                (None, Some(suffix)) => at + suffix >= length,
                (None, None) => false,
            })
        };
        (0..length).filter(|at| asked(*at)).collect()
    }

    fn spec() -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
        prop_oneof![
            (0..40u64, 0..40u64).prop_map(|(a, b)| (Some(a.min(b)), Some(a.max(b)))),
            (0..40u64).prop_map(|a| (Some(a), None)),
            (0..40u64).prop_map(|a| (None, Some(a))),
        ]
    }

    proptest! {
        #[test]
        fn exactly_the_bytes_asked_for_are_given_once(
            specs in proptest::collection::vec(spec(), 1..6),
            length in 0..32u64,
        ) {
            let number = |n: &Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
            let items: Vec<_> = specs.iter().map(|(a, b)| format!("{}-{}", number(a), number(b))).collect();
            let parts = match parse(&format!("bytes={}", items.join(", ")), length) {
                Ranges::Whole => return Err(TestCaseError::fail("the grammar was followed")),
                Ranges::Unsatisfiable => vec![],
                Ranges::One(part) => vec![part],
                Ranges::Many(parts) => {
                    prop_assert!(parts.len() > 1);
                    parts
                }
            };
            prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            let mut given: Vec<u64> = parts.iter().cloned().flatten().collect();
            given.sort_unstable();
            prop_assert_eq!(given, naive(&specs, length));
            let mut sorted = parts;
            sorted.sort_by_key(|part| part.start);
            prop_assert!(sorted.windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn any_value_is_read(value in "(bytes=)?[0-9a-z,= -]{0,40}", length in any::<u64>()) {
            let _ = parse(&value, length);
        }
    }
}
