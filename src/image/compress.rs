//! Layers that are kept compressed, `LAYER_COMPRESSION`.
//!
//! A layer is compressed once for all images that have it: a note in the cache of entry lists, named by the layer and by
//! how it is compressed, says which blob that was.

use super::{ImageBlob, ImageError, LayerCompression, Reader, measure::in_parallel};
use crate::{
    blob::{
        Blob, Buffers, Fingerprint, Mapping, Source, VirtualTar,
        cache::{CacheWriter, Finished},
    },
    encode::{BLOCK, Coding, Compressor, VERSION},
    layer::EntryList,
    oci::{Descriptor, Digest, DigestWriter, media_type},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, mpsc},
};

/// Memory of a thread that compresses, in bytes: a block, what it becomes, what waits to be written, and a workspace.
const COMPRESSOR: u64 = 32 << 20;
/// Notes are shorter.
const MAX_NOTE: u64 = 1024;

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Note {
    digest: Digest,
    size: u64,
    /// Of the note's name and the two above.
    checksum: Digest,
}

impl Note {
    fn new(name: Digest, digest: Digest, size: u64) -> Self {
        Self { digest, size, checksum: Digest::of(format!("{name} {digest} {size}").as_bytes()) }
    }

    /// What a layer was compressed to earlier, unless that is not known any more.
    fn read(reader: &Reader, name: Digest) -> Option<Self> {
        let file = reader.lists.open_blob(&name).ok().flatten()?;
        let mut bytes = Vec::new();
        file.take(MAX_NOTE).read_to_end(&mut bytes).ok()?;
        let note: Self = serde_json::from_slice(&bytes).ok()?;
        let is_whole = note == Self::new(name, note.digest, note.size);
        if !is_whole {
            tracing::warn!(%name, "a note of a compressed layer is damaged; the layer is compressed again");
            // What cannot be removed cannot be replaced either, and that is reported then.
            let _ = reader.lists.remove(&name);
        }
        is_whole.then_some(note)
    }
}

/// The coding, and the media type of a layer that has it; none if layers stay what they are.
fn coding(compression: LayerCompression) -> Option<(Coding, &'static str)> {
    match compression {
        LayerCompression::None => None,
        LayerCompression::Gzip => Some((Coding::Gzip, media_type::OCI_LAYER_GZIP)),
        LayerCompression::Zstd => Some((Coding::Zstd, media_type::OCI_LAYER_ZSTD)),
    }
}

/// These layers, with those that are plain archives compressed. The blobs that takes are added to `blobs`; those of the
/// plain ones stay there, since the other form of the manifest may have them, and others can be made of them.
pub(super) fn layers(
    reader: &Reader,
    compression: LayerCompression,
    layers: &[Descriptor],
    blobs: &mut Vec<ImageBlob>,
) -> Result<Vec<Descriptor>, ImageError> {
    let Some((coding, compressed_type)) = coding(compression) else { return Ok(layers.to_vec()) };
    let plain = |layer: &&Descriptor| layer.media_type == media_type::OCI_LAYER_TAR;
    let mut jobs: Vec<&ImageBlob> = blobs
        .iter()
        .filter(|blob| layers.iter().filter(plain).any(|layer| layer.digest == blob.digest))
        .collect();
    jobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    // A layer of many blocks keeps all threads busy, small ones do so together.
    let (large, small): (Vec<&ImageBlob>, Vec<&ImageBlob>) =
        jobs.into_iter().partition(|blob| blob.size > 2 * BLOCK);
    let threads = reader.budget.threads(reader.threads, COMPRESSOR);
    let mut made = Vec::new();
    for blob in large {
        made.push(compress(reader, coding, blob, threads)?);
    }
    made.extend(in_parallel(&small, threads, |blob| compress(reader, coding, blob, NonZeroUsize::MIN))?);

    let (mut by_plain, mut finished, mut notes) = (HashMap::new(), Vec::new(), Vec::new());
    for Made { plain, blob, new } in made {
        if let (Some((bytes, note)), Source::Compressed { note: name }) = (new, &blob.source) {
            finished.push((blob.digest, bytes));
            notes.push((*name, note));
        }
        by_plain.insert(plain, blob);
    }
    reader.cache.commit_all(finished)?;
    reader.lists.commit_all(notes)?;
    for blob in blobs.iter().filter(|blob| blob.source == Source::Cache) {
        // What was unpacked only to be compressed. Whoever asks for it all the same gets it unpacked once more.
        if by_plain.contains_key(&blob.digest)
            && let Err(error) = reader.cache.remove(&blob.digest)
        {
            tracing::warn!(digest = %blob.digest, %error, "it cannot be removed from {:?}", reader.cache.dir());
        }
    }
    let compressed = layers.iter().map(|layer| match by_plain.get(&layer.digest) {
        Some(ImageBlob { digest, size, .. }) => {
            let (digest, size) = (*digest, *size);
            Descriptor { media_type: compressed_type.into(), digest, size, ..layer.clone() }
        }
        None => layer.clone(),
    });
    let compressed = compressed.collect();
    let known: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
    blobs.extend(by_plain.into_values().filter(|blob| !known.contains(&blob.digest)));
    Ok(compressed)
}

/// A layer that is compressed, and if that was done just now, its bytes and the note of it.
struct Made {
    plain: Digest,
    blob: ImageBlob,
    new: Option<(Finished, Finished)>,
}

fn compress(
    reader: &Reader,
    coding: Coding,
    blob: &ImageBlob,
    threads: NonZeroUsize,
) -> Result<Made, ImageError> {
    let name = format!("layer compressed with {}, version {VERSION}: {}", coding.name(), blob.digest);
    let name = Digest::of(name.as_bytes());
    let made = |digest, size, new| {
        let source = Source::Compressed { note: name };
        Made { plain: blob.digest, blob: ImageBlob { digest, size, source }, new }
    };
    reader.progress.expect(blob.size);
    if let Some(note) = Note::read(reader, name)
        && reader.cache.contains(&note.digest)
    {
        reader.progress.read(blob.size);
        return Ok(made(note.digest, note.size, None));
    }
    let failed = |error| ImageError::reading(place(reader, blob), "a layer", error);
    let content = open(reader, blob).map_err(failed)?;
    let out = DigestWriter::new(reader.cache.writer()?);
    let (digest, size, out) = in_blocks(reader, coding, &content, threads, out).map_err(failed)?;
    let mut note = reader.lists.writer()?;
    // Strings and numbers: there is no note for which this fails.
    let text = serde_json::to_vec(&Note::new(name, digest, size)).unwrap_or_default();
    note.write_all(&text).map_err(failed)?;
    Ok(made(digest, size, Some((out.finish(), note.finish()))))
}

/// Compresses block by block; each thread has every n-th, so that none gets far ahead of the writing.
fn in_blocks(
    reader: &Reader,
    coding: Coding,
    content: &Blob,
    threads: NonZeroUsize,
    mut out: DigestWriter<CacheWriter>,
) -> io::Result<(Digest, u64, CacheWriter)> {
    let (length, threads) = (content.len(), threads.get() as u64);
    let run = |first: u64, blocks: mpsc::SyncSender<io::Result<Vec<u8>>>| {
        let read = content.reader();
        let mut compressor = Compressor::new(coding);
        let mut compress = |start: u64| {
            let range = start..length.min(start + BLOCK);
            let compressor = compressor.as_mut().map_err(|error| io::Error::other(error.to_string()))?;
            let block = compressor.block(&read(range.clone())?)?;
            reader.progress.read(range.end - range.start);
            Ok(block)
        };
        for start in (first * BLOCK..length).step_by((threads * BLOCK) as usize) {
            let block = compress(start);
            let failed = block.is_err();
            if blocks.send(block).is_err() || failed {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let run = &run;
        let workers: Vec<_> = (0..threads.min(length.div_ceil(BLOCK)))
            .map(|first| {
                let (full, blocks) = mpsc::sync_channel(1);
                scope.spawn(move || run(first, full));
                blocks
            })
            .collect();
        for worker in workers.iter().cycle().take(length.div_ceil(BLOCK) as usize) {
            let block = worker.recv().map_err(|_| io::Error::other("a thread that compresses ended"))?;
            out.write_all(&block?)?;
        }
        Ok(out.finish())
        // On an error the channels are dropped before the scope joins its threads, so one that waits to send wakes up.
    })
}

/// The file of a plain layer, for messages.
fn place(reader: &Reader, blob: &ImageBlob) -> PathBuf {
    match &blob.source {
        Source::Store { object, file, .. } if file.as_os_str().is_empty() => reader.store.join(object),
        Source::Store { object, file, .. } => reader.store.join(object).join(file),
        _ => blob.digest.to_string().into(),
    }
}

/// A plain layer, that was hashed a moment ago.
fn open(reader: &Reader, blob: &ImageBlob) -> io::Result<Blob> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "it is not there any more");
    let buffers = Buffers::new(BLOCK as usize, reader.threads.get());
    match &blob.source {
        Source::Store { offset, fingerprint, .. } => {
            let path = place(reader, blob);
            let mapping = Mapping::new(File::open(&path)?, path, *fingerprint)?;
            mapping.verify()?;
            Blob::mapped(Arc::new(mapping), *offset, blob.size, buffers)
        }
        Source::Cache | Source::Compressed { .. } => {
            let file = reader.cache.open_blob(&blob.digest)?.ok_or_else(gone)?;
            let fingerprint = Fingerprint::of(&file.metadata()?);
            let mapping = Mapping::new(file, reader.cache.path(&blob.digest), fingerprint)?;
            Blob::mapped(Arc::new(mapping), 0, blob.size, buffers)
        }
        Source::Virtual { list } => {
            let list = EntryList::open(reader.lists.open_blob(list)?.ok_or_else(gone)?)?;
            Ok(Blob::virtual_tar(VirtualTar::new(list, buffers, |_| ())))
        }
        Source::Inline(bytes) => Ok(Blob::memory(bytes.clone())),
    }
}
