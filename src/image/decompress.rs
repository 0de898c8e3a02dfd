//! Decoders with bounded memory, held against the limits.
//!
//! All three formats may consist of several streams one after the other (`pigz`, `bgzip`, `zstd -T`, `xz -T`, or
//! plain concatenation), and all bytes have to belong to one: what follows the last is an error.

use super::{
    Reader,
    limits::{LimitExceeded, Taken, Yielded},
    tar_walk::read_buffered,
};
use flate2::bufread::MultiGzDecoder;
use liblzma::{bufread::XzDecoder, stream};
use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{atomic::AtomicU64, mpsc},
};

/// The largest zstd window, as a power of two: what `zstd` itself accepts without being told to take more.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Enough for `xz -9`, which needs 65 MiB, and for twice its dictionary.
const XZ_MEMORY: u64 = 160 << 20;
/// What decoders are fed, and yield, at a time.
const CHUNK: usize = 256 << 10;
/// Chunks on their way between the two threads.
const IN_FLIGHT: usize = 8;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Xz,
}

impl Compression {
    /// The word for it in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }

    /// The most that any decoder may need, in bytes.
    pub(super) fn most_memory() -> u64 {
        Self::Zstd.memory().max(Self::Xz.memory())
    }

    /// Bytes that a decoder may need: its window, which the bytes that it decodes state, and its buffers.
    pub(super) fn memory(self) -> u64 {
        let window = match self {
            Self::Gzip => 128 << 10,
            Self::Zstd => (1 << ZSTD_WINDOW_LOG_MAX) + (1 << 20),
            Self::Xz => XZ_MEMORY,
        };
        window + CHUNK as u64
    }
}

/// What `input` decompresses to; `taken` counts what the decoder has taken of it.
pub(super) fn decoder<'a>(
    compression: Compression,
    input: impl Read + Send + 'a,
    taken: &'a AtomicU64,
    reader: &'a Reader,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let window = reader.budget.hold(compression.memory(), "a decoder").map_err(LimitExceeded::from)?;
    let input = BufReader::with_capacity(CHUNK, Taken { inner: input, taken });
    let inner: Box<dyn Read + Send + 'a> = match compression {
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let decoder = stream::Stream::new_stream_decoder(XZ_MEMORY, stream::CONCATENATED)?;
            Box::new(XzDecoder::new_stream(input, decoder))
        }
    };
    let (budget, limits) = (&reader.budget, &reader.limits);
    let (max_ratio, ratio_grace) = (limits.max_compression_ratio, limits.ratio_grace);
    Ok(Box::new(Yielded { inner, taken, budget, max_ratio, ratio_grace, yielded: 0, _memory: window }))
}

/// Runs `consume` on the bytes that come out of `source`, which is read by another thread: decompressing overlaps
/// with hashing and writing. When `consume` returns, reading stops.
pub(super) fn overlapped<T>(mut source: impl Read + Send, consume: impl FnOnce(&mut Chunks) -> T) -> T {
    let (full, chunks) = mpsc::sync_channel(IN_FLIGHT);
    let (empty, recycled) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let mut chunk = recycled.try_recv().unwrap_or_default();
                chunk.resize(CHUNK, 0);
                let result = fill(&mut source, &mut chunk);
                let last = !matches!(result, Ok(CHUNK));
                let result = result.map(|n| {
                    chunk.truncate(n);
                    chunk
                });
                if full.send(result).is_err() || last {
                    return;
                }
            }
        });
        consume(&mut Chunks { chunks, empty, current: Vec::new(), position: 0, failed: false })
        // The receiver is dropped before the scope joins the thread, so a thread that waits to send wakes up.
    })
}

/// Reads until the buffer is full or the input ends.
fn fill(source: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match source.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The receiving end of [`overlapped`].
pub(super) struct Chunks {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    empty: mpsc::Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    failed: bool,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.failed {
            // So that nobody takes what follows an error for the end.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it could not be read to its end"));
        }
        if self.position >= self.current.len()
            && let Ok(next) = self.chunks.recv()
        {
            self.failed = next.is_err();
            let used = std::mem::replace(&mut self.current, next?);
            self.position = 0;
            // The other thread may be done already and need it no more.
            let _ = self.empty.send(used);
        }
        Ok(self.current.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.position += n;
    }
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buf)
    }
}
