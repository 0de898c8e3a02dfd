//! What a file is, by its first bytes.

use super::{ImageError, decompress::Compression, store_file::StoreFile, tar_walk};

/// Bytes that suffice to tell: a tar header's.
pub(super) const HEAD: usize = 512;

/// What a file is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Tar,
    Compressed(Compression),
}

/// Recognises a file by its first [`HEAD`] bytes (fewer if it is shorter).
pub(super) fn format(head: &[u8]) -> Option<Format> {
    // RFC 1952 §2.3.1; RFC 8878 §3.1.1 and §3.1.2 (frames to be skipped, which pzstd begins with);
    // The .xz File Format §2.1.1.1.
    if head.starts_with(&[0x1f, 0x8b, 8]) {
        return Some(Format::Compressed(Compression::Gzip));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || matches!(head, [n, 0x2a, 0x4d, 0x18, ..] if (0x50..=0x5f).contains(n))
    {
        return Some(Format::Compressed(Compression::Zstd));
    }
    if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        return Some(Format::Compressed(Compression::Xz));
    }
    // An archive without members is zeroes only.
    let empty_archive = head.len() == HEAD && head.iter().all(|b| *b == 0);
    (empty_archive || tar_walk::is_header(head)).then_some(Format::Tar)
}

/// Recognises an archive.
///
/// # Errors
///
/// [`ImageError::Unrecognised`] if it is none.
pub(super) fn archive(file: &StoreFile) -> Result<Format, ImageError> {
    let head = file.head(HEAD)?;
    let unrecognised = || ImageError::Unrecognised { path: file.path.clone(), found: describe(&head) };
    format(&head).ok_or_else(unrecognised)
}

/// Says in words what a file is that is no archive.
pub(super) fn describe(head: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 12] = [
        (b"\x7fELF", "an ELF executable or library"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"BZh", "data compressed with bzip2"),
        (b"\x04\x22\x4d\x18", "data compressed with LZ4"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (b"hsqs", "a squashfs file system"),
        (b"QFI\xfb", "a QEMU disk image"),
        (b"!<arch>\n", "an ar archive"),
        (b"\x0d\0\0\0\0\0\0\0nix-archive-1", "a Nix archive"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"%PDF-", "a PDF document"),
        (b"\x89PNG", "a PNG image"),
    ];
    if head.is_empty() {
        return "an empty file".into();
    }
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*what).into();
    }
    let text = match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        // Only the last character may be cut off.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok(),
        Err(_) => None,
    };
    let printable =
        |text: &&str| !text.is_empty() && !text.contains(|c: char| c.is_control() && !c.is_whitespace());
    let Some(text) = text.filter(printable) else {
        let bytes: Vec<_> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
        return format!("a binary file beginning with the bytes {}", bytes.join(" "));
    };
    let first_line = text.trim_start().lines().next().unwrap_or_default();
    let beginning: String = first_line.chars().take(60).collect();
    let kind = match text.trim_start().chars().next() {
        _ if text.starts_with("#!") => "a script",
        Some('{' | '[') => "a JSON file",
        _ => "a text file",
    };
    format!("{kind} beginning with {beginning:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        assert_eq!(format(&[0x1f, 0x8b, 8, 0]), Some(Format::Compressed(Compression::Gzip)));
        assert_eq!(format(&[0x28, 0xb5, 0x2f, 0xfd]), Some(Format::Compressed(Compression::Zstd)));
        assert_eq!(format(b"\xfd7zXZ\0"), Some(Format::Compressed(Compression::Xz)));
        assert_eq!(format(&[0; HEAD]), Some(Format::Tar));
        assert_eq!(format(&[0; 100]), None);
        assert_eq!(format(b"{}"), None);
    }

    #[test]
    fn everything_else_is_described() {
        assert_eq!(describe(b""), "an empty file");
        assert_eq!(describe(b"\x7fELF\x02"), "an ELF executable or library");
        assert_eq!(describe(b"#!/bin/sh\nexit\n"), "a script beginning with \"#!/bin/sh\"");
        assert_eq!(describe(b"{\"a\": 1}"), "a JSON file beginning with \"{\\\"a\\\": 1}\"");
        assert_eq!(describe("h\u{e9}llo".as_bytes()), "a text file beginning with \"h\u{e9}llo\"");
        assert_eq!(describe(&[0, 1, 0xff]), "a binary file beginning with the bytes 00 01 ff");
    }
}
