//! Blob contents on their way into a response.

use super::{
    EncodedBody, Mapping,
    buffers::{Buffer, Buffers},
    virtual_tar::{TarReader, VirtualTar},
};
use crate::encode::Encoder;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::task::JoinHandle;

/// How much of a mapped file is made resident, and handed to the connection, at a time. Two of these are in flight a body.
const CHUNK: u64 = 1 << 20;

/// How files begin that are compressed: gzip, zstd and its skippable frames, xz, bzip2.
const COMPRESSED: [&[u8]; 5] =
    [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18], b"\xfd7zXZ\0", b"BZh"];
const MAGIC_MAX: usize = 6;

/// Who is going to look at the bytes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The kernel, and nobody before it: chunks of a mapped file are its pages.
    Kernel,
    /// This program too, to encrypt, encode or rearrange them: chunks are read into buffers. A file that has become
    /// shorter is an error of the read; to look at a page that it no longer has would be the end of the program.
    Program,
}

/// A blob whose bytes are at hand.
#[derive(Debug, Clone)]
pub struct Blob {
    bytes: Backing,
    length: u64,
}

#[derive(Debug, Clone)]
enum Backing {
    Mapped { mapping: Arc<Mapping>, offset: u64, buffers: Arc<Buffers> },
    Memory(Bytes),
    Tar(VirtualTar),
}

impl Blob {
    /// `length` bytes of a mapping from `offset` on; an error if the file is shorter. Where they have to be read, it is into
    /// the `buffers`.
    pub fn mapped(
        mapping: Arc<Mapping>,
        offset: u64,
        length: u64,
        buffers: Arc<Buffers>,
    ) -> io::Result<Self> {
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > mapping.len()) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob ends beyond its file"));
        }
        Ok(Self { bytes: Backing::Mapped { mapping, offset, buffers }, length })
    }

    /// A small blob in memory.
    pub fn memory(bytes: Bytes) -> Self {
        Self { length: bytes.len() as u64, bytes: Backing::Memory(bytes) }
    }

    /// A layer that is computed from store paths.
    pub fn virtual_tar(tar: VirtualTar) -> Self {
        Self { length: tar.len(), bytes: Backing::Tar(tar) }
    }

    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A body of the bytes in `range`, which is clamped to the blob.
    pub fn body(&self, range: Range<u64>, sight: Sight) -> BlobBody {
        let end = range.end.min(self.length);
        let next = range.start.min(end);
        BlobBody { load: self.load(sight), next, end, loading: None }
    }

    /// A body of all bytes, encoded.
    pub fn encoded(&self, encoder: Encoder) -> EncodedBody {
        EncodedBody::new(self.load(Sight::Program), self.length, encoder)
    }

    /// Whether the bytes are compressed already, as far as their beginning tells.
    pub async fn is_compressed(&self) -> io::Result<bool> {
        if matches!(self.bytes, Backing::Tar(_)) {
            return Ok(false);
        }
        let (load, head) = (self.load(Sight::Program), 0..self.length.min(MAGIC_MAX as u64));
        let head = tokio::task::spawn_blocking(move || load.all(head)).await??;
        Ok(COMPRESSED.iter().any(|magic| head.starts_with(magic)))
    }

    /// Reads ranges; blocks on the disk.
    pub fn reader(&self) -> impl Fn(Range<u64>) -> io::Result<Bytes> + use<> {
        let load = self.load(Sight::Program);
        move |range| load.all(range)
    }

    /// What brings ranges into memory.
    fn load(&self, sight: Sight) -> Load {
        match (&self.bytes, sight) {
            (Backing::Memory(bytes), _) => {
                let bytes = bytes.clone();
                Load::InPlace(Arc::new(
                    move |range| Ok(bytes.slice(range.start as usize..range.end as usize)),
                ))
            }
            (Backing::Mapped { mapping, offset, .. }, Sight::Kernel) => {
                let (mapping, offset) = (mapping.clone(), *offset);
                Load::InPlace(Arc::new(move |range| {
                    let range = offset + range.start..offset + range.end;
                    mapping.verified(mapping.populate(range.clone()).and_then(|()| mapping.slice(range)))
                }))
            }
            (Backing::Mapped { mapping, offset, buffers }, Sight::Program) => {
                let (mapping, offset) = (mapping.clone(), *offset);
                let read = move |range: Range<u64>, buffer: &mut Buffer| {
                    mapping.verified(buffer.read(
                        mapping.file(),
                        offset + range.start,
                        range.end - range.start,
                    ))
                };
                Load::Copied(buffers.clone(), Arc::new(read))
            }
            (Backing::Tar(tar), _) => {
                let reader = TarReader::new(tar.clone());
                Load::Copied(tar.buffers().clone(), Arc::new(move |range, buffer| reader.read(range, buffer)))
            }
        }
    }
}

/// Brings ranges into memory, blocking on the disk.
#[derive(Clone)]
pub(super) enum Load {
    /// Gives bytes that are where they are.
    InPlace(Arc<InPlace>),
    /// Copies them into buffers, of which there are only so many.
    Copied(Arc<Buffers>, Arc<Copied>),
}

type InPlace = dyn Fn(Range<u64>) -> io::Result<Bytes> + Send + Sync;
type Copied = dyn Fn(Range<u64>, &mut Buffer) -> io::Result<()> + Send + Sync;

impl Load {
    /// How many bytes the next chunk of this range has, and what loads it. The buffer is taken here and not there: chunks
    /// can wait for a thread in any number. If there is none left, the chunk is a short one; or there is none if it would
    /// be loaded `ahead` of its time.
    pub(super) fn next(&self, rest: Range<u64>, ahead: bool) -> Option<(u64, LoadChunk)> {
        let first = |length: u64| rest.start..rest.end.min(rest.start + length);
        let (range, load): (_, LoadChunk) = match self {
            Self::InPlace(load) => {
                let (range, load) = (first(CHUNK), load.clone());
                (range.clone(), Box::new(move || load(range)))
            }
            Self::Copied(buffers, load) => {
                let buffer = match buffers.take() {
                    Some(buffer) => buffer,
                    None if ahead => return None,
                    None => Buffer::short(),
                };
                let (range, load) = (first(buffer.capacity() as u64), load.clone());
                (range.clone(), Box::new(move || fill(&*load, range, buffer)))
            }
        };
        let length = range.end - range.start;
        Some((length, Box::new(move || load().and_then(|chunk| whole(chunk, length)))))
    }

    /// A range at once, for which a buffer is found or made.
    fn all(&self, range: Range<u64>) -> io::Result<Bytes> {
        let length = range.end - range.start;
        let bytes = match self {
            Self::InPlace(load) => load(range),
            Self::Copied(buffers, load) => fill(&**load, range, buffers.take_for(length as usize)),
        };
        whole(bytes?, length)
    }
}

/// Loads a chunk.
pub(super) type LoadChunk = Box<dyn FnOnce() -> io::Result<Bytes> + Send>;

fn fill(load: &Copied, range: Range<u64>, mut buffer: Buffer) -> io::Result<Bytes> {
    load(range, &mut buffer)?;
    Ok(buffer.freeze())
}

/// Makes sure that bytes are as many as they should be: whatever their number, a response's is what it promised.
fn whole(bytes: Bytes, length: u64) -> io::Result<Bytes> {
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(io::Error::other("a chunk has another length than it should")),
    }
}

/// Yields a range of a blob in chunks that are already in memory.
///
/// A page that is not would make the kernel read the disk inside of the write to the socket, on a thread of the
/// runtime that then serves nobody else. So each chunk is populated on a blocking thread first, while the previous
/// one is being sent.
pub struct BlobBody {
    load: Load,
    /// What has not been asked for yet.
    next: u64,
    end: u64,
    /// What is being brought there, and how many bytes that are.
    loading: Option<(u64, JoinHandle<io::Result<Bytes>>)>,
}

impl std::fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobBody").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

impl BlobBody {
    fn load_next(&mut self, ahead: bool) {
        if self.loading.is_none() && self.next < self.end {
            let Some((length, load)) = self.load.next(self.next..self.end, ahead) else { return };
            self.next += length;
            self.loading = Some((length, tokio::task::spawn_blocking(load)));
        }
    }

    fn remaining(&self) -> u64 {
        self.end - self.next + self.loading.as_ref().map_or(0, |(length, _)| *length)
    }
}

impl http_body::Body for BlobBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        this.load_next(false);
        let Some((_, handle)) = &mut this.loading else { return Poll::Ready(None) };
        let loaded = ready!(Pin::new(handle).poll(cx)).map_err(io::Error::other).and_then(|r| r);
        this.loading = None;
        match loaded {
            Ok(chunk) => {
                this.load_next(true);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Err(error) => {
                this.next = this.end;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}
