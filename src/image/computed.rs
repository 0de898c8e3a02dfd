//! Layers that are computed from store paths, for whichever format they are.

use super::{ImageBlob, ImageError, Options, Reader};
use crate::{
    blob::{Source, cache::Finished},
    layer::{self, Contents, EntryList, LayerError, Style},
    oci::{Descriptor, Digest, media_type},
};
use std::{io, path::Path};

/// Makes a layer of the image that is described in the file `of`: hashes it and writes its entry list, unless there is one
/// already. A new list has to be committed to [`Reader::lists`], by the name that is in the blob's source.
pub(super) fn compute(
    reader: &Reader,
    of: &Path,
    style: &Style,
    contents: &dyn Contents,
) -> Result<(ImageBlob, Option<Finished>), ImageError> {
    let failed = |error: LayerError| match error {
        LayerError::Io { path, source } => ImageError::Io { path, source },
        LayerError::Changed { ref path } => {
            let path = path.clone();
            ImageError::Io { path, source: io::Error::other(error) }
        }
        LayerError::Budget(exceeded) => ImageError::exceeding(of)(exceeded),
        LayerError::List(source) => ImageError::reading(of, "an entry list", source),
        error => ImageError::invalid(of, error),
    };
    reader.store.check(contents.roots(), of)?;
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
    let made =
        layer::make(style, contents, &reader.budget, reader.limits.max_layer_files, reader.lists.writer()?)
            .map_err(failed)?;
    reader.progress.read(made.size);
    Ok((blob(made.digest, made.size), Some(made.list.finish())))
}

/// Makes the entry lists durable that [`compute`] has written for these blobs.
pub(super) fn commit(
    reader: &Reader,
    made: Vec<(ImageBlob, Option<Finished>)>,
) -> Result<Vec<ImageBlob>, ImageError> {
    let (mut blobs, mut lists) = (Vec::new(), Vec::new());
    for (blob, list) in made {
        if let (Source::Virtual { list: name }, Some(list)) = (&blob.source, list) {
            lists.push((*name, list));
        }
        blobs.push(blob);
    }
    reader.lists.commit_all(lists)?;
    Ok(blobs)
}

/// The descriptor of a layer that has these store paths.
pub(super) fn descriptor<'p>(
    blob: &ImageBlob,
    paths: impl IntoIterator<Item = &'p Path>,
    options: &Options,
) -> Descriptor {
    let mut descriptor = Descriptor::new(media_type::OCI_LAYER_TAR, blob.digest, blob.size);
    annotate(&mut descriptor, paths, options);
    descriptor
}

/// Tells nix-snapshotter, if so wanted, which store paths it is to mount over a layer, in which they are as in the store: it
/// has the node's Nix realise and root them (nix-snapshotter, `pkg/nix2container/generate.go`). Other clients do not look
/// at annotations of layers.
///
/// A layer without store paths is marked too. It is unpacked on top of others, and nix-snapshotter would mount their store
/// paths, read-only, while that is done.
pub(super) fn annotate<'p>(
    descriptor: &mut Descriptor,
    paths: impl IntoIterator<Item = &'p Path>,
    options: &Options,
) {
    if !options.nix_snapshotter {
        return;
    }
    descriptor.annotations.insert("containerd.io/snapshot/nix-layer".into(), "true".into());
    for (n, path) in paths.into_iter().enumerate() {
        let key = format!("containerd.io/snapshot/nix-store-path.{n}");
        descriptor.annotations.insert(key, path.display().to_string());
    }
}
