//! Headers, byte for byte as other programs write them.
//!
//! ```text
//! offset  length
//!      0     100  name
//!    100       8  mode      7 octal digits, NUL
//!    108       8  uid
//!    116       8  gid
//!    124      12  size      11 octal digits, NUL
//!    136      12  mtime
//!    148       8  checksum  6 octal digits, NUL, space
//!    156       1  type      '0' file, '2' symbolic link, '5' folder, 'x' extended header
//!    157     100  link name
//!    257       8  "ustar" NUL "00"
//!    265      32  owner's name
//!    297      32  group's name
//!    329      16  device numbers
//!    345     155  prefix of the name
//! ```
//! (POSIX.1-2017, pax, "ustar Interchange Format".) What does not fit, and text that is not ASCII, stands in an extended
//! header before this one.

mod golang;
mod python;

use super::{Entry, Kind, Owner, Style, Writer};
use std::borrow::Cow;

/// The length of a block, of which everything in a tar archive is a multiple.
pub(super) const BLOCK: u64 = 512;

/// Appends the headers of an entry: one block, with an extended header of at least two before it if it takes one.
pub fn write(out: &mut Vec<u8>, style: &Style, entry: &Entry) {
    match style.writer {
        Writer::Python | Writer::OldPython => python::write(out, style, entry),
        Writer::Go => golang::write(out, style, entry),
    }
}

/// Zeroes that follow `length` bytes, up to the next block.
pub(super) fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK
}

fn pad(out: &mut Vec<u8>, length: u64) {
    out.resize(out.len() + padding(length) as usize, 0);
}

/// The type, and what a link leads to.
fn type_of(entry: &Entry) -> (u8, &[u8]) {
    match &entry.kind {
        Kind::Folder => (b'5', b""),
        Kind::File { .. } | Kind::Inline(_) => (b'0', b""),
        Kind::Link(target) => (b'2', target),
    }
}

fn owner<'t>(style: &'t Style, entry: &'t Entry) -> &'t Owner {
    entry.owner.as_deref().unwrap_or(&style.owner)
}

/// The records of an extended header: what the fields of the other cannot hold.
#[derive(Default)]
struct Records<'t> {
    records: Vec<(&'static str, Cow<'t, [u8]>)>,
}

impl<'t> Records<'t> {
    fn text(&mut self, key: &'static str, text: &'t [u8], field: usize) {
        if !text.is_ascii() || text.len() > field {
            self.records.push((key, text.into()));
        }
    }

    /// What stands in the field of so many bytes: zero if the number does not fit.
    fn number(&mut self, key: &'static str, number: i128, field: u32) -> u64 {
        if (0..1 << (3 * (field - 1))).contains(&number) {
            return number as u64;
        }
        self.records.push((key, number.to_string().into_bytes().into()));
        0
    }

    /// `length key=value` in lines, the length being that of the line. (POSIX.1-2017, "pax Extended Header".)
    fn encode(&self, out: &mut Vec<u8>) {
        for (key, value) in &self.records {
            // The length counts its own digits, the space, the equals sign and the newline.
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + digits(length) {
                length = rest + digits(length);
            }
            out.extend_from_slice(format!("{length} {key}=").as_bytes());
            out.extend_from_slice(value);
            out.push(b'\n');
        }
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// The fields of one block; texts are ASCII, and cut to the field if need be: then they stand in the extended header, too.
#[derive(Default)]
struct Fields<'t> {
    name: Cow<'t, [u8]>,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    kind: u8,
    link: Cow<'t, [u8]>,
    uname: Cow<'t, [u8]>,
    gname: Cow<'t, [u8]>,
    /// Whether zeroes as octal digits stand where a device's numbers would.
    zero_devices: bool,
    prefix: &'t [u8],
}

impl Fields<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut block = [0; BLOCK as usize];
        text(&mut block[0..100], &self.name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.mtime);
        block[148..156].fill(b' ');
        block[156] = self.kind;
        text(&mut block[157..257], &self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        text(&mut block[265..297], &self.uname);
        text(&mut block[297..329], &self.gname);
        if self.zero_devices {
            octal(&mut block[329..337], 0);
            octal(&mut block[337..345], 0);
        }
        text(&mut block[345..500], self.prefix);
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        out.extend_from_slice(&block);
    }
}

fn text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Octal digits that fill the field but for a NUL at its end.
fn octal(field: &mut [u8], mut number: u64) {
    let Some((end, digits)) = field.split_last_mut() else { return };
    *end = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number & 7) as u8;
        number >>= 3;
    }
}
