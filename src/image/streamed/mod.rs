//! Images whose layers are computed from store paths: what nixpkgs' `streamLayeredImage` and flakeforge's
//! `streamLayeredImageConf` yield. A script that names a configuration, or the configuration itself; neither is run.

mod conf;
mod config;
mod script;
mod time;

use super::{
    Image, ImageBlob, ImageError, Options, Reader, archive,
    computed::{self, commit, compute},
    contents::Contents,
    convert, docker_archive,
    json::{self, Json},
    limits::LimitExceeded,
    magic,
    measure::{Encoding, in_parallel},
    store_file::StoreFile,
};
use crate::{
    budget::Held,
    layer::StorePaths,
    oci::{Descriptor, Digest},
};
use conf::Conf;
use config::Mention;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A configuration, read but not understood yet.
pub(super) struct Found<'r> {
    file: StoreFile,
    json: Json,
    program: Option<script::Program>,
    /// For the configuration, and all that is made of it.
    memory: Held<'r>,
}

/// The configuration that this file is, or that the script in it names; none if it is no streamed image.
pub(super) fn recognise<'r>(reader: &'r Reader, file: &StoreFile) -> Result<Option<Found<'r>>, ImageError> {
    let head = file.head(magic::HEAD)?;
    match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => configuration(reader, &file.path, &file.path, None),
        Some(b'#') if head.starts_with(b"#!") && file.size <= script::MAX_SCRIPT => {
            let Some(wrapper) = text(file)? else { return Ok(None) };
            let (configurations, program) = script::names(reader.store.store(), &wrapper);
            let [path] = &configurations[..] else { return Ok(None) };
            let program = match program {
                Some(program) => match open(reader, &program, (&file.path, "the script"))? {
                    file if file.size <= script::MAX_SCRIPT => {
                        text(&file)?.map(|text| script::Program::read(&text))
                    }
                    _ => None,
                },
                None => None,
            };
            configuration(reader, path, &file.path, program)
        }
        _ => Ok(None),
    }
}

fn open(reader: &Reader, path: &Path, named_by: (&Path, &str)) -> Result<StoreFile, ImageError> {
    StoreFile::open(reader.store.named(path, named_by)?)
}

fn text(file: &StoreFile) -> Result<Option<String>, ImageError> {
    Ok(String::from_utf8(file.head(script::MAX_SCRIPT as usize)?).ok())
}

fn configuration<'r>(
    reader: &'r Reader,
    path: &Path,
    script: &Path,
    program: Option<script::Program>,
) -> Result<Option<Found<'r>>, ImageError> {
    let file = open(reader, path, (script, "the script"))?;
    let limit = reader.limits.max_config_bytes;
    if file.size > limit {
        let what = "the configuration".into();
        let exceeded = LimitExceeded::Bytes { what, size: file.size, limit };
        return Err(ImageError::LimitExceeded { path: file.path, exceeded });
    }
    let bytes = file.head(limit as usize)?;
    if !conf::is_one(&bytes) {
        return Ok(None);
    }
    let memory = reader.budget.hold(json::weight(&bytes), "its configuration");
    let memory = memory.map_err(ImageError::exceeding(&file.path))?;
    match serde_json::from_slice(&bytes) {
        Ok(json) => Ok(Some(Found { file, json, program, memory })),
        Err(_) => Ok(None),
    }
}

impl Found<'_> {
    /// The configuration's file.
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }
}

/// Puts a blob of it into the cache again; `false` if it has none with this digest and size. Only layers of its base image
/// are ever there.
pub(super) fn recreate(
    reader: &Reader,
    found: &Found<'_>,
    digest: Digest,
    size: u64,
) -> Result<bool, ImageError> {
    let Some(file) = base(reader, found)? else { return Ok(false) };
    let format = magic::archive(&file)?;
    archive::recreate(reader, &file, format, digest, size)
}

/// The archive whose layers come first, if there is one.
fn base(reader: &Reader, found: &Found<'_>) -> Result<Option<StoreFile>, ImageError> {
    let archive = found.json.get("from_image").and_then(Json::string);
    archive.map(|archive| open(reader, Path::new(archive), (&found.file.path, "\"from_image\""))).transpose()
}

/// A layer, and how it is mentioned.
struct Layer {
    descriptor: Descriptor,
    mention: Mention,
}

/// Reads the image: hashes its layers, unless their entry lists are there already, and writes down their entries.
pub(super) fn read(reader: &Reader, found: Found<'_>, options: &Options) -> Result<Image, ImageError> {
    reader.progress.is_open_ended();
    let base_archive = base(reader, &found)?;
    let Found { file, json, program, memory } = found;
    memory.keep();
    let invalid = |problem: String| ImageError::invalid(&file.path, problem);
    // When a configuration says "now", it is as old as itself: so it does not change with every look at it.
    let born = file.file.metadata().and_then(|metadata| metadata.created());
    let conf = Conf::parse(&json, program, born.unwrap_or_else(|_| SystemTime::now())).map_err(invalid)?;
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
        let format = magic::archive(&archive)?;
        let mut contents = archive::contents(reader, archive, format)?;
        let loaded = docker_archive::load(&mut contents)?;
        reader
            .budget
            .charge(json::weight(&loaded.config), "the configuration of its \"from_image\"")
            .map_err(ImageError::exceeding(&file.path))?;
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
    let made = in_parallel(&paths, reader.threads, |paths| {
        let contents = StorePaths { paths, root_mode: conf.root_mode };
        compute(reader, &file.path, &conf.style, &contents)
    })?;
    let made = commit(reader, made)?;
    for ((blob, paths), mentioned) in made.into_iter().zip(&paths).zip(&conf.store_layers) {
        let descriptor = computed::descriptor(&blob, paths.iter().map(PathBuf::as_path), options);
        layers
            .push(Layer { descriptor, mention: Mention { diff_id: blob.digest, paths: mentioned.clone() } });
        blobs.push(blob);
    }
    if let (Some(blob), Some(folder)) = (customisation, &conf.customisation_layer) {
        let descriptor = computed::descriptor(&blob, [], options);
        layers.push(Layer {
            descriptor,
            mention: Mention { diff_id: blob.digest, paths: vec![folder.clone()] },
        });
        blobs.push(blob);
    }
    let (descriptors, mentions): (Vec<_>, Vec<_>) =
        layers.into_iter().map(|l| (l.descriptor, l.mention)).unzip();
    let limit = reader.limits.max_config_bytes;
    let config =
        config::config(&conf, base.as_ref(), &mentions, usize::try_from(limit).unwrap_or(usize::MAX));
    let config = config.ok_or_else(|| {
        let exceeded = LimitExceeded::Count { what: "bytes of configuration", limit: limit as usize };
        ImageError::LimitExceeded { path: file.path.clone(), exceeded }
    })?;
    let tags =
        conf.repo_tag.iter().filter(|name| name.contains(':')).filter_map(|name| convert::tag_of(name));
    let mut seen = HashSet::new();
    blobs.retain(|blob| seen.insert(blob.digest));
    Image::of_layers(reader, options, config.into(), descriptors, blobs, tags.collect())
}

/// The layers' paths in the store.
fn store_paths(reader: &Reader, file: &StoreFile, conf: &Conf) -> Result<Vec<Vec<PathBuf>>, ImageError> {
    let limit = reader.limits.max_members;
    if conf.store_layers.iter().map(Vec::len).sum::<usize>() > limit {
        let exceeded = LimitExceeded::Count { what: "store paths", limit };
        return Err(ImageError::LimitExceeded { path: file.path.clone(), exceeded });
    }
    let path = |text: &String| reader.store.object(text, (&file.path, "\"store_layers\""));
    conf.store_layers.iter().map(|layer| layer.iter().map(path).collect()).collect()
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
