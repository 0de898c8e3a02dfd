//! What one reading may open: the store paths that it is about, and their runtime closure.
//!
//! Descriptions, scripts, links in outputs and links of layouts are foreign bytes, and can name any path of the store: Nix's
//! scanner finds the paths that a build was given, not every string that looks like one. So a name becomes something that
//! can be opened here and nowhere else: a [`Found`] for a file or folder, a [`PathBuf`] of [`Reachable::object`] for a whole
//! store path. Both lie in the closure, by what nix-daemon has registered, whatever links lead there.
//!
//! nix-daemon is asked once for a reading, and only if something other than the reading's own store paths is named.

use super::ImageError;
use crate::nix::{ClosureError, StoreDir, StorePath, StorePathError};
use std::{
    collections::{HashSet, VecDeque},
    ffi::OsString,
    fmt,
    fs::{self, Metadata},
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// Links from one to the next until a file is reached.
const MAX_LINKS: usize = 16;

/// Finds the runtime closure of store paths. It may block.
type Ask = dyn Fn(&[StorePath]) -> Result<HashSet<StorePath>, ClosureError> + Send + Sync;

/// The part of the store that one reading may open.
#[derive(Clone)]
pub struct Reachable(Arc<Inner>);

struct Inner {
    store: StoreDir,
    objects: Vec<StorePath>,
    closure: OnceLock<Result<HashSet<StorePath>, ClosureError>>,
    ask: Box<Ask>,
}

/// A file or folder in the closure, all links on the way to it followed.
#[derive(Debug, Clone)]
pub(super) struct Found {
    path: PathBuf,
    metadata: Metadata,
    object: StorePath,
    within: PathBuf,
}

impl Found {
    /// Its path, without links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The path, the metadata, the store path, and where it lies within that.
    pub(super) fn into_parts(self) -> (PathBuf, Metadata, StorePath, PathBuf) {
        (self.path, self.metadata, self.object, self.within)
    }
}

impl Reachable {
    /// These store paths and their closure, which `ask` finds.
    pub fn new(
        store: StoreDir,
        objects: Vec<StorePath>,
        ask: impl Fn(&[StorePath]) -> Result<HashSet<StorePath>, ClosureError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { store, objects, closure: OnceLock::new(), ask: Box::new(ask) }))
    }

    /// These store paths and this closure of them.
    pub fn of(store: StoreDir, objects: Vec<StorePath>, closure: HashSet<StorePath>) -> Self {
        Self::new(store, objects, move |_| Ok(closure.clone()))
    }

    /// The absolute path of a store path, for messages and to start from.
    pub(super) fn join(&self, object: &StorePath) -> PathBuf {
        self.0.store.join(object)
    }

    /// The store, to look for names of its paths in texts.
    pub(super) fn store(&self) -> &StoreDir {
        &self.0.store
    }

    /// The store folder.
    pub(super) fn as_path(&self) -> &Path {
        self.0.store.as_path()
    }

    /// An error if the store path, which the file `of` names, is outside of the closure.
    fn admit(&self, path: &StorePath, of: &Path) -> Result<(), ImageError> {
        let Inner { store, objects, closure, ask } = &*self.0;
        if objects.contains(path) {
            return Ok(());
        }
        match closure.get_or_init(|| ask(objects)) {
            Ok(closure) if closure.contains(path) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.clone().into()),
        }
        let object = objects.first().map(|object| store.join(object)).unwrap_or_default();
        Err(ImageError::OutOfClosure { path: of.into(), named: store.join(path), object })
    }

    /// The path of a whole store object that `wanted_by`, in the file `of`, names.
    pub(super) fn object(&self, text: &str, (of, wanted_by): (&Path, &str)) -> Result<PathBuf, ImageError> {
        let object = self.0.store.parse(text).map_err(|error| {
            ImageError::invalid(of, format!("its {wanted_by} name what cannot be served: {error}"))
        })?;
        self.admit(&object, of)?;
        let path = self.join(&object);
        match path.symlink_metadata() {
            Ok(_) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ImageError::missing(of, text, wanted_by))
            }
            Err(source) => Err(ImageError::Io { path, source }),
        }
    }

    /// What lies at the path that `wanted_by`, in the file `of`, names.
    pub(super) fn named(&self, path: &Path, (of, wanted_by): (&Path, &str)) -> Result<Found, ImageError> {
        let found = self.find(path, of)?;
        found.ok_or_else(|| ImageError::missing(of, &path.to_string_lossy(), wanted_by))
    }

    /// What lies at a path that nothing foreign names. None if it, or what a link leads to, does not exist.
    pub(super) fn follow(&self, path: &Path) -> Result<Option<Found>, ImageError> {
        self.find(path, path)
    }

    /// An error unless these, which are paths of whole store objects, are in the closure.
    pub(super) fn check<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p PathBuf>,
        of: &Path,
    ) -> Result<(), ImageError> {
        paths.into_iter().try_for_each(|path| match self.0.store.split(path) {
            Ok((object, _)) => self.admit(&object, of),
            Err(error) => Err(ImageError::invalid(of, error)),
        })
    }

    /// Follows `path`, which the file `of` names, component by component. Every store path on the way has to be in the
    /// closure, and the kernel is not asked about anything outside of it.
    fn find(&self, path: &Path, of: &Path) -> Result<Option<Found>, ImageError> {
        let store = self.as_path();
        let invalid = |problem: String| ImageError::invalid(path, problem);
        let below = |target: &Path| Some(components(target.strip_prefix(store).ok()?));
        let mut left = below(path).ok_or_else(|| {
            ImageError::invalid(of, format!("it names {path:?}, which is not in the store"))
        })?;
        let mut done: Vec<OsString> = Vec::new();
        // Who named the store path that is being entered.
        let mut namer = of.to_owned();
        let (mut links, mut metadata, mut object) = (0, None, None);
        while let Some(part) = left.pop_front() {
            if part == ".." {
                if done.pop().is_none() {
                    return Err(ImageError::invalid(&namer, "a link in it leads out of the store"));
                }
                metadata = None;
                continue;
            }
            if done.is_empty() {
                let name = part.to_str().ok_or_else(|| StorePathError::Name(part.to_string_lossy().into()));
                let name = name.and_then(StorePath::from_base_name);
                let name = name.map_err(|error| {
                    ImageError::invalid(&namer, format!("it names {:?}: {error}", store.join(&part)))
                })?;
                self.admit(&name, &namer)?;
                object = Some(name);
            }
            done.push(part);
            let here = join(store, &done);
            let found = match fs::symlink_metadata(&here) {
                Ok(found) => found,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Ok(None);
                }
                Err(source) => return Err(ImageError::Io { path: here, source }),
            };
            if found.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(invalid(format!("more than {MAX_LINKS} links to follow")));
                }
                let target = match fs::read_link(&here) {
                    Ok(target) => target,
                    Err(source) => return Err(ImageError::Io { path: here, source }),
                };
                done.pop();
                let mut parts = if target.is_absolute() {
                    done.clear();
                    below(&target).ok_or_else(|| {
                        invalid(format!("{here:?} links to {target:?}, which is not in the store"))
                    })?
                } else {
                    components(&target)
                };
                namer = here;
                parts.append(&mut left);
                left = parts;
            }
            metadata = Some(found);
        }
        let (Some(object), false) = (object, done.is_empty()) else {
            return Err(ImageError::invalid(&namer, "it leads to the store folder itself"));
        };
        let path = join(store, &done);
        let metadata = match metadata {
            Some(metadata) if !metadata.is_symlink() => metadata,
            // The last step was a `..`: what it leads to has not been looked at.
            _ => match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(source) => return Err(ImageError::Io { path, source }),
            },
        };
        let within = done.iter().skip(1).collect();
        Ok(Some(Found { path, metadata, object, within }))
    }
}

impl fmt::Debug for Reachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { store, objects, closure, ask: _ } = &*self.0;
        let (mut out, closure) = (f.debug_struct("Reachable"), closure.get());
        out.field("store", store).field("objects", objects).field("closure", &closure).finish()
    }
}

fn join(store: &Path, parts: &[OsString]) -> PathBuf {
    store.join(parts.iter().collect::<PathBuf>())
}

fn components(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}
