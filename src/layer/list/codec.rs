//! Entries as bytes of a block: each as its difference to the one before it.
//!
//! ```text
//! entry  ::= kind mode shared suffix-length suffix [owner] [place]
//!            [size mark(8 bytes)]      a file
//!            [length bytes]            a link's target, or a file's contents
//! kind   ::= 0 folder, 1 file, 2 link, 3 file with its contents; + 16 with an owner, + 32 with a place
//! owner  ::= 0, the style's, or 1 uid gid length uname length gname
//! place  ::= cut length prefix
//! ```
//! Numbers are LEB128, signed ones zigzag before. `shared` is how many bytes of the name are those of the entry before. An
//! owner and a place hold until others follow in the block. A file is where its place says: at the prefix with the name
//! after it, without the first `cut` bytes. At first that is the name, and in a tree that was moved as a whole it needs
//! saying once.

use super::number;
use crate::layer::{Entry, Kind, Mark, Owner};
use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    sync::Arc,
};

const WITH_OWNER: u8 = 0x10;
const WITH_PLACE: u8 = 0x20;

/// What an entry is told as a difference to, besides the name before.
#[derive(Debug, Default)]
pub(super) struct Before {
    owner: Option<Arc<Owner>>,
    cut: usize,
    prefix: Vec<u8>,
}

impl Before {
    /// Whether the file of this name is at this path.
    fn holds(&self, name: &[u8], path: &[u8]) -> bool {
        name.get(self.cut..).is_some_and(|rest| path.strip_prefix(&self.prefix[..]) == Some(rest))
    }
}

/// Appends an entry; `name` is the one before.
pub(super) fn encode(out: &mut Vec<u8>, name: &[u8], before: &mut Before, entry: &Entry) {
    let at = out.len();
    out.push(match entry.kind {
        Kind::Folder => 0,
        Kind::File { .. } => 1,
        Kind::Link(_) => 2,
        Kind::Inline(_) => 3,
    });
    put(out, u64::from(entry.mode));
    let shared = common(name, &entry.name, false);
    put(out, shared as u64);
    put_bytes(out, &entry.name[shared..]);
    if entry.owner != before.owner {
        out[at] |= WITH_OWNER;
        match &entry.owner {
            None => out.push(0),
            Some(owner) => {
                out.push(1);
                put(out, zigzag(owner.uid));
                put(out, zigzag(owner.gid));
                put_bytes(out, owner.uname.as_bytes());
                put_bytes(out, owner.gname.as_bytes());
            }
        }
        before.owner.clone_from(&entry.owner);
    }
    match &entry.kind {
        Kind::Folder => {}
        Kind::File { size, mark, path } => {
            let path = path.as_ref().map_or(&entry.name[..], |path| path.as_os_str().as_bytes());
            if !before.holds(&entry.name, path) {
                out[at] |= WITH_PLACE;
                let same = common(&entry.name, path, true);
                before.cut = entry.name.len() - same;
                before.prefix = path[..path.len() - same].to_vec();
                put(out, before.cut as u64);
                put_bytes(out, &before.prefix);
            }
            put(out, *size);
            out.extend_from_slice(&mark.0.to_le_bytes());
        }
        Kind::Link(bytes) | Kind::Inline(bytes) => put_bytes(out, bytes),
    }
}

/// Takes an entry from the front of `bytes`; `entry` is the one before.
pub(super) fn decode(bytes: &mut &[u8], before: &mut Before, entry: &mut Entry) -> Option<()> {
    let kind = *bytes.split_off_first()?;
    entry.mode = u32::try_from(get(bytes)?).ok()?;
    let shared = usize::try_from(get(bytes)?).ok().filter(|shared| *shared <= entry.name.len())?;
    entry.name.truncate(shared);
    entry.name.extend_from_slice(get_bytes(bytes)?);
    if kind & WITH_OWNER != 0 {
        before.owner = match *bytes.split_off_first()? {
            0 => None,
            1 => Some(Arc::new(Owner {
                uid: unzigzag(get(bytes)?),
                gid: unzigzag(get(bytes)?),
                uname: String::from_utf8(get_bytes(bytes)?.to_vec()).ok()?,
                gname: String::from_utf8(get_bytes(bytes)?.to_vec()).ok()?,
            })),
            _ => return None,
        };
    }
    entry.owner.clone_from(&before.owner);
    if kind & WITH_PLACE != 0 {
        before.cut = usize::try_from(get(bytes)?).ok()?;
        before.prefix = get_bytes(bytes)?.to_vec();
    }
    entry.kind = match kind & !(WITH_OWNER | WITH_PLACE) {
        0 => Kind::Folder,
        1 => Kind::File {
            size: get(bytes)?,
            mark: Mark(number(bytes.split_off(..8)?)),
            path: match (before.cut, &before.prefix[..]) {
                (0, []) => None,
                (cut, prefix) => {
                    Some(PathBuf::from(OsString::from_vec([prefix, entry.name.get(cut..)?].concat())))
                }
            },
        },
        2 => Kind::Link(get_bytes(bytes)?.to_vec()),
        3 => Kind::Inline(get_bytes(bytes)?.to_vec()),
        _ => return None,
    };
    Some(())
}

/// How many bytes are the same from the beginning, or from the end.
fn common(a: &[u8], b: &[u8], from_end: bool) -> usize {
    match from_end {
        false => a.iter().zip(b).take_while(|(a, b)| a == b).count(),
        true => a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count(),
    }
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn get_bytes<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(get(bytes)?).ok()?;
    bytes.split_off(..length)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
