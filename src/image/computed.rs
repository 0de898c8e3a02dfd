//! Layers that are computed while they are sent. They are made once, for their digest and their entry list.

use super::{ImageBlob, ImageError, Options, Reader};
use crate::{
    blob::{Source, cache::Finished},
    layer::{self, Contents, EntryList, LayerError, Style},
    oci::{Descriptor, Digest, media_type},
};
use std::{io, path::Path};

/// A layer, and its entry list if there was none.
pub(super) type Made = (ImageBlob, Option<Finished>);

/// Makes one layer of the image at `of`, with its entry list if there is none.
pub(super) fn compute(
    reader: &Reader,
    of: &Path,
    style: &Style,
    contents: &dyn Contents,
) -> Result<Made, ImageError> {
    let failed = |error: LayerError| match error {
        LayerError::Io { path, source } => ImageError::Io { path, source },
        LayerError::Changed { ref path } => {
            let path = path.clone();
            ImageError::Io { path, source: io::Error::other(error) }
        }
        LayerError::List(source) => ImageError::reading(of, "an entry list", source),
        error => ImageError::invalid(of, error),
    };
    let name = layer::recipe(style, contents).map_err(failed)?;
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
    let made = layer::make(style, contents, reader.limits.max_layer_files, reader.lists.writer()?)
        .map_err(failed)?;
    Ok((blob(made.digest, made.size), Some(made.list.finish())))
}

/// Makes the entry lists of an image durable; the layers.
pub(super) fn commit(reader: &Reader, made: Vec<Made>) -> Result<Vec<ImageBlob>, ImageError> {
    let mut blobs = Vec::with_capacity(made.len());
    let mut lists = Vec::new();
    for (blob, list) in made {
        if let (Source::Virtual { list: name }, Some(list)) = (&blob.source, list) {
            lists.push((*name, list));
        }
        blobs.push(blob);
    }
    reader.lists.commit_all(lists)?;
    Ok(blobs)
}

/// The descriptor of a layer that has these store paths and nothing else of the store.
pub(super) fn descriptor<'p>(
    blob: &ImageBlob,
    paths: impl IntoIterator<Item = &'p Path>,
    options: &Options,
) -> Descriptor {
    let mut descriptor = Descriptor::new(media_type::OCI_LAYER_TAR, blob.digest, blob.size);
    if options.nix_snapshotter {
        annotate(&mut descriptor, paths);
    }
    descriptor
}

/// Tells nix-snapshotter which store paths it is to mount over a layer: it has the node's Nix realise and root them
/// (nix-snapshotter, `pkg/nix2container/generate.go`). Other clients do not look at annotations of layers.
///
/// A layer without store paths is marked too: it is unpacked on top of others, and else nix-snapshotter would mount their
/// store paths, read-only, while that is done.
fn annotate<'p>(descriptor: &mut Descriptor, paths: impl IntoIterator<Item = &'p Path>) {
    descriptor.annotations.insert("containerd.io/snapshot/nix-layer".into(), "true".into());
    for (n, path) in paths.into_iter().enumerate() {
        let key = format!("containerd.io/snapshot/nix-store-path.{n}");
        descriptor.annotations.insert(key, path.display().to_string());
    }
}
