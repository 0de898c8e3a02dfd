//! Headers as Go's `archive/tar` writes them when it is left to choose a format: USTAR if that can hold everything, else
//! PAX. (Go, `src/archive/tar`: `Header.allowedFormats`, `Writer.WriteHeader`, `splitUSTARPath`.)
//!
//! Names are written as they are: a folder's ends in a slash only if the entry's does. USTAR can hold a name of up to 255
//! bytes, cut at a slash. The extended header of `a/b` is named `a/PaxHeaders.0/b`, and has its records sorted. Go's third
//! format, GNU's, is for modes of more than seven octal digits only, and such modes are refused.

use super::{Fields, Records, owner, pad, type_of};
use crate::layer::{Entry, Style};
use std::borrow::Cow;

/// The lengths of the fields for a name and its prefix.
const NAME: usize = 100;
const PREFIX: usize = 155;

pub(super) fn write(out: &mut Vec<u8>, style: &Style, entry: &Entry) {
    let name = entry.name.as_slice();
    let (kind, link) = type_of(entry);
    let owner = owner(style, entry);

    // In the order of their keys.
    let mut records = Records::default();
    let gid = records.number("gid", owner.gid.into(), 8);
    records.text("gname", owner.gname.as_bytes(), 32);
    records.text("linkpath", link, NAME);
    let mtime = records.number("mtime", style.mtime.into(), 12);
    records.text("path", name, NAME);
    let size = records.number("size", entry.size().into(), 12);
    let uid = records.number("uid", owner.uid.into(), 8);
    records.text("uname", owner.uname.as_bytes(), 32);

    let mut fields = Fields {
        name: shown(name, NAME),
        mode: entry.mode,
        uid,
        gid,
        size,
        mtime,
        kind,
        link: shown(link, NAME),
        uname: shown(owner.uname.as_bytes(), 32),
        gname: shown(owner.gname.as_bytes(), 32),
        zero_devices: true,
        prefix: b"",
    };
    match (&records.records[..], split(name)) {
        ([], _) => {}
        ([("path", _)], Some((prefix, rest))) => {
            fields.prefix = prefix;
            fields.name = rest.into();
        }
        _ => {
            let mut encoded = Vec::new();
            records.encode(&mut encoded);
            let size = encoded.len() as u64;
            let extended = Fields { name: extended_name(name).into(), kind: b'x', size, ..Fields::default() };
            extended.write(out);
            out.extend_from_slice(&encoded);
            pad(out, size);
        }
    }
    fields.write(out);
}

/// A long name as prefix and rest, if there is a slash in the right place.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME || !name.is_ascii() {
        return None;
    }
    let end =
        if name.len() > PREFIX + 1 { PREFIX + 1 } else { name.len() - usize::from(name.ends_with(b"/")) };
    let slash = name[..end].iter().rposition(|byte| *byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (slash > 0 && (1..=NAME).contains(&rest.len())).then_some((prefix, rest))
}

/// Without what is not ASCII. A slash at the end of a name that is cut there becomes NUL, so that nobody takes a file for
/// a folder.
fn shown(text: &[u8], field: usize) -> Cow<'_, [u8]> {
    let mut text = ascii(text);
    if text.len() > field {
        let mut cut = text[..field].to_vec();
        if cut[field - 1] == b'/' {
            let end = cut.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
            cut[end] = 0;
        }
        text = cut.into();
    }
    text
}

fn extended_name(name: &[u8]) -> Vec<u8> {
    let slash = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (folder, file) = name.split_at(slash);
    let joined = if file.is_empty() {
        [folder, b"PaxHeaders.0"].concat()
    } else {
        [folder, b"PaxHeaders.0/", file].concat()
    };
    let mut ascii = ascii(&joined).into_owned();
    ascii.truncate(NAME);
    while ascii.ends_with(b"/") {
        ascii.pop();
    }
    ascii
}

fn ascii(text: &[u8]) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return text.into();
    }
    text.iter().copied().filter(u8::is_ascii).collect()
}
