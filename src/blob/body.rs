//! Blob contents on their way into a response.

use super::Mapping;
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

/// How much is made resident, and handed to the connection, at a time. Two of these are in flight a body.
const CHUNK: u64 = 1 << 20;

/// A blob whose bytes are at hand.
#[derive(Debug, Clone)]
pub struct Blob {
    bytes: Backing,
    length: u64,
}

#[derive(Debug, Clone)]
enum Backing {
    Mapped { mapping: Arc<Mapping>, offset: u64 },
    Memory(Bytes),
}

impl Blob {
    /// `length` bytes of a mapping from `offset` on; an error if the file is shorter.
    pub fn mapped(mapping: Arc<Mapping>, offset: u64, length: u64) -> io::Result<Self> {
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > mapping.len()) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob ends beyond its file"));
        }
        Ok(Self { bytes: Backing::Mapped { mapping, offset }, length })
    }

    /// A small blob in memory.
    pub fn memory(bytes: Bytes) -> Self {
        Self { length: bytes.len() as u64, bytes: Backing::Memory(bytes) }
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
    pub fn body(&self, range: Range<u64>) -> BlobBody {
        let end = range.end.min(self.length);
        BlobBody { blob: self.clone(), next: range.start.min(end), end, loading: None }
    }
}

/// Yields a range of a blob in chunks whose pages are already in memory.
///
/// A page that is not would make the kernel read the disk inside of the write to the socket, on a thread of the
/// runtime that then serves nobody else. So each chunk is populated on a blocking thread first, while the previous
/// one is being sent.
#[derive(Debug)]
pub struct BlobBody {
    blob: Blob,
    next: u64,
    end: u64,
    loading: Option<(u64, JoinHandle<io::Result<Bytes>>)>,
}

impl BlobBody {
    fn load_next(&mut self) -> Option<(u64, JoinHandle<io::Result<Bytes>>)> {
        let Backing::Mapped { mapping, offset } = &self.blob.bytes else { return None };
        if self.next >= self.end {
            return None;
        }
        let length = CHUNK.min(self.end - self.next);
        let range = offset + self.next..offset + self.next + length;
        self.next += length;
        let mapping = mapping.clone();
        let load = move || mapping.populate(range.clone()).and_then(|()| mapping.slice(range));
        Some((length, tokio::task::spawn_blocking(load)))
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
        if let Backing::Memory(bytes) = &this.blob.bytes {
            if this.next >= this.end {
                return Poll::Ready(None);
            }
            let bytes = bytes.slice(this.next as usize..this.end as usize);
            this.next = this.end;
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if this.loading.is_none() {
            this.loading = this.load_next();
        }
        let Some((_, handle)) = &mut this.loading else { return Poll::Ready(None) };
        let loaded = ready!(Pin::new(handle).poll(cx)).map_err(io::Error::other).and_then(|r| r);
        match loaded {
            Ok(bytes) => {
                this.loading = this.load_next();
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(error) => {
                this.loading = None;
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
