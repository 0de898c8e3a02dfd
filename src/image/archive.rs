//! Archives: an uncompressed one is only looked through, a compressed one is unpacked on the way.

use super::{
    Image, ImageError, Options, Reader,
    contents::{Contents, Entry, MAX_JSON, normalise},
    decompress::{Chunks, Compression, decoder, overlapped},
    docker_archive,
    limits::LimitExceeded,
    magic::{self, Format, HEAD},
    measure::{Xz, measure},
    oci_layout,
    progress::Counted,
    store_file::{FileRange, StoreFile},
    tar_walk::{Data, Kind, Member, Seekable, Walk},
};
use crate::oci::Digest;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom},
    sync::{Arc, atomic::AtomicU64},
};

/// What a member other than a file is to whoever refers to it.
fn entry_of(member: &Member) -> Entry {
    let folder = match member.name.iter().rposition(|b| *b == b'/') {
        Some(slash) => &member.name[..slash],
        None => &[],
    };
    let link = |base: &[u8], target: &[u8]| match normalise(base, target) {
        Ok(target) => Entry::Link(target),
        Err(why) => Entry::Unfit(format!("a link to {:?}, which {why}", String::from_utf8_lossy(target))),
    };
    match &member.kind {
        Kind::File => Entry::Unfit("neither JSON nor a tar archive".into()),
        Kind::HardLink(target) => link(b"", target),
        Kind::SymLink(target) => link(folder, target),
        Kind::Folder => Entry::Unfit("a folder".into()),
        Kind::Special(what) => Entry::Unfit((*what).into()),
    }
}

/// A file that is read for no longer than a reading may take: one that is sparse can be of any length.
struct Watched<'r> {
    inner: File,
    reader: &'r Reader,
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.budget.in_time().map_err(LimitExceeded::from)?;
        self.inner.read(buf)
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Reads the image in it: an OCI layout, or what `docker save` writes.
pub(super) fn read(
    reader: &Reader,
    file: StoreFile,
    format: Format,
    options: &Options,
) -> Result<Image, ImageError> {
    let path = file.path.clone();
    let mut contents = contents(reader, file, format)?;
    if oci_layout::is_one(&contents) {
        match oci_layout::read(&mut contents) {
            // `docker save` writes both, and an index of more platforms than it has the blobs of.
            Err(ImageError::Incomplete { .. }) if docker_archive::is_one(&contents) => {}
            result => return result,
        }
    }
    if docker_archive::is_one(&contents) {
        return docker_archive::read(&mut contents, options);
    }
    let found = format!("{}, but no manifest.json and no index.json", contents.describe());
    Err(ImageError::Unrecognised { path, found })
}

/// What is in it.
pub(super) fn contents(reader: &Reader, file: StoreFile, format: Format) -> Result<Contents<'_>, ImageError> {
    match format {
        Format::Tar => scan(reader, file),
        Format::Compressed(compression) => unpack(reader, file, compression),
    }
}

/// Looks through an uncompressed archive; no contents are read.
fn scan(reader: &Reader, file: StoreFile) -> Result<Contents<'_>, ImageError> {
    let file = Arc::new(file);
    let mut contents = Contents::of_archive(reader, &file.path, "a tar archive".into());
    let reading = |error| ImageError::reading(&file.path, "the archive", error);
    let clone = file.file.try_clone().map_err(reading)?;
    let input = Watched { inner: clone, reader };
    let mut walk = Walk::new(Seekable(BufReader::with_capacity(16 << 10, input)));
    while let Some(member) = walk.next().map_err(reading)? {
        let offset = walk.position();
        if walk.end().is_none_or(|end| end > file.size) {
            let name = String::from_utf8_lossy(&member.name);
            return Err(contents.invalid(format!("the archive ends within {name:?}")));
        }
        let entry = match member.kind {
            Kind::File => Entry::Range { file: file.clone(), offset, size: member.size },
            _ => entry_of(&member),
        };
        contents.add(&member.name, entry).map_err(|exceeded| contents.exceeded(exceeded))?;
    }
    Ok(contents)
}

/// Unpacks a compressed archive: what may be a layer into unfinished blobs of the cache, JSON into memory.
fn unpack(reader: &Reader, file: StoreFile, compression: Compression) -> Result<Contents<'_>, ImageError> {
    let what = format!("a {}-compressed tar archive", compression.name());
    let mut contents = Contents::of_archive(reader, &file.path, what);
    reader.progress.expect(file.size);
    streamed(reader, &file, compression, |walk| {
        let mut json = 0;
        while let Some(member) = next(walk, &file)? {
            let entry = match member.kind {
                Kind::File => unpack_file(&mut contents, walk, &member, &mut json)?,
                _ => entry_of(&member),
            };
            contents.add(&member.name, entry).map_err(|exceeded| contents.exceeded(exceeded))?;
        }
        Ok(())
    })?;
    Ok(contents)
}

fn unpack_file(
    contents: &mut Contents<'_>,
    walk: &mut Walk<&mut Chunks>,
    member: &Member,
    json: &mut u64,
) -> Result<Entry, ImageError> {
    let limits = &contents.reader.limits;
    let name = String::from_utf8_lossy(&member.name);
    let reading = |error| ImageError::reading(&contents.path, &name, error);
    let mut data = walk.data();
    let head = head(&mut data).map_err(reading)?;
    let first = head.iter().find(|b| !b.is_ascii_whitespace());
    let looks_like_json = head.is_empty() || matches!(first, Some(b'{' | b'['));
    if looks_like_json && member.size <= limits.max_manifest_bytes.max(limits.max_config_bytes) {
        *json += member.size;
        if *json > MAX_JSON {
            let what = "all JSON in it together".into();
            return Err(contents.exceeded(LimitExceeded::Bytes { what, size: *json, limit: MAX_JSON }));
        }
        contents.charge(member.size, "its JSON")?;
        let mut bytes = head;
        data.read_to_end(&mut bytes).map_err(reading)?;
        return Ok(Entry::Memory(bytes.into()));
    }
    let xz = xz_policy(&member.name);
    if xz == Xz::Unpack && magic::format(&head).is_none() {
        let large = looks_like_json.then(|| format!("JSON of {} bytes, more than is allowed", member.size));
        return Ok(large.map_or_else(|| entry_of(member), Entry::Unfit));
    }
    // An index may have images for several platforms; far more members than that are no layers.
    let limit = limits.max_layers.saturating_mul(4);
    if contents.kept.len() >= limit {
        return Err(contents.exceeded(LimitExceeded::Count { what: "layers", limit }));
    }
    let (measured, kept) =
        measure(contents.reader, Cursor::new(head).chain(data), true, xz).map_err(reading)?;
    contents.kept.push(kept);
    Ok(Entry::Kept(measured, contents.kept.len() - 1))
}

/// Finds the member with this digest and size and puts it into the cache; `false` if there is none.
pub(super) fn recreate(
    reader: &Reader,
    file: &StoreFile,
    format: Format,
    digest: Digest,
    size: u64,
) -> Result<bool, ImageError> {
    match format {
        Format::Compressed(compression) => recreate_unpacked(reader, file, compression, (digest, size)),
        Format::Tar => recreate_from_plain(reader, file, digest),
    }
}

/// The same for a compressed archive. The size saves writing, and even hashing, nearly everything else.
fn recreate_unpacked(
    reader: &Reader,
    file: &StoreFile,
    compression: Compression,
    wanted: (Digest, u64),
) -> Result<bool, ImageError> {
    streamed(reader, file, compression, |walk| {
        while let Some(member) = next(walk, file)? {
            if member.kind != Kind::File {
                continue;
            }
            let reading =
                |error| ImageError::reading(&file.path, String::from_utf8_lossy(&member.name), error);
            let xz = xz_policy(&member.name);
            let mut data = walk.data();
            let head = head(&mut data).map_err(reading)?;
            let unpacked = magic::format(&head) == Some(Format::Compressed(Compression::Xz));
            if member.size != wanted.1 && !(unpacked && xz == Xz::Unpack) {
                continue;
            }
            let body = Cursor::new(head).chain(data);
            if let (measured, Some(kept)) = measure(reader, body, true, xz).map_err(reading)?
                && measured.digest == wanted.0
            {
                reader.cache.commit_all(vec![(wanted.0, kept)])?;
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// The same for an uncompressed archive, where only what was compressed with xz is in the cache.
fn recreate_from_plain(reader: &Reader, file: &StoreFile, wanted: Digest) -> Result<bool, ImageError> {
    let clone =
        file.file.try_clone().map_err(|error| ImageError::reading(&file.path, "the archive", error))?;
    let input = Watched { inner: clone, reader };
    let mut walk = Walk::new(Seekable(BufReader::with_capacity(16 << 10, input)));
    let reading = |error| ImageError::reading(&file.path, "the archive", error);
    while let Some(member) = walk.next().map_err(reading)? {
        let position = walk.position();
        if walk.end().is_none_or(|end| end > file.size) {
            return Err(reading(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut range = FileRange { file: &file.file, position, end: position + member.size };
        let mut head = Vec::new();
        range.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(reading)?;
        if member.kind != Kind::File
            || xz_policy(&member.name) == Xz::Keep
            || magic::format(&head) != Some(Format::Compressed(Compression::Xz))
        {
            continue;
        }
        range.position = position;
        if let (measured, Some(kept)) = measure(reader, range, false, Xz::Unpack).map_err(reading)?
            && measured.digest == wanted
        {
            reader.cache.commit_all(vec![(wanted, kept)])?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Only an OCI layout has members in `blobs/`, and it says itself what they are.
pub(super) fn xz_policy(name: &[u8]) -> Xz {
    match normalise(b"", name) {
        Ok(name) if name.starts_with(b"blobs/") => Xz::Keep,
        _ => Xz::Unpack,
    }
}

fn head(data: &mut Data<'_, &mut Chunks>) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    data.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn next(walk: &mut Walk<&mut Chunks>, file: &StoreFile) -> Result<Option<Member>, ImageError> {
    walk.next().map_err(|error| ImageError::reading(&file.path, "the archive", error))
}

/// Gives the members of a compressed archive to `consume` while another thread decompresses.
fn streamed<T>(
    reader: &Reader,
    file: &StoreFile,
    compression: Compression,
    consume: impl FnOnce(&mut Walk<&mut Chunks>) -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    let taken = AtomicU64::new(0);
    let range = FileRange { file: &file.file, position: 0, end: file.size };
    let source = decoder(compression, Counted { inner: range, reader }, &taken, reader)
        .map_err(|error| ImageError::reading(&file.path, "the archive", error))?;
    overlapped(source, |chunks| {
        let head =
            chunks.fill_buf().map_err(|error| ImageError::reading(&file.path, "the archive", error))?;
        let head = &head[..head.len().min(HEAD)];
        if magic::format(head) != Some(Format::Tar) {
            let found = format!("{} data that unpack to {}", compression.name(), magic::describe(head));
            return Err(ImageError::Unrecognised { path: file.path.clone(), found });
        }
        consume(&mut Walk::new(chunks))
    })
}
