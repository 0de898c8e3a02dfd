//! Measures blobs: digest, diff ID and compression, in one pass over their bytes, several at a time.

use super::{
    ImageError, Reader,
    decompress::{Compression, decoder},
    limits::LimitExceeded,
    magic::{self, Format, HEAD},
};
use crate::{
    blob::{
        Cache, CacheError,
        cache::{CacheWriter, Finished},
    },
    oci::{Digest, DigestWriter, media_type},
};
use std::{
    io::{self, Cursor, Read, Write},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// Read at a time: small enough to stay in the processor's second-level cache until it is hashed.
const CHUNK: usize = 128 << 10;

/// How the bytes that are served are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Tar,
    Gzip,
    Zstd,
    /// Neither of them: no layer, but perhaps an artifact's blob.
    Other,
}

impl Encoding {
    /// The media type of a layer that is encoded like this.
    pub(super) fn layer_type(self) -> Option<&'static str> {
        match self {
            Self::Tar => Some(media_type::OCI_LAYER_TAR),
            Self::Gzip => Some(media_type::OCI_LAYER_GZIP),
            Self::Zstd => Some(media_type::OCI_LAYER_ZSTD),
            Self::Other => None,
        }
    }
}

/// A blob whose bytes have been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    /// Of the bytes that are served.
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) encoding: Encoding,
    /// The digest of the bytes, decompressed; or why they cannot be.
    pub(super) diff_id: Result<Digest, String>,
}

/// What to do with xz, for which OCI has no media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Xz {
    /// Serve what is in it; it has to be kept in the cache.
    Unpack,
    /// Leave it alone: an OCI layout says what it is.
    Keep,
}

fn writer(cache: &Arc<Cache>) -> io::Result<CacheWriter> {
    cache.writer().map_err(|error: CacheError| io::Error::other(error))
}

/// Measures `body`. What is served is kept in the cache if `keep` says so, and always if xz had to be unpacked.
pub(super) fn measure(
    reader: &Reader,
    mut body: impl Read + Send,
    keep: bool,
    xz: Xz,
) -> io::Result<(Measured, Option<Finished>)> {
    let mut head = Vec::with_capacity(HEAD);
    body.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let format = magic::format(&head);
    let body = Cursor::new(&head).chain(body);
    let kept = if keep { Some(writer(&reader.cache)?) } else { None };
    match format {
        Some(Format::Compressed(Compression::Xz)) if xz == Xz::Unpack => {
            drop(kept);
            let taken = AtomicU64::new(0);
            let mut content = decoder(Compression::Xz, body, &taken, reader)?;
            let mut sink = DigestWriter::new(writer(&reader.cache)?);
            copy(&mut content, &mut sink)?;
            let (digest, size, kept) = sink.finish();
            Ok((Measured { digest, size, encoding: Encoding::Tar, diff_id: Ok(digest) }, Some(kept.finish())))
        }
        Some(Format::Compressed(compression)) if compression != Compression::Xz => {
            let mut tee = Tee { body, sink: DigestWriter::new(Kept(kept)), failed: false };
            let diff_id = diff_id(&mut tee, compression, reader)?;
            io::copy(&mut tee, &mut io::sink())?;
            let (digest, size, kept) = tee.sink.finish();
            let encoding = if compression == Compression::Gzip { Encoding::Gzip } else { Encoding::Zstd };
            Ok((Measured { digest, size, encoding, diff_id }, kept.finish()))
        }
        _ => {
            let mut body = body;
            let mut sink = DigestWriter::new(Kept(kept));
            copy(&mut body, &mut sink)?;
            let (digest, size, kept) = sink.finish();
            let is_tar = format == Some(Format::Tar) || size == 0;
            let encoding = if is_tar { Encoding::Tar } else { Encoding::Other };
            Ok((Measured { digest, size, encoding, diff_id: Ok(digest) }, kept.finish()))
        }
    }
}

/// The digest of what `tee` decompresses to. That it does not is no error yet: nobody may want it as a layer.
fn diff_id<R: Read + Send>(
    tee: &mut Tee<R>,
    compression: Compression,
    reader: &Reader,
) -> io::Result<Result<Digest, String>> {
    let taken = AtomicU64::new(0);
    let mut sink = DigestWriter::new(io::sink());
    let result =
        decoder(compression, &mut *tee, &taken, reader).and_then(|mut content| copy(&mut content, &mut sink));
    match result {
        Ok(()) => Ok(Ok(sink.finish().0)),
        Err(error) if tee.failed || error.get_ref().is_some_and(|inner| inner.is::<LimitExceeded>()) => {
            Err(error)
        }
        Err(error) => Ok(Err(match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("its {} data end too early", compression.name()),
            _ => format!("its {} data are damaged: {error}", compression.name()),
        })),
    }
}

/// Reads a body while hashing, and perhaps keeping, the same bytes.
struct Tee<R> {
    body: R,
    sink: DigestWriter<Kept>,
    /// Whether it was the body or the cache that failed, rather than a decoder that dislikes the bytes.
    failed: bool,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = self.body.read(buf).and_then(|n| self.sink.write_all(&buf[..n]).map(|()| n));
        self.failed |= result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        result
    }
}

/// The cache, or nowhere.
struct Kept(Option<CacheWriter>);

impl Kept {
    fn finish(self) -> Option<Finished> {
        self.0.map(CacheWriter::finish)
    }
}

impl Write for Kept {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(writer) => writer.write(buf),
            None => Ok(buf.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buf = vec![0; CHUNK];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buf[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Runs `job` on every item, on at most `threads` threads at once. The items should be ordered by falling cost, so
/// that the threads end together. After an error no further job begins.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: NonZeroUsize,
    job: impl Fn(&T) -> Result<R, ImageError> + Sync,
) -> Result<Vec<R>, ImageError> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let work = || -> Result<(), ImageError> {
        while let Some((n, item)) = {
            let n = next.fetch_add(1, Ordering::Relaxed);
            items.get(n).map(|item| (n, item))
        } {
            match job(item) {
                Ok(result) => done.lock().unwrap_or_else(PoisonError::into_inner).push((n, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        // The calling thread is one of them, and does the work alone if the system gives no others.
        let helpers = threads.get().min(items.len()).saturating_sub(1);
        let helper = || std::thread::Builder::new().name("hash".into()).spawn_scoped(scope, work);
        let helpers: Vec<_> = (0..helpers).map_while(|_| helper().ok()).collect();
        let mut result = work();
        for helper in helpers {
            let helped = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(helped);
        }
        result
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(n, _)| *n);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Condvar, time::Duration};

    #[test]
    fn jobs_run_at_the_same_time_and_their_results_are_in_order() {
        let threads = NonZeroUsize::new(3).unwrap();
        let (running, all) = (Mutex::new(0), Condvar::new());
        let results = in_parallel(&[10, 20, 30], threads, |n| {
            // None ends before all have begun.
            let mut running = running.lock().unwrap();
            *running += 1;
            all.notify_all();
            let waited = all.wait_timeout_while(running, Duration::from_secs(120), |n| *n < 3).unwrap();
            assert!(!waited.1.timed_out(), "one after the other");
            Ok(n + 1)
        });
        assert_eq!(results.unwrap(), [11, 21, 31]);
    }

    #[test]
    fn after_an_error_nothing_more_begins() {
        let begun = AtomicUsize::new(0);
        let result = in_parallel(&[1; 100], NonZeroUsize::MIN, |_| -> Result<(), ImageError> {
            begun.fetch_add(1, Ordering::Relaxed);
            Err(ImageError::invalid(std::path::Path::new("x"), "no"))
        });
        assert!(result.is_err());
        assert_eq!(begun.into_inner(), 1);
    }
}
