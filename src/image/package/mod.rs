//! An image that is made of packages: their runtime closure in layers of store paths, and on top of these a layer in which
//! `/bin` and friends lead to them.
//!
//! ```text
//! /nix/store/…          the closure
//! /bin /etc /lib …      links to what the packages have in theirs
//! /etc/passwd /etc/group
//! /etc/ssl/certs/…      a link to the certificates, if the closure has any
//! /root /tmp
//! ```
//! The bytes of a layer depend on nothing but the store paths in it, those of the last one on the packages and on whether
//! there are certificates.

mod platform;
mod root;
mod settings;
mod store_layer;

pub use platform::platform;
pub use settings::{Empty, Settings, SettingsError};

use super::{Image, ImageBlob, ImageError, Options, Reader, computed, measure::in_parallel};
use crate::{
    layer::{Contents, Owner, Style, Writer},
    nix::StorePath,
    oci::{Digest, Platform},
};
use root::{CERTIFICATES, Root, programs};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};
use store_layer::StoreLayer;

/// When everything in such an image was made: nothing else would be the same tomorrow.
const CREATED: &str = "1970-01-01T00:00:01Z";
const CREATED_SECONDS: i64 = 1;

/// How packages become an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Package {
    /// How many of the store paths are packages; they are the first ones. The others are what the settings mention.
    pub count: NonZeroUsize,
    /// The machine that the packages are for.
    pub platform: Platform,
    /// The name of the first package's program, as it says itself.
    pub main_program: Option<String>,
    /// How to run it, where that is stated.
    pub settings: Option<Settings>,
}

/// The store paths of each layer, the lowest first.
pub type Layering = Vec<Vec<StorePath>>;

#[derive(Serialize)]
struct Config<'c> {
    created: &'c str,
    architecture: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'c str>,
    os: &'c str,
    config: Settings,
    rootfs: RootFs,
    history: Vec<History>,
}

#[derive(Serialize)]
struct RootFs {
    r#type: &'static str,
    diff_ids: Vec<Digest>,
}

#[derive(Serialize)]
struct History {
    created: &'static str,
    created_by: &'static str,
    comment: String,
}

/// Makes the image of these store paths, whose closure is that of the layering.
pub(super) fn make(
    reader: &Reader,
    objects: &[StorePath],
    package: &Package,
    layering: Layering,
    options: &Options,
) -> Result<Image, ImageError> {
    let paths = |paths: &[StorePath]| paths.iter().map(|path| reader.store.join(path)).collect::<Vec<_>>();
    let packages = paths(&objects[..objects.len().min(package.count.get())]);
    let first = packages.first().cloned().unwrap_or_default();
    let layers: Vec<Vec<PathBuf>> = layering.iter().map(|layer| paths(layer)).collect();

    let certificates = certificates(reader, &packages, &layers);
    let root = Root::of(reader, &packages, certificates.as_deref()).map_err(ImageError::exceeding(&first))?;
    let mut settings = package.settings.clone().unwrap_or_default().with_defaults(root.variables());
    settings.entrypoint = match settings.entrypoint {
        Some(stated) => Some(stated).filter(|stated| !stated.is_empty()),
        None => entrypoint(reader, &packages, package.main_program.as_deref())?,
    };

    let links = root.into_layer();
    let store_layers: Vec<StoreLayer<'_>> =
        layers.iter().map(|paths| StoreLayer { store: reader.store.as_path(), paths }).collect();
    let mut contents: Vec<&dyn Contents> = store_layers.iter().map(|layer| layer as &dyn Contents).collect();
    contents.push(&links);
    let style = Style { mtime: CREATED_SECONDS, owner: Owner::root(), writer: Writer::Python };
    let made = in_parallel(&contents, reader.threads, |contents| {
        computed::compute(reader, &first, &style, *contents)
    })?;

    let (mut descriptors, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
    let blobs = computed::commit(reader, made)?;
    for (n, blob) in blobs.iter().enumerate() {
        let paths = layering.get(n).map_or(&[][..], Vec::as_slice);
        let in_store = layers.get(n).into_iter().flatten().map(PathBuf::as_path);
        descriptors.push(computed::descriptor(blob, in_store, options));
        diff_ids.push(blob.digest);
        let names: Vec<&str> = paths.iter().map(StorePath::base_name).collect();
        let comment = match names.is_empty() {
            true => "links to the packages".into(),
            false => format!("store paths: {}", names.join(" ")),
        };
        history.push(History { created: CREATED, created_by: "forge-registry", comment });
    }
    let config = Config {
        created: CREATED,
        architecture: &package.platform.architecture,
        variant: package.platform.variant.as_deref(),
        os: &package.platform.os,
        config: settings,
        rootfs: RootFs { r#type: "layers", diff_ids },
        history,
    };
    // Strings, numbers and lists: there is no configuration for which this fails.
    let config = serde_json::to_vec(&config).unwrap_or_default();
    let mut seen = HashSet::new();
    let blobs: Vec<ImageBlob> = blobs.into_iter().filter(|blob| seen.insert(blob.digest)).collect();
    let image = Image::of_layers(reader, options, config.into(), descriptors, blobs, Vec::new())?;
    Ok(Image { layering: Some(layering), ..image })
}

/// The first store path with certificates: of the packages, else of all by name.
fn certificates(reader: &Reader, packages: &[PathBuf], layers: &[Vec<PathBuf>]) -> Option<PathBuf> {
    let mut others: Vec<&PathBuf> = layers.iter().flatten().collect();
    others.sort();
    let has_some = |path: &&PathBuf| {
        let found = reader.store.follow(&path.join(CERTIFICATES));
        found.is_ok_and(|found| found.is_some_and(|found| found.metadata().is_file()))
    };
    packages.iter().chain(others).find(has_some).cloned()
}

/// The program to run where none is stated: the one that the first package names, else the only one that the packages have.
/// By its place in the store, which no volume can hide.
fn entrypoint(
    reader: &Reader,
    packages: &[PathBuf],
    main_program: Option<&str>,
) -> Result<Option<Vec<String>>, ImageError> {
    let mut all: Vec<PathBuf> = Vec::new();
    for package in packages {
        all.extend(programs(reader, package).map_err(ImageError::exceeding(package))?);
    }
    let text = |path: &Path| path.to_str().map(|path| vec![path.to_owned()]);
    if let (Some(name), Some(package)) = (main_program, packages.first()) {
        let program = package.join("bin").join(name);
        if !all.contains(&program) {
            return Err(ImageError::invalid(
                package,
                format!(
                    "the package's meta.mainProgram is {name:?}, but there is no program bin/{name}: correct it, or state \
                     an Entrypoint in imageConfig"
                ),
            ));
        }
        return Ok(text(&program));
    }
    Ok(match &all[..] {
        [only] => text(only),
        _ => None,
    })
}
