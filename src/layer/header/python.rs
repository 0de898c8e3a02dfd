//! Headers as Python's `tarfile` writes them in PAX format. (CPython, `Lib/tarfile.py`, `TarInfo.create_pax_header`.)
//!
//! A folder's name ends in a slash; the prefix is never used; an extended header is named `././@PaxHeader`.

use super::{Fields, Records, owner, pad, type_of};
use crate::layer::{Entry, Kind, Style, Writer, name::ascii};
use std::borrow::Cow;

pub(super) fn write(out: &mut Vec<u8>, style: &Style, entry: &Entry) {
    let mut name = Cow::Borrowed(entry.name.as_slice());
    if entry.kind == Kind::Folder && !name.ends_with(b"/") {
        name.to_mut().push(b'/');
    }
    let (kind, link) = type_of(entry);
    let owner = owner(style, entry);
    let zero_devices = style.writer == Writer::OldPython;

    let mut records = Records::default();
    records.text("path", &name, 100);
    records.text("linkpath", link, 100);
    records.text("uname", owner.uname.as_bytes(), 32);
    records.text("gname", owner.gname.as_bytes(), 32);
    let uid = records.number("uid", owner.uid.into(), 8);
    let gid = records.number("gid", owner.gid.into(), 8);
    let size = records.number("size", entry.size().into(), 12);
    let mtime = records.number("mtime", style.mtime.into(), 12);
    if !records.records.is_empty() {
        let mut encoded = Vec::new();
        if records.records.iter().any(|(_, value)| std::str::from_utf8(value).is_err()) {
            encoded.extend_from_slice(b"21 hdrcharset=BINARY\n");
        }
        records.encode(&mut encoded);
        let extended = Fields {
            name: b"././@PaxHeader".into(),
            kind: b'x',
            size: encoded.len() as u64,
            zero_devices,
            ..Fields::default()
        };
        extended.write(out);
        out.extend_from_slice(&encoded);
        pad(out, encoded.len() as u64);
    }
    let fields = Fields {
        name: shown(&name),
        mode: entry.mode & 0o7777,
        uid,
        gid,
        size,
        mtime,
        kind,
        link: shown(link),
        uname: shown(owner.uname.as_bytes()),
        gname: shown(owner.gname.as_bytes()),
        zero_devices,
        prefix: b"",
    };
    fields.write(out);
}

/// Question marks for what is not ASCII.
fn shown(text: &[u8]) -> Cow<'_, [u8]> {
    if text.is_ascii() { text.into() } else { ascii(text).into() }
}
