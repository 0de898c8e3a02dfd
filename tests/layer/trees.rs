//! Random trees of files, and what has to be in an archive of them.

use crate::reference::{self, hex};
use forge_registry::{
    budget::Budget,
    layer::{Owner, StorePaths, Style, Writer, walk},
    oci::Digest,
};
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    ops::Range,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

/// What a random tree consists of.
#[derive(Debug, Clone)]
pub enum Node {
    File {
        name: Vec<u8>,
        length: usize,
        executable: bool,
    },
    /// A hole with a few bytes in it, from this part of it on.
    Sparse {
        name: Vec<u8>,
        length: u64,
        data: f64,
    },
    HardLink {
        name: Vec<u8>,
    },
    Link {
        name: Vec<u8>,
        target: Vec<u8>,
    },
    Folder {
        name: Vec<u8>,
        mode: u32,
        nodes: Vec<Node>,
    },
}

/// A name of at most 255 bytes, which no file system takes more of.
pub fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zA-Z0-9._+-]{1,12}".prop_map(String::into_bytes),
        1 => "[a-z]{90,200}".prop_map(String::into_bytes),
        1 => "[a-z\u{e9}\u{4e2d}\u{d7ff}\u{e000}\u{1f600}]{1,20}".prop_map(String::into_bytes),
        1 => long_name(),
        1 => vec(prop_oneof![Just(b'a'), Just(b'\n'), Just(b' '), 0x80_u8..=0xff], 1..10),
    ]
    .prop_filter("a name of its own", |name| !matches!(&name[..], b"." | b".." | b"first"))
}

/// Two of these in one another are more than 255 bytes.
fn long_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-z]{130,255}".prop_map(String::into_bytes),
        "[\u{4e2d}\u{d7ff}\u{e000}]{44,85}".prop_map(String::into_bytes),
        vec(prop_oneof![Just(b'a'), 0x80_u8..=0xff], 130..=255),
    ]
}

fn file() -> impl Strategy<Value = Node> {
    let length = prop_oneof![Just(0_usize), 1_usize..2000, Just(512), 130_000_usize..400_000];
    (name(), length, any::<bool>()).prop_map(|(name, length, executable)| Node::File {
        name,
        length,
        executable,
    })
}

/// Those of folders: as in the store, and not.
fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o555), Just(0o755), Just(0o700)]
}

fn node() -> impl Strategy<Value = Node> {
    let target = prop_oneof![name(), vec(1_u8..=255, 95..120), "[a-z/.]{1,30}".prop_map(String::into_bytes)];
    let leaf = prop_oneof![
        3 => file(),
        1 => (name(), 200_000_u64..3_000_000, 0.0..1.0_f64)
            .prop_map(|(name, length, data)| Node::Sparse { name, length, data }),
        1 => name().prop_map(|name| Node::HardLink { name }),
        1 => (name(), target).prop_map(|(name, target)| Node::Link { name, target }),
        1 => (name(), mode()).prop_map(|(name, mode)| Node::Folder { name, mode, nodes: vec![] }),
        1 => (vec((long_name(), mode()), 2..4), file()).prop_map(|(folders, file)| {
            folders.into_iter().fold(file, |node, (name, mode)| Node::Folder { name, mode, nodes: vec![node] })
        }),
    ];
    leaf.prop_recursive(5, 40, 8, |inner| {
        (name(), mode(), vec(inner, 0..8)).prop_map(|(name, mode, nodes)| Node::Folder { name, mode, nodes })
    })
}

/// What is in a random tree.
pub fn nodes() -> impl Strategy<Value = Vec<Node>> {
    vec(node(), 0..12)
}

pub fn styles() -> impl Strategy<Value = Style> {
    let owner = prop_oneof![Just(0_i64), 1_i64..70_000, Just(2_097_151), Just(2_097_152), Just(-1)];
    let name = prop_oneof!["[a-z]{1,8}", "[a-z]{33,40}", Just("\u{e9}".to_owned())];
    let mtime =
        prop_oneof![Just(1_i64), Just(0), Just(-5), Just(1 << 33), Just((1 << 33) - 1), Just(1 << 40)];
    let writer = prop_oneof![Just(Writer::Python), Just(Writer::OldPython)];
    (owner.clone(), owner, name.clone(), name, mtime, writer).prop_map(
        |(uid, gid, uname, gname, mtime, writer)| Style {
            mtime,
            owner: Owner { uid, gid, uname, gname },
            writer,
        },
    )
}

/// A folder for one test. Whoever runs it can remove it, whatever the modes of folders in it.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Store paths: a tree of these, a link and a file.
    pub fn plant(&self, nodes: &[Node]) -> [PathBuf; 3] {
        let paths = ["00bgd045z0d4icpbc2yyz4gx48ak44la-tree", "a-link", "a-file"].map(|name| self.join(name));
        let [tree, link, file] = &paths;
        fs::create_dir(tree).unwrap();
        fs::write(tree.join("first"), "the first file").unwrap();
        plant(tree, tree, nodes);
        symlink(tree, link).unwrap();
        fs::write(file, "a file").unwrap();
        paths
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder comes before what is in it, so it can be read by then.
        let _ = walk(self.0.path(), &Budget::default(), &mut |found| {
            if found.metadata.is_dir() {
                let _ = fs::set_permissions(&found.path, Permissions::from_mode(0o700));
            }
            Ok(())
        });
    }
}

/// Makes the tree; of two nodes of one name the first one counts.
fn plant(root: &Path, folder: &Path, nodes: &[Node]) {
    for (n, node) in nodes.iter().enumerate() {
        let at = |name: &Vec<u8>| folder.join(OsString::from_vec(name.clone()));
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        match node {
            Node::File { name, length, executable } => {
                if at(name).symlink_metadata().is_ok() {
                    continue;
                }
                let bytes: Vec<u8> = (0..*length).map(|i| (i * 7 + n + length) as u8).collect();
                fs::write(at(name), bytes).unwrap();
                set(&at(name), if *executable { 0o555 } else { 0o444 });
            }
            Node::Sparse { name, length, data } => {
                let Ok(file) = File::create_new(at(name)) else { continue };
                file.set_len(*length).unwrap();
                let start = (data * *length as f64) as u64;
                file.write_all_at(&vec![n as u8 + 1; 5000.min(length - start) as usize], start).unwrap();
                set(&at(name), 0o444);
            }
            Node::HardLink { name } => drop(fs::hard_link(root.join("first"), at(name))),
            Node::Link { name, target } => drop(symlink(OsString::from_vec(target.clone()), at(name))),
            Node::Folder { name, mode, nodes } => {
                if fs::create_dir(at(name)).is_ok() {
                    plant(root, &at(name), nodes);
                    set(&at(name), *mode);
                }
            }
        }
    }
}

/// What `stream.py tree` has to find in an archive of these paths, nixpkgs' rules being: names are absolute, permissions
/// are those on the disk, all else is the style's, and a hard link is a file.
pub fn members(style: &Style, contents: &StorePaths<'_>) -> Vec<Value> {
    let mut members = Vec::new();
    let mut add = |name: &[u8], kind: &str, mode: u32, link: &[u8], size: u64, data: Option<Digest>| {
        members.push(json!({
            "name": hex(name),
            "type": kind,
            "mode": mode & 0o7777,
            "size": size,
            "link": hex(link),
            "mtime": style.mtime,
            "owner": style.owner,
            "data": data.map(|digest| digest.hex()),
        }));
    };
    for name in ["/nix", "/nix/store"] {
        add(name.as_bytes(), "5", contents.root_mode, b"", 0, None);
    }
    for root in contents.paths {
        walk(root, &Budget::default(), &mut |found| {
            let (name, mode, size) =
                (found.path.as_os_str().as_bytes(), found.metadata.mode(), found.metadata.len());
            match found.metadata.file_type() {
                t if t.is_dir() => add(name, "5", mode, b"", 0, None),
                t if t.is_symlink() => {
                    add(name, "2", mode, fs::read_link(&found.path).unwrap().as_os_str().as_bytes(), 0, None);
                }
                _ => {
                    let mut end = vec![0; size.min(16 << 20) as usize];
                    let start = size - end.len() as u64;
                    File::open(&found.path).unwrap().read_exact_at(&mut end, start).unwrap();
                    add(name, "0", mode, b"", size, Some(Digest::of(&end)));
                }
            }
            Ok(())
        })
        .unwrap();
    }
    members
}

/// Has `tarfile` read the archive, range by range, and compares what it finds.
pub fn assert_members(members: &[Value], range: impl Fn(Range<u64>) -> Vec<u8>) {
    let found = reference::tree(range);
    for (found, expected) in found.as_array().unwrap().iter().zip(members) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.as_array().unwrap().len(), members.len());
}

/// All nodes and their paths in the tree.
fn flat(nodes: &[Node], folder: &[u8], found: &mut Vec<(Vec<u8>, Node)>) {
    for node in nodes {
        let (Node::File { name, .. }
        | Node::Sparse { name, .. }
        | Node::HardLink { name }
        | Node::Link { name, .. }
        | Node::Folder { name, .. }) = node;
        let path = [folder, name].join(&b'/');
        found.push((path.clone(), node.clone()));
        if let Node::Folder { nodes, .. } = node {
            flat(nodes, &path, found);
        }
    }
}

type Has = fn(&[u8], &Node) -> bool;

#[test]
fn random_trees_have_all_that_a_store_path_can_have() {
    let has: [(&str, Has); 13] = [
        ("a path over 100 bytes", |path, _| path.len() > 100),
        ("a path over 255 bytes", |path, _| path.len() > 255),
        ("a name over 100 bytes", |path, _| path.rsplit(|byte| *byte == b'/').next().unwrap().len() > 100),
        ("a path that is not ASCII", |path, _| std::str::from_utf8(path).is_ok_and(|path| !path.is_ascii())),
        ("a path that is no text", |path, _| std::str::from_utf8(path).is_err()),
        ("an empty file", |_, node| matches!(node, Node::File { length: 0, .. })),
        ("a file of several reads", |_, node| matches!(node, Node::File { length: 130_000.., .. })),
        ("a program", |_, node| matches!(node, Node::File { executable: true, .. })),
        ("a sparse file", |_, node| matches!(node, Node::Sparse { .. })),
        ("a hard link", |_, node| matches!(node, Node::HardLink { .. })),
        ("a link", |_, node| matches!(node, Node::Link { .. })),
        ("a link over 100 bytes", |_, node| matches!(node, Node::Link { target, .. } if target.len() > 100)),
        ("an empty folder", |_, node| matches!(node, Node::Folder { nodes, .. } if nodes.is_empty())),
    ];
    // Always the same ones.
    let mut runner = TestRunner::deterministic();
    let trees: Vec<_> = (0..200)
        .map(|_| {
            let mut found = Vec::new();
            flat(&nodes().new_tree(&mut runner).unwrap().current(), b"", &mut found);
            found
        })
        .collect();
    for (what, has) in has {
        let count = trees.iter().filter(|nodes| nodes.iter().any(|(path, node)| has(path, node))).count();
        assert!(count > 60, "{count} of 200 trees have {what}");
    }
}
