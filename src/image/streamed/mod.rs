//! Images whose layers are computed from store paths: what nixpkgs' `streamLayeredImage` and flakeforge's
//! `streamLayeredImageConf` yield. A script that names a configuration, or the configuration itself; neither is run.

mod conf;
mod config;
mod script;
mod time;

use super::{
    Image, ImageBlob, ImageError, Options, Reader,
    contents::Contents,
    convert, docker_archive,
    json::Json,
    limits::LimitExceeded,
    measure::{Encoding, in_parallel},
    recognise,
    store_file::{StoreFile, follow},
};
use crate::{
    blob::{Source, cache::Finished},
    layer::{self, EntryList, LayerError},
    oci::{Descriptor, Digest, media_type},
};
use conf::Conf;
use config::Mention;
use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A configuration, read but not understood yet.
pub(super) struct Found {
    file: StoreFile,
    json: Json,
    writer: Option<script::Writer>,
}

/// The configuration that this file is, or that the script in it names; none if it is no streamed image.
pub(super) fn recognise(reader: &Reader, file: &StoreFile) -> Result<Option<Found>, ImageError> {
    let head = file.head(recognise::HEAD)?;
    match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => configuration(reader, &file.path, &file.path, None),
        Some(b'#') if head.starts_with(b"#!") && file.size <= script::MAX_SCRIPT => {
            let Some(wrapper) = text(file)? else { return Ok(None) };
            let (configurations, program) = script::names(&reader.store, &wrapper);
            let [path] = &configurations[..] else { return Ok(None) };
            let writer = match program {
                Some(program) => match open(reader, &program, (&file.path, "the script"))? {
                    file if file.size <= script::MAX_SCRIPT => {
                        text(&file)?.map(|text| script::Writer::read(&text))
                    }
                    _ => None,
                },
                None => None,
            };
            configuration(reader, path, &file.path, writer)
        }
        _ => Ok(None),
    }
}

fn text(file: &StoreFile) -> Result<Option<String>, ImageError> {
    Ok(String::from_utf8(file.head(script::MAX_SCRIPT as usize)?).ok())
}

fn configuration(
    reader: &Reader,
    path: &Path,
    script: &Path,
    writer: Option<script::Writer>,
) -> Result<Option<Found>, ImageError> {
    let file = open(reader, path, (script, "the script"))?;
    let limit = reader.limits.max_config_bytes;
    if file.size > limit {
        let what = "the configuration".into();
        let exceeded = LimitExceeded::Bytes { what, size: file.size, limit };
        return Err(ImageError::LimitExceeded { path: file.path, exceeded });
    }
    let bytes = file.head(limit as usize)?;
    let json = match serde_json::from_slice::<Json>(&bytes) {
        Ok(json) if conf::is_one(&json) => json,
        _ => return Ok(None),
    };
    Ok(Some(Found { file, json, writer }))
}

/// Opens a file of the store that `wanted_by`, in the file `of`, names.
fn open(reader: &Reader, path: &Path, (of, wanted_by): (&Path, &str)) -> Result<StoreFile, ImageError> {
    let found = follow(&reader.store, path, reader.limits.max_links)?;
    let found = found.ok_or_else(|| ImageError::Incomplete {
        path: of.into(),
        member: path.display().to_string(),
        wanted_by: wanted_by.into(),
    })?;
    StoreFile::open(&reader.store, found)
}

/// The archive whose layers come first, if there is one.
pub(super) fn base(reader: &Reader, found: &Found) -> Result<Option<StoreFile>, ImageError> {
    let archive = found.json.get("from_image").and_then(Json::string);
    archive.map(|archive| open(reader, Path::new(archive), (&found.file.path, "\"from_image\""))).transpose()
}

/// A layer, and how it is mentioned.
struct Layer {
    descriptor: Descriptor,
    mention: Mention,
}

/// Reads the image: hashes its layers, unless their entry lists are there already, and writes down their entries.
pub(super) fn read(reader: &Reader, found: Found, _options: &Options) -> Result<Image, ImageError> {
    reader.progress.is_open_ended();
    let base_archive = base(reader, &found)?;
    let Found { file, json, writer } = found;
    let invalid = |problem: String| ImageError::invalid(&file.path, problem);
    // When a configuration says "now", it is as old as itself: so it does not change with every look at it.
    let born = file.file.metadata().and_then(|metadata| metadata.created());
    let conf = Conf::parse(&json, writer, born.unwrap_or_else(|_| SystemTime::now())).map_err(invalid)?;
    if Path::new(&conf.store_dir) != reader.store.as_path() {
        return Err(invalid(format!(
            "its \"store_dir\" is {:?}, but this store is {:?}",
            conf.store_dir,
            reader.store.as_path()
        )));
    }
    let paths = store_paths(reader, &file, &conf)?;
    let (mut layers, mut blobs) = (Vec::new(), Vec::new());
    let mut base = None;
    if let Some(archive) = base_archive {
        let mut contents = super::contents_of(reader, archive)?;
        let loaded = docker_archive::load(&mut contents)?;
        let json = serde_json::from_slice::<Json>(&loaded.config);
        base =
            Some(json.map_err(|error| invalid(format!("the configuration of its \"from_image\": {error}")))?);
        blobs = contents.place(&loaded.parts)?;
        for (name, descriptor, diff_id) in loaded.layers {
            let mention = Mention { diff_id, paths: vec![name] };
            layers.push(Layer { descriptor, mention });
        }
    }
    let count = layers.len() + paths.len() + usize::from(conf.customisation_layer.is_some());
    if count > reader.limits.max_layers {
        let exceeded = LimitExceeded::Count { what: "layers", limit: reader.limits.max_layers };
        return Err(ImageError::LimitExceeded { path: file.path, exceeded });
    }
    let customisation = match &conf.customisation_layer {
        Some(folder) => Some(customisation(reader, &file, folder)?),
        None => None,
    };
    let made = in_parallel(&paths, reader.threads, |paths| compute(reader, &file, &conf, paths))?;
    let mut commit = Vec::new();
    for ((blob, list), paths) in made.into_iter().zip(&conf.store_layers) {
        if let (Source::Virtual { list: name }, Some(list)) = (&blob.source, list) {
            commit.push((*name, list));
        }
        let descriptor = Descriptor::new(media_type::OCI_LAYER_TAR, blob.digest, blob.size);
        layers.push(Layer { descriptor, mention: Mention { diff_id: blob.digest, paths: paths.clone() } });
        blobs.push(blob);
    }
    if let (Some(blob), Some(folder)) = (customisation, &conf.customisation_layer) {
        let descriptor = Descriptor::new(media_type::OCI_LAYER_TAR, blob.digest, blob.size);
        layers.push(Layer {
            descriptor,
            mention: Mention { diff_id: blob.digest, paths: vec![folder.clone()] },
        });
        blobs.push(blob);
    }
    reader.lists.commit_all(commit)?;
    let (descriptors, mentions): (Vec<_>, Vec<_>) =
        layers.into_iter().map(|l| (l.descriptor, l.mention)).unzip();
    let config = config::config(&conf, base.as_ref(), &mentions);
    let tags =
        conf.repo_tag.iter().filter(|name| name.contains(':')).filter_map(|name| convert::tag_of(name));
    let mut seen = HashSet::new();
    blobs.retain(|blob| seen.insert(blob.digest));
    Ok(Image::of_layers(config.into(), descriptors, blobs, tags.collect()))
}

/// The layers' paths in the store. Nothing but store paths is accepted, so nothing else is ever opened.
fn store_paths(reader: &Reader, file: &StoreFile, conf: &Conf) -> Result<Vec<Vec<PathBuf>>, ImageError> {
    let limit = reader.limits.max_members;
    if conf.store_layers.iter().map(Vec::len).sum::<usize>() > limit {
        let exceeded = LimitExceeded::Count { what: "store paths", limit };
        return Err(ImageError::LimitExceeded { path: file.path.clone(), exceeded });
    }
    let path = |text: &String| {
        let store_path = reader.store.parse(text).map_err(|error| {
            ImageError::invalid(
                &file.path,
                format!("its \"store_layers\" name what cannot be served: {error}"),
            )
        })?;
        let path = reader.store.join(&store_path);
        match path.symlink_metadata() {
            Ok(_) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ImageError::Incomplete {
                path: file.path.clone(),
                member: text.clone(),
                wanted_by: "\"store_layers\"".into(),
            }),
            Err(source) => Err(ImageError::Io { path, source }),
        }
    };
    conf.store_layers.iter().map(|layer| layer.iter().map(path).collect()).collect()
}

/// Makes one layer, with its entry list if there was none.
fn compute(
    reader: &Reader,
    file: &StoreFile,
    conf: &Conf,
    paths: &[PathBuf],
) -> Result<(ImageBlob, Option<Finished>), ImageError> {
    let failed = |error: LayerError| match error {
        LayerError::Io { path, source } => ImageError::Io { path, source },
        LayerError::Changed { ref path } => {
            let path = path.clone();
            ImageError::Io { path, source: io::Error::other(error) }
        }
        LayerError::List(source) => ImageError::reading(&file.path, "an entry list", source),
        error => ImageError::invalid(&file.path, error),
    };
    let name = layer::recipe(&conf.style, paths).map_err(failed)?;
    let blob = |digest: Digest, size| ImageBlob { digest, size, source: Source::Virtual { list: name } };
    let known = reader.lists.open_blob(&name).ok().flatten().map(EntryList::open);
    match known {
        Some(Ok(list)) => return Ok((blob(list.digest(), list.size()), None)),
        Some(Err(error)) => {
            tracing::warn!(list = %name, "{error}; it is made again");
            // What cannot be removed cannot be replaced either, and that is reported then.
            let _ = reader.lists.remove(&name);
        }
        None => {}
    }
    let made = layer::make(&conf.style, paths, reader.lists.writer()?).map_err(failed)?;
    reader.progress.read(made.size);
    Ok((blob(made.digest, made.size), Some(made.list.finish())))
}

/// The layer that nixpkgs has made beforehand: a folder with `layer.tar` and its `checksum`.
fn customisation(reader: &Reader, conf: &StoreFile, folder: &str) -> Result<ImageBlob, ImageError> {
    const WANTED_BY: &str = "\"customisation_layer\"";
    let folder = Path::new(folder);
    let checksum = open(reader, &folder.join("checksum"), (&conf.path, WANTED_BY))?;
    let stated = String::from_utf8_lossy(&checksum.head(256)?).trim().to_owned();
    let invalid = |problem: String| ImageError::invalid(&conf.path, problem);
    let stated = Digest::from_hex(&stated).ok_or_else(|| {
        invalid(format!("{:?} has {stated:?}, which is no SHA-256 in hexadecimal digits", checksum.path))
    })?;
    let layer = open(reader, &folder.join("layer.tar"), (&conf.path, WANTED_BY))?;
    let mut contents = Contents::of_folder(reader, folder);
    let parts = contents.measure(&["layer.tar".to_owned()], WANTED_BY)?;
    if parts.iter().any(|part| part.measured.encoding != Encoding::Tar) {
        return Err(invalid(format!("{:?} is not a plain tar archive", layer.path)));
    }
    let mut blobs = contents.place(&parts)?;
    match blobs.pop() {
        Some(blob) if blob.digest == stated => Ok(blob),
        Some(blob) => Err(invalid(format!(
            "{:?} has the digest {}, but the checksum beside it says {stated}",
            layer.path, blob.digest
        ))),
        None => Err(invalid(format!("{:?} has not been measured", layer.path))),
    }
}
