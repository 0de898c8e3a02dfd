//! File names as Python sees them: text in UTF-8, in which a byte that is none of it is a code point of its own, U+DC80
//! to U+DCFF ("surrogateescape", PEP 383).

use std::cmp::Ordering;

/// The code points.
pub(super) fn code_points(name: &[u8]) -> impl Iterator<Item = u32> + '_ {
    name.utf8_chunks().flat_map(|chunk| {
        let escaped = chunk.invalid().iter().map(|byte| 0xdc00 + u32::from(*byte));
        chunk.valid().chars().map(u32::from).chain(escaped)
    })
}

/// The order of Python's strings: by code point.
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { code_points(a).cmp(code_points(b)) }
}

/// `str.encode("ascii", "replace")`: a question mark for each code point that is not ASCII.
pub(super) fn ascii(name: &[u8]) -> Vec<u8> {
    code_points(name).map(|point| u8::try_from(point).ok().filter(u8::is_ascii).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecodable_bytes_sort_between_the_basic_plane_and_private_use() {
        let names: [&[u8]; 5] =
            [b"a", "\u{e9}".as_bytes(), "\u{d7ff}".as_bytes(), b"\xff", "\u{e000}".as_bytes()];
        assert!(names.is_sorted_by(|a, b| compare(a, b).is_lt()));
        assert!(!names.is_sorted(), "the order of bytes is another");
    }

    #[test]
    fn a_code_point_becomes_one_question_mark_and_so_does_a_stray_byte() {
        assert_eq!(ascii("a\u{e9}\u{1f600}b".as_bytes()), b"a??b");
        assert_eq!(ascii(b"\xe2\x82A"), b"??A");
    }
}
