//! What a layer is made of: everything below some store paths, or a list of entries.

use super::{Found, LayerError, Owner, walk};
use crate::budget::Budget;
use std::{
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    sync::Arc,
};

/// The longest contents that an entry list holds itself, in bytes.
pub const MAX_INLINE: usize = 64 << 10;
/// The longest name, path and link target, in bytes: `PATH_MAX`.
pub const MAX_NAME: usize = 4096;

/// What a layer is made of.
pub trait Contents: Sync {
    /// The store paths that are read. Their marks are part of the layer's [`recipe`](super::recipe), and are compared
    /// before the layer is served.
    fn roots(&self) -> &[PathBuf];

    /// Whatever else determines the items, in a form that no other contents have.
    fn describe(&self) -> Vec<u8>;

    /// Hands over the items in the order in which they are in the archive. The memory that this needs by what is on the
    /// disk is the budget's.
    fn visit(&self, budget: &Budget, take: &mut Take<'_>) -> Result<(), LayerError>;
}

/// Takes an item.
pub type Take<'t> = dyn FnMut(Item) -> Result<(), LayerError> + 't;

/// Something to be put into a layer.
#[derive(Debug, Clone)]
pub struct Item {
    /// The name in the archive.
    pub name: Vec<u8>,
    /// Permissions; if there are none, those of what is on the disk, else 0o755 for folders, 0o777 for links and 0o644 for
    /// files.
    pub mode: Option<u32>,
    /// Whose it is, if not the style's owner's.
    pub owner: Option<Arc<Owner>>,
    /// What it is.
    pub what: What,
}

/// What an item is.
#[derive(Debug, Clone)]
pub enum What {
    /// What is there on the disk: a file with its contents, a link, or a folder without what is in it.
    OnDisk(Found),
    /// A folder.
    Folder,
    /// A symbolic link to this.
    Link(Vec<u8>),
    /// A file of these bytes, at most [`MAX_INLINE`].
    Inline(Vec<u8>),
}

impl Item {
    /// This, with the permissions and the owner that go without saying.
    pub fn new(name: impl Into<Vec<u8>>, what: What) -> Self {
        Self { name: name.into(), mode: None, owner: None, what }
    }

    /// With these permissions.
    pub fn with_mode(self, mode: u32) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// With this owner.
    pub fn with_owner(self, owner: Owner) -> Self {
        Self { owner: Some(Arc::new(owner)), ..self }
    }
}

/// Store paths with all below them, after `/nix` and `/nix/store`, as nixpkgs puts them into layers.
#[derive(Debug, Clone, Copy)]
pub struct StorePaths<'p> {
    /// The paths, which are absolute.
    pub paths: &'p [PathBuf],
    /// Permissions of `/nix` and `/nix/store`: 0o755, in older nixpkgs 0o555.
    pub root_mode: u32,
}

impl Contents for StorePaths<'_> {
    fn roots(&self) -> &[PathBuf] {
        self.paths
    }

    fn describe(&self) -> Vec<u8> {
        format!("store paths {}", self.root_mode).into()
    }

    fn visit(&self, budget: &Budget, take: &mut Take<'_>) -> Result<(), LayerError> {
        for name in ["/nix", "/nix/store"] {
            take(Item::new(name, What::Folder).with_mode(self.root_mode))?;
        }
        for root in self.paths {
            walk(root, budget, &mut |found| {
                let name = found.path.clone().into_os_string().into_vec();
                take(Item::new(name, What::OnDisk(found)))
            })?;
        }
        Ok(())
    }
}

/// These items, in this order.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// The store paths that items on the disk are in.
    pub roots: Vec<PathBuf>,
    /// The items.
    pub items: Vec<Item>,
}

impl Contents for Listed {
    fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    fn describe(&self) -> Vec<u8> {
        let mut out = b"listed ".to_vec();
        let mut put = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        for Item { name, mode, owner, what } in &self.items {
            put(name);
            put(&mode.map_or(Vec::new(), |mode| mode.to_le_bytes().into()));
            // Numbers and strings: there is no owner for which this fails.
            put(&owner.as_ref().and_then(|owner| serde_json::to_vec(owner).ok()).unwrap_or_default());
            let (kind, bytes): (&[u8], &[u8]) = match what {
                What::OnDisk(found) => (b"on disk", found.path.as_os_str().as_bytes()),
                What::Folder => (b"folder", b""),
                What::Link(target) => (b"link", target),
                What::Inline(bytes) => (b"inline", bytes),
            };
            put(kind);
            put(bytes);
        }
        out
    }

    fn visit(&self, _budget: &Budget, take: &mut Take<'_>) -> Result<(), LayerError> {
        self.items.iter().cloned().try_for_each(take)
    }
}
