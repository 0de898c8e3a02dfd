//! Encoding a response, chunk by chunk.

use super::{
    Coding,
    gzip::{self, Deflate},
    pace::{GRACE, LEVELS, Pace},
    zstd,
};
use crate::metrics::{Encodings, InUse};
use ::zstd::bulk::Compressor;
use bytes::Bytes;
use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Levels of the two formats that are worth their time; the first is for those chunks that are stored. Higher ones of
/// zstd need more memory than a chunk has bytes.
const GZIP: [u32; LEVELS] = [0, 1, 2, 4, 6];
const ZSTD: [i32; LEVELS] = [0, -5, 1, 3, 6];
/// What they take, in nanoseconds a byte, roughly: the start of what is measured then.
const GZIP_COSTS: [f64; LEVELS] = [0.2, 3.0, 6.0, 10.0, 20.0];
const ZSTD_COSTS: [f64; LEVELS] = [0.1, 1.5, 2.5, 5.0, 12.0];

/// What encoding needs while it works, some MiB each.
#[derive(Default)]
struct Workspace {
    deflate: Option<Deflate>,
    zstd: Option<Compressor<'static>>,
    out: Vec<u8>,
}

/// The encoders of a registry: how many work at a time, and how fast they have to be.
pub struct Encoders {
    idle: Mutex<Vec<Workspace>>,
    enabled: bool,
    min_rate: u64,
    metrics: Encodings,
}

impl std::fmt::Debug for Encoders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoders").field("min_rate", &self.min_rate).finish_non_exhaustive()
    }
}

impl Encoders {
    /// At most `max` chunks are compressed at a time. Compressing never takes a response below `min_rate` bytes of the
    /// blob a second; with zero it may take its time.
    pub fn new(max: usize, min_rate: u64) -> Self {
        let idle = (0..max).map(|_| Workspace::default()).collect();
        Self { idle: Mutex::new(idle), enabled: max > 0, min_rate, metrics: Encodings::default() }
    }

    /// Counts chunks there.
    pub fn with_metrics(self, metrics: Encodings) -> Self {
        metrics.limit(self.idle.lock().unwrap_or_else(PoisonError::into_inner).len());
        Self { metrics, ..self }
    }

    /// Whether anything is to be encoded at all.
    pub fn are_enabled(&self) -> bool {
        self.enabled
    }

    /// A workspace that is not in use, if there is one.
    fn take(self: &Arc<Self>) -> Option<Working> {
        let workspace = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Working { workspace, home: self.clone(), _in_use: self.metrics.begin() })
    }
}

/// A workspace in use; it goes home when it is dropped.
struct Working {
    workspace: Workspace,
    home: Arc<Encoders>,
    _in_use: InUse,
}

impl Drop for Working {
    fn drop(&mut self) {
        let workspace = std::mem::take(&mut self.workspace);
        self.home.idle.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
    }
}

/// A compressed chunk. Until it has been sent, the chunk's buffer stays in use, of which there are only so many: else clients
/// that take nothing could have any number of compressed chunks made.
struct Compressed {
    bytes: Vec<u8>,
    _chunk: Bytes,
}

impl AsRef<[u8]> for Compressed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Encodes one response.
#[derive(Debug)]
pub struct Encoder {
    coding: Coding,
    encoders: Arc<Encoders>,
    pace: Pace,
    is_local: bool,
    /// Not zlib-rs's own, which has no hardware to help it here.
    crc: crc32fast::Hasher,
    length: u32,
    begun: bool,
}

impl Encoder {
    /// An encoder that has nothing of its own but a few numbers. For a client on this machine it spends no more than
    /// `ENCODING_MIN_RATE` leaves: bytes are cheap on their way there, and what such a client is slow at may be decoding,
    /// of which it would get the more the slower it is.
    pub fn new(coding: Coding, encoders: Arc<Encoders>, is_local: bool) -> Self {
        let costs = match coding {
            Coding::Gzip => GZIP_COSTS,
            Coding::Zstd => ZSTD_COSTS,
        };
        let pace = Pace::new(encoders.min_rate, costs, if is_local { 0.0 } else { GRACE });
        Self { coding, encoders, pace, is_local, crc: crc32fast::Hasher::new(), length: 0, begun: false }
    }

    /// What it makes.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Notes how long the client took for a chunk that had so many bytes before it was encoded.
    pub fn taken(&mut self, bytes: usize, time: Duration) {
        if !self.is_local {
            self.pace.taken(bytes, time);
        }
    }

    /// Encodes the next chunk. Takes about as long as [`Encoders`] allow, and none of the time that others are at work.
    pub fn chunk(&mut self, chunk: Bytes) -> io::Result<Vec<Bytes>> {
        let mut pieces = Vec::new();
        if chunk.is_empty() {
            return Ok(pieces);
        }
        let start = Instant::now();
        let first = !std::mem::replace(&mut self.begun, true);
        if self.coding == Coding::Gzip {
            if first {
                pieces.push(Bytes::from_static(&gzip::HEADER));
            }
            self.crc.update(&chunk);
            self.length = self.length.wrapping_add(chunk.len() as u32);
        }
        match self.encoders.take() {
            Some(mut working) => {
                let level = self.pace.level(chunk.len());
                let compressed = working.workspace.compress(self.coding, level, &chunk)?;
                let gain = compressed.as_ref().map_or(0, |bytes| chunk.len() - bytes.len());
                match compressed {
                    Some(bytes) => {
                        self.encoders.metrics.compressed();
                        pieces.push(Bytes::from_owner(Compressed { bytes, _chunk: chunk.clone() }));
                    }
                    None => self.store(&chunk, &mut pieces)?,
                }
                self.pace.spent(level, chunk.len(), start.elapsed(), gain);
            }
            None => self.store(&chunk, &mut pieces)?,
        }
        Ok(pieces)
    }

    fn store(&self, chunk: &Bytes, pieces: &mut Vec<Bytes>) -> io::Result<()> {
        self.encoders.metrics.stored();
        let mut push = |before: &[u8], range: Range<usize>| {
            pieces.extend([Bytes::copy_from_slice(before), chunk.slice(range)]);
        };
        match self.coding {
            Coding::Gzip => gzip::stored(chunk.len()).for_each(|(before, range)| push(&before, range)),
            Coding::Zstd => {
                let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
                zstd::stored(length).for_each(|(before, range)| push(&before, range));
            }
        }
        Ok(())
    }

    /// What follows the last chunk.
    pub fn end(self) -> Bytes {
        let trailer = gzip::trailer(self.crc.finalize(), self.length);
        match (self.coding, self.begun) {
            (Coding::Gzip, true) => Bytes::copy_from_slice(&trailer),
            (Coding::Gzip, false) => [&gzip::HEADER[..], &trailer].concat().into(),
            (Coding::Zstd, true) => Bytes::new(),
            // Nothing at all would be no frame.
            (Coding::Zstd, false) => zstd::stored(0).flat_map(|(before, _)| before).collect(),
        }
    }
}

impl Workspace {
    /// The chunk, compressed; none if it is to be stored, or would not get smaller.
    fn compress(&mut self, coding: Coding, level: usize, chunk: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if level == 0 {
            return Ok(None);
        }
        if self.out.len() < chunk.len() {
            self.out.resize(chunk.len(), 0);
        }
        let out = &mut self.out[..chunk.len()];
        let length = match coding {
            Coding::Gzip => {
                let level = GZIP[level];
                let deflate = self.deflate.take().filter(|deflate| deflate.level() == level);
                self.deflate.insert(deflate.unwrap_or_else(|| Deflate::new(level))).chunk(chunk, out)
            }
            Coding::Zstd => {
                let compressor = match self.zstd.take() {
                    Some(compressor) => compressor,
                    None => Compressor::new(0)?,
                };
                zstd::chunk(self.zstd.insert(compressor), ZSTD[level], chunk, out)
            }
        };
        Ok(length.map(|length| out[..length].to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut out = Vec::new();
                let mut decoder = flate2::bufread::GzDecoder::new(bytes);
                decoder.read_to_end(&mut out).unwrap();
                assert!(decoder.into_inner().is_empty(), "there is one member, and nothing behind it");
                out
            }
            Coding::Zstd => ::zstd::stream::decode_all(bytes).unwrap(),
        }
    }

    fn encode(mut encoder: Encoder, chunks: &[Bytes]) -> Vec<u8> {
        let pieces: Vec<Bytes> =
            chunks.iter().flat_map(|chunk| encoder.chunk(chunk.clone()).unwrap()).collect();
        [pieces.concat(), encoder.end().to_vec()].concat()
    }

    const CODINGS: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    #[test]
    fn a_slow_registry_stores_and_a_patient_one_compresses() {
        let chunks = vec![Bytes::from(b"compressible ".repeat(80_000)); 8];
        let length: usize = chunks.iter().map(Bytes::len).sum();
        for coding in CODINGS {
            let patient = encode(Encoder::new(coding, Arc::new(Encoders::new(1, 0)), true), &chunks);
            assert!(patient.len() < length / 50);
            // Nobody is that fast, so everything is stored.
            let hurried = Encoder::new(coding, Arc::new(Encoders::new(1, u64::MAX)), true);
            let hurried = encode(hurried, &chunks);
            assert!(hurried.len() > length && hurried.len() < length + length / 1000);
            assert!(
                decode(coding, &hurried) == chunks.concat() && decode(coding, &patient) == chunks.concat()
            );
        }
    }

    #[test]
    fn who_finds_all_workspaces_in_use_does_not_wait() {
        let chunk = Bytes::from(vec![0; 1 << 20]);
        let encoders = Arc::new(Encoders::new(1, 0));
        for coding in CODINGS {
            let working = encoders.take().unwrap();
            let stored = encode(Encoder::new(coding, encoders.clone(), false), std::slice::from_ref(&chunk));
            assert!(stored.len() > chunk.len());
            assert_eq!(decode(coding, &stored), chunk);
            drop(working);
            let compressed =
                encode(Encoder::new(coding, encoders.clone(), false), std::slice::from_ref(&chunk));
            assert!(compressed.len() < chunk.len() / 100);
        }
    }

    #[test]
    fn the_slowness_of_a_client_on_this_machine_earns_it_nothing() {
        let chunk = Bytes::from(vec![0; 1 << 20]);
        for coding in CODINGS {
            let length = |is_local: bool| {
                let mut encoder = Encoder::new(coding, Arc::new(Encoders::new(1, 4 << 30)), is_local);
                let encoded = (0..4).map(|_| {
                    encoder.taken(chunk.len(), Duration::from_secs(1));
                    encoder.chunk(chunk.clone()).unwrap().iter().map(Bytes::len).sum::<usize>()
                });
                encoded.sum::<usize>()
            };
            assert!(length(true) > 4 * chunk.len(), "{coding:?}: all is stored");
            assert!(length(false) < chunk.len(), "{coding:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_decoded_is_what_was_encoded(
            parts in proptest::collection::vec(
                (any::<bool>(), 0..200_000usize, any::<u64>()), 0..6),
            min_rate in prop_oneof![Just(0u64), Just(1 << 20), Just(1 << 30), Just(u64::MAX)],
        ) {
            // Alternately what compresses well and what does not at all.
            let chunks: Vec<Bytes> = parts.into_iter().map(|(random, length, seed)| {
                let mut state = seed | 1;
                (0..length).map(|n| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    if random { state as u8 } else { (n % 7) as u8 }
                }).collect::<Vec<u8>>().into()
            }).collect();
            for coding in CODINGS {
                let encoder = Encoder::new(coding, Arc::new(Encoders::new(1, min_rate)), false);
                prop_assert!(decode(coding, &encode(encoder, &chunks)) == chunks.concat());
            }
        }
    }
}
