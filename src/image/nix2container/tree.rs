//! The entries of a layer that is computed from store paths, in nix2container's order. (nix2container, `nix/graph.go`,
//! `nix/tar.go`.)
//!
//! All that is below the paths, under the names that it has in the archive, is one tree. Its folders, beginning with `/`,
//! are visited before what is in them, which is sorted by the bytes of names. A folder that was given by no path but leads
//! to something has mode 0755. Owner and group are root unless options say otherwise, and times are the first second of
//! 1970. Whatever gets an empty name is left out; of two things of one name, which must be of one kind, mode and length,
//! the second one counts.

use super::{
    description::{Options, Perm},
    expressions::{Expressions, Rules},
};
use crate::{
    budget::Budget,
    layer::{Contents, Found, Item, LayerError, Owner, Style, Take, What, Writer, walk},
};
use std::{
    collections::HashSet,
    ffi::OsString,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

/// A layer of these store paths.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) paths: Vec<PathBuf>,
    /// Of each path.
    pub(super) options: Vec<Options>,
    /// Those of the whole image.
    pub(super) expressions: Arc<Expressions>,
}

impl Tree {
    /// The paths that are in the layer as they are in the store.
    pub(super) fn in_place(&self) -> impl Iterator<Item = &Path> {
        let unchanged = self.paths.iter().zip(&self.options).filter(|(_, o)| **o == Options::default());
        unchanged.map(|(path, _)| path.as_path())
    }
}

/// What all these layers have in common.
pub(super) fn style() -> Style {
    Style { mtime: 1, owner: Owner::root(), writer: Writer::Go }
}

/// Something in a layer.
struct Node {
    name: Box<[u8]>,
    /// Where it is, if not at its name.
    source: Option<Box<[u8]>>,
    /// The number of the path that it is below.
    path: usize,
    /// On the disk.
    mode: u32,
    size: u64,
    owner: Option<Arc<Owner>>,
    /// In the archive, if that is another.
    permissions: Option<u32>,
}

/// Bytes that a node takes besides its names, in a list that doubles when it is full and is sorted with another half of it.
const NODE_COST: u64 = (5 * size_of::<Node>() / 2) as u64 + 32;

impl Contents for Tree {
    fn roots(&self) -> &[PathBuf] {
        &self.paths
    }

    fn describe(&self) -> Vec<u8> {
        let mut out = b"nix2container ".to_vec();
        // Numbers and strings: there are no options for which this fails.
        out.extend(serde_json::to_vec(&self.options).unwrap_or_default());
        out
    }

    fn visit(&self, budget: &Budget, take: &mut Take<'_>) -> Result<(), LayerError> {
        let mut nodes = self.nodes(budget)?;
        nodes.sort_by(|a, b| key(&a.name).cmp(key(&b.name)));
        let mut last: Vec<u8> = Vec::new();
        let mut nodes = nodes.into_iter().peekable();
        while let Some(node) = nodes.next() {
            if let Some(next) = nodes.peek()
                && next.name == node.name
            {
                self.check_same(&node, next)?;
                continue;
            }
            for folder in folders(&node.name) {
                if !is_within(&last, folder) {
                    take(Item::new(folder, What::Folder))?;
                }
            }
            last = node.name.to_vec();
            let source = node.source.unwrap_or_else(|| node.name.clone());
            let found = Found::at(OsString::from_vec(source.into()).into())?;
            let what = What::OnDisk(found);
            take(Item { name: node.name.into(), mode: node.permissions, owner: node.owner, what })?;
        }
        Ok(())
    }
}

impl Tree {
    /// Everything in the layer but folders that no path gives. Their memory stays charged when the layer is made: whether
    /// an image has enough does not depend on which layers happen to be made at a time.
    fn nodes(&self, budget: &Budget) -> Result<Vec<Node>, LayerError> {
        let mut nodes = Vec::new();
        let mut owners = HashSet::new();
        for (n, (path, options)) in self.paths.iter().zip(&self.options).enumerate() {
            let mut rules = Rules::new(options, &self.expressions, budget)?;
            walk(path, budget, &mut |found| {
                let source = found.path.as_os_str().as_bytes();
                let ruled = rules.apply(source)?;
                let Some(name) = name(source, ruled.name)? else { return Ok(()) };
                let (owner, permissions) = owner(&ruled.perms);
                let owner = owner.map(|owner| {
                    let owner = owners.get(&owner).cloned().unwrap_or_else(|| Arc::new(owner));
                    owners.insert(owner.clone());
                    owner
                });
                let source: Option<Box<[u8]>> = (name != source).then(|| source.into());
                let names = name.len() + source.as_deref().map_or(0, <[u8]>::len);
                budget.charge(NODE_COST + names as u64, "the names of a layer")?;
                let (mode, size) = (found.metadata.mode(), found.metadata.len());
                nodes.push(Node { name: name.into(), source, path: n, mode, size, owner, permissions });
                Ok(())
            })?;
        }
        Ok(nodes)
    }

    /// Of two things of one name one is taken, as long as it hardly matters which.
    fn check_same(&self, a: &Node, b: &Node) -> Result<(), LayerError> {
        let is_file = a.mode & libc::S_IFMT == libc::S_IFREG;
        let same = a.mode == b.mode
            && (!is_file || a.size == b.size)
            && self.options[a.path].perms == self.options[b.path].perms;
        if same {
            return Ok(());
        }
        let shown = |node: &Node| {
            let source = node.source.as_ref().unwrap_or(&node.name);
            String::from_utf8_lossy(&source[..source.len().min(300)]).into_owned()
        };
        let problem = format!("{:?} and {:?} both have this name, and differ", shown(a), shown(b));
        Err(LayerError::Refused { name: b.name[..b.name.len().min(300)].into(), problem })
    }
}

/// The name in the archive, if it is to be there.
fn name(source: &[u8], ruled: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, LayerError> {
    match ruled {
        None => Ok(Some(source.to_vec())),
        Some(name) if name.is_empty() => Ok(None),
        Some(name) => clean(&name).map(Some).ok_or_else(|| LayerError::Refused {
            name: name[..name.len().min(300)].into(),
            problem: "it leads out of the image".into(),
        }),
    }
}

/// Owner and permissions, where they are others.
fn owner(perms: &[(Option<u32>, &Perm)]) -> (Option<Owner>, Option<u32>) {
    let (mut owner, mut permissions) = (None, None);
    for (mode, perm) in perms {
        let owner: &mut Owner = owner.get_or_insert_with(Owner::root);
        (owner.uid, owner.gid) = (perm.uid, perm.gid);
        if !perm.uname.is_empty() {
            owner.uname.clone_from(&perm.uname);
        }
        if !perm.gname.is_empty() {
            owner.gname.clone_from(&perm.gname);
        }
        permissions = mode.or(permissions);
    }
    (owner.filter(|owner| *owner != Owner::root()), permissions)
}

/// The name without what leads nowhere, as Go's `path.Clean`; none if it leads out.
fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let absolute = name.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.pop() {
                None if !absolute => return None,
                _ => {}
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    Some(match absolute {
        true => [b"/", &joined[..]].concat(),
        false if joined.is_empty() => b".".to_vec(),
        false => joined,
    })
}

/// What names are sorted by: part by part, a folder before what is in it.
fn key(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    // No name has the byte 0.
    name.iter().map(|byte| if *byte == b'/' { 0 } else { *byte })
}

/// The folders on the way to a name.
fn folders(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let folders = slashes.map(|(at, _)| if at == 0 { &name[..1] } else { &name[..at] });
    folders.filter(move |folder| folder.len() < name.len())
}

/// Whether the folder is `name` or on the way to it.
fn is_within(name: &[u8], folder: &[u8]) -> bool {
    match name.strip_prefix(folder) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/") || folder == b"/",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Allowance;

    #[test]
    fn a_path_is_in_place_unless_options_say_otherwise() {
        let perms = vec![Perm { regex: ".*".into(), ..Default::default() }];
        let options = vec![Options::default(), Options { perms, ..Default::default() }];
        let paths = vec!["/nix/store/a".into(), "/nix/store/b".into()];
        let tree = Tree { paths, options, expressions: Arc::default() };
        assert_eq!(tree.in_place().collect::<Vec<_>>(), [Path::new("/nix/store/a")]);
    }

    #[test]
    fn names_are_cleaned_as_go_does() {
        for (name, expected) in [
            ("/", "/"),
            ("//bin/", "/bin"),
            ("/../a/./b/../c", "/a/c"),
            ("bin", "bin"),
            ("./", "."),
            ("a/..", "."),
        ] {
            assert_eq!(clean(name.as_bytes()).as_deref(), Some(expected.as_bytes()), "{name}");
        }
        assert_eq!(clean(b"../a"), None);
        assert_eq!(clean(b"a/../../b"), None);
    }

    #[test]
    fn a_layer_of_too_many_names_is_given_up_before_they_fill_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..20 {
            std::fs::write(dir.path().join(format!("{n}")), "").unwrap();
        }
        let tree = |memory| {
            let (paths, options) = (vec![dir.path().into()], vec![Options::default()]);
            let budget = Budget::new(Allowance { memory, ..Default::default() });
            Tree { paths, options, expressions: Arc::default() }.visit(&budget, &mut |_| Ok(()))
        };
        assert!(tree(20_000).is_ok());
        let error = tree(5000).unwrap_err().to_string();
        assert!(error.contains("5000 bytes that MAX_READING_MEMORY allows"), "{error}");
    }

    #[test]
    fn the_folders_of_a_name_lead_to_it() {
        let folders = |name: &'static str| {
            folders(name.as_bytes()).map(|f| str::from_utf8(f).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(folders("/a/b/c"), ["/", "/a", "/a/b"]);
        assert_eq!(folders("a/b"), ["a"]);
        assert!(folders("/").is_empty());
        assert!(is_within(b"/a/b", b"/a") && is_within(b"/a", b"/a") && is_within(b"/a", b"/"));
        assert!(!is_within(b"/ab", b"/a") && !is_within(b"", b"/") && !is_within(b"a", b"/"));
    }
}
