//! Layers and other blobs of an image: measured in parallel, then put where they are served from.

use super::{
    ImageBlob, ImageError,
    archive::xz_policy,
    contents::{Contents, Entry},
    decompress::Compression,
    magic::{self, Format, HEAD},
    measure::{Measured, Xz, in_parallel, measure},
    progress::Counted,
    store_file::{FileRange, StoreFile},
};
use crate::{
    blob::{Source, cache::Finished},
    oci::Digest,
};
use bytes::Bytes;
use std::{
    collections::{HashMap, HashSet},
    io::{Cursor, Read},
    path::PathBuf,
    sync::Arc,
};

/// A measured blob and where it is going to be served from.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) measured: Measured,
    source: Source,
    /// The number among [`Contents::kept`] of what has to be committed.
    kept: Option<usize>,
}

/// Bytes that a blob takes in lists and maps until it is in a manifest.
const PART: u64 = 1024;

/// Bytes to be read and measured. Those that are the same are measured once.
enum Job {
    Range { file: Arc<StoreFile>, offset: u64, size: u64, name: String, xz: Xz },
    OnDisk { path: PathBuf, name: String },
    Memory { bytes: Bytes, name: String },
}

#[derive(PartialEq, Eq, Hash)]
enum Same {
    Range(u64, u64, Xz),
    OnDisk(PathBuf),
    Memory(Bytes),
}

impl Job {
    fn size(&self) -> u64 {
        match self {
            Self::Range { size, .. } => *size,
            Self::OnDisk { path, .. } => path.symlink_metadata().map_or(0, |metadata| metadata.len()),
            Self::Memory { bytes, .. } => bytes.len() as u64,
        }
    }
}

impl Contents<'_> {
    /// Measures the members of these names, which `wanted_by` refers to.
    pub(super) fn measure(&mut self, names: &[String], wanted_by: &str) -> Result<Vec<Part>, ImageError> {
        let mut jobs: Vec<Job> = Vec::new();
        let mut known: HashMap<Same, usize> = HashMap::new();
        // For every name either its part or the number of the job that yields it.
        let mut results: Vec<Result<Part, usize>> = Vec::new();
        for name in names {
            self.charge(PART + 4 * name.len() as u64, "its list of blobs")?;
            let (same, job) = match self.find(name, wanted_by)? {
                Entry::Kept(measured, n) => {
                    results.push(Ok(Part { measured, source: Source::Cache, kept: Some(n) }));
                    continue;
                }
                Entry::Range { file, offset, size } => {
                    let xz = xz_policy(name.as_bytes());
                    (Same::Range(offset, size, xz), Job::Range { file, offset, size, name: name.clone(), xz })
                }
                Entry::OnDisk(path) => (Same::OnDisk(path.clone()), Job::OnDisk { path, name: name.clone() }),
                Entry::Memory(bytes) => {
                    (Same::Memory(bytes.clone()), Job::Memory { bytes, name: name.clone() })
                }
                // `find` has followed links and refused what is unfit.
                Entry::Link(_) | Entry::Unfit(_) => return Err(self.invalid(format!("{name:?} is no file"))),
            };
            results.push(Err(*known.entry(same).or_insert_with(|| {
                jobs.push(job);
                jobs.len() - 1
            })));
        }
        let stored = jobs.iter().filter(|job| !matches!(job, Job::Memory { .. }));
        self.reader.progress.expect(stored.map(Job::size).sum());
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        order.sort_by_key(|n| std::cmp::Reverse(jobs[*n].size()));
        // Those that need much memory, no more at a time than there is memory for.
        let (windows, order): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|n| self.needs_window(&jobs[*n], wanted_by));
        let run = |n: &usize| self.run(&jobs[*n], wanted_by);
        let threads = self.reader.budget.threads(self.reader.threads, Compression::most_memory());
        let mut done = in_parallel(&windows, threads, run)?;
        done.extend(in_parallel(&order, self.reader.threads, run)?);
        let order = windows.into_iter().chain(order);
        let mut parts: Vec<Option<Part>> = vec![None; jobs.len()];
        for (n, (measured, source, kept)) in order.zip(done) {
            let kept = kept.map(|kept| {
                self.kept.push(Some(kept));
                self.kept.len() - 1
            });
            parts[n] = Some(Part { measured, source, kept });
        }
        let missing = || self.invalid("a member has not been measured");
        results
            .into_iter()
            .map(|result| result.or_else(|n| parts.get(n).cloned().flatten().ok_or_else(missing)))
            .collect()
    }

    /// Whether a job takes a decoder with a large window. What cannot be read now is an error when it is run.
    fn needs_window(&self, job: &Job, wanted_by: &str) -> bool {
        let head = |file: &StoreFile, position, size: u64| {
            let mut range =
                FileRange { file: &file.file, position, end: position.saturating_add(size.min(HEAD as u64)) };
            let mut head = Vec::new();
            range.read_to_end(&mut head).ok().map(|_| head)
        };
        let head = match job {
            Job::Range { file, offset, size, .. } => head(file, *offset, *size),
            Job::OnDisk { path, name } => {
                self.open(path, name, wanted_by).ok().and_then(|file| head(&file, 0, file.size))
            }
            Job::Memory { .. } => None,
        };
        let format = head.and_then(|head| magic::format(&head));
        matches!(format, Some(Format::Compressed(Compression::Zstd | Compression::Xz)))
    }

    fn run(&self, job: &Job, wanted_by: &str) -> Result<(Measured, Source, Option<Finished>), ImageError> {
        let stored = |file: &StoreFile, offset, size, name: &str, xz| {
            let range = FileRange { file: &file.file, position: offset, end: offset.saturating_add(size) };
            let body = Counted { inner: range, reader: self.reader };
            let (measured, kept) = measure(self.reader, body, false, xz)
                .map_err(|error| ImageError::reading(&self.path, format_args!("{name:?}"), error))?;
            let source = match kept {
                Some(_) => Source::Cache,
                None => Source::Store {
                    object: file.object.clone(),
                    file: file.within.clone(),
                    offset,
                    fingerprint: file.fingerprint,
                },
            };
            Ok((measured, source, kept))
        };
        match job {
            Job::Range { file, offset, size, name, xz } => stored(file, *offset, *size, name, *xz),
            Job::OnDisk { path, name } => {
                let file = self.open(path, name, wanted_by)?;
                stored(&file, 0, file.size, name, Xz::Keep)
            }
            Job::Memory { bytes, name } => {
                let (measured, kept) = measure(self.reader, Cursor::new(bytes), true, Xz::Keep)
                    .map_err(|error| ImageError::reading(&self.path, format_args!("{name:?}"), error))?;
                Ok((measured, Source::Cache, kept))
            }
        }
    }

    /// Makes what these parts need durable in the cache, and yields their rows, each digest once.
    pub(super) fn place(&mut self, parts: &[Part]) -> Result<Vec<ImageBlob>, ImageError> {
        let mut seen = HashSet::new();
        let mut blobs = Vec::new();
        let mut commit: Vec<(Digest, Finished)> = Vec::new();
        // Of two places of the same bytes, the store costs nothing.
        let (cached, stored): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.kept.is_some());
        for part in stored.into_iter().chain(cached) {
            let Measured { digest, size, .. } = part.measured;
            if !seen.insert(digest) {
                continue;
            }
            if let Some(kept) = part.kept.and_then(|n| self.kept.get_mut(n)).and_then(Option::take) {
                commit.push((digest, kept));
            }
            blobs.push(ImageBlob { digest, size, source: part.source.clone() });
        }
        self.reader.cache.commit_all(commit)?;
        Ok(blobs)
    }
}
