//! Images that are made of packages: their runtime closure, and how it becomes layers.

use super::{Registry, RegistryError, Result, images::blocking};
use crate::{
    closure::{self, Graph},
    image::{self, Image, Layering, Options, Package, Reachable, Reader},
    index::ImageId,
    nix::StorePath,
    resolve::Resolution,
};
use std::{num::NonZeroUsize, sync::Arc};

impl Registry {
    /// Finds out which store paths there will be where the evaluation does not say.
    pub(super) async fn find_outputs(&self, resolution: &mut Resolution) -> Result<()> {
        let unknown = || |wanted: &&mut crate::nix::Wanted| wanted.expected.is_none();
        let what: Vec<_> =
            resolution.wanted.iter_mut().filter(unknown()).map(|wanted| wanted.buildable.clone()).collect();
        if !what.is_empty() {
            let paths = self.daemon.outputs(&what).await?;
            for (wanted, path) in resolution.wanted.iter_mut().filter(unknown()).zip(paths) {
                wanted.expected = path;
            }
        }
        Ok(())
    }

    /// Reads the image that the first of these store paths is, or makes one of all of them. An image that was made before
    /// gets the layers that it had.
    pub(super) async fn read_package(
        self: &Arc<Self>,
        id: ImageId,
        objects: &[StorePath],
        package: &Package,
        options: &Options,
    ) -> Result<Image> {
        let [object, ..] = objects else { return Err(RegistryError::internal("an image of nothing")) };
        let (object, stated, has_settings) = (object.clone(), options.clone(), package.settings.is_some());
        let image = move |reader: &Reader| image::read_if_any(reader, &object, &stated, has_settings);
        // Several packages are no image, whatever each of them is.
        if package.count.get() == 1
            && let Some(image) = self.reading(self.reachable(&objects[..1]), image).await??
        {
            return Ok(image);
        }
        let layering = match self.index.layering(&id) {
            Ok(Some(layering)) => layering,
            Ok(None) => self.group(objects, options).await?,
            Err(error) => {
                tracing::warn!(?objects, "{error}");
                self.group(objects, options).await?
            }
        };
        // What is known already need not be asked for.
        let closure = layering.iter().flatten().cloned().collect();
        let reachable = Reachable::of(self.daemon.store().clone(), objects.to_vec(), closure);
        let (objects, package, options) = (objects.to_vec(), package.clone(), options.clone());
        let image =
            move |reader: &Reader| image::of_packages(reader, &objects, &package, layering.clone(), &options);
        Ok(self.reading(reachable, image).await??)
    }

    /// Which store paths of the closure go into which layer.
    async fn group(&self, objects: &[StorePath], options: &Options) -> Result<Layering> {
        let closure = self.daemon.closure(objects, self.settings.max_closure_paths).await?;
        let layers = options.layers.clone().unwrap_or_default();
        // One is for the links.
        let max = NonZeroUsize::new(layers.max.saturating_sub(1)).unwrap_or(NonZeroUsize::MIN);
        let (objects, popularity) = (objects.to_vec(), self.settings.popularity.clone());
        blocking(move || {
            // What nix-daemon says of its store makes a graph.
            let graph = Graph::new(closure, &objects).map_err(RegistryError::internal)?;
            let layers = closure::group(&graph, &popularity, layers.strategy, max);
            let paths = |layer: Vec<usize>| layer.into_iter().map(|path| graph.path(path).clone()).collect();
            Ok(layers.into_iter().map(paths).collect())
        })
        .await
    }
}
