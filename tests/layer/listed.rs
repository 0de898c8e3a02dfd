//! Layers of listed items: files under other names, contents in the list, folders and links that are nowhere, owners.

use crate::{
    bytes::assert_same,
    support::{Layer, length, reference_items, style},
    trees::{name, styles},
};
use forge_registry::{
    budget::Budget,
    layer::{
        Entry, EntryList, Found, Item, Kind, LayerError, ListWriter, Listed, MAX_INLINE, Mark, Owner, Style,
        What, Writer, make, recipe,
    },
    oci::Digest,
};
use proptest::{collection::vec, prelude::*};
use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::{ffi::OsStringExt, fs::symlink},
    path::{Path, PathBuf},
};

#[derive(Debug, Clone)]
enum Node {
    Folder,
    Link(Vec<u8>),
    Inline(Vec<u8>),
    Disk(usize),
}

/// Clean names: what archives have, absolute or not.
fn path() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), vec(name(), 1..5), vec("[a-z]{1,40}", 0..7)).prop_map(|(absolute, names, more)| {
        let mut path: Vec<u8> = if absolute { b"/".to_vec() } else { Vec::new() };
        path.extend(more.into_iter().map(String::into_bytes).chain(names).collect::<Vec<_>>().join(&b'/'));
        path
    })
}

fn owner() -> impl Strategy<Value = Option<Owner>> {
    let id =
        prop_oneof![4 => 0_i64..70_000, 1 => Just(2_097_152), 1 => Just(-1), 1 => Just(i64::from(i32::MAX))];
    let name = prop_oneof!["[a-z]{0,8}", "[a-z]{33,40}", Just("\u{e9}".to_owned())];
    prop::option::of((id.clone(), id, name.clone(), name).prop_map(|(uid, gid, uname, gname)| Owner {
        uid,
        gid,
        uname,
        gname,
    }))
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        1 => Just(Node::Folder),
        1 => path().prop_map(Node::Link),
        2 => (any::<u8>(), prop_oneof![Just(0), 1..3000_usize, Just(512), Just(MAX_INLINE)])
            .prop_map(|(seed, length)| Node::Inline((0..length).map(|i| (i * 7) as u8 ^ seed).collect())),
        3 => (0..5_usize).prop_map(Node::Disk),
    ]
}

/// What is on the disk: files, a folder and a link. Below `base`, so that a file may be named as in another tree.
fn plant(base: &Path) -> [PathBuf; 5] {
    let paths = ["tree/bin/hello", "tree/lib/large", "tree/empty", "tree/link", "tree/folder"];
    let paths = paths.map(|path| base.join(path));
    for path in &paths {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    fs::write(&paths[0], "hello").unwrap();
    fs::write(&paths[1], (0..300_000).map(|i| (i * 7) as u8).collect::<Vec<_>>()).unwrap();
    fs::write(&paths[2], "").unwrap();
    symlink("bin/hello", &paths[3]).unwrap();
    fs::create_dir(&paths[4]).unwrap();
    paths
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn listed_items_are_what_python_or_go_writes_and_so_is_every_range(
        items in vec((path(), prop::option::of(0_u32..0o10000), owner(), node()), 0..30),
        style in styles(),
        go in any::<bool>(),
        ranges in vec((0.0..1.0_f64, 0_u64..300_000), 8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let disk = plant(dir.path());
        let items: Vec<Item> = items.into_iter().map(|(name, mode, owner, node)| {
            let what = match node {
                Node::Folder => What::Folder,
                Node::Link(target) => What::Link(target),
                Node::Inline(bytes) => What::Inline(bytes),
                Node::Disk(n) => What::OnDisk(Found::at(disk[n].clone()).unwrap()),
            };
            Item { name, mode, owner: owner.map(Into::into), what }
        }).collect();
        let style = if go { Style { writer: Writer::Go, ..style } } else { style };
        let expected = reference_items(&style, &items);
        let listed = Listed { roots: vec![dir.path().join("tree")], items };
        let layer = Layer::make(&style, &listed, dir.path().join("list"));
        assert_same(&layer, &expected, &ranges);
    }
}

/// Everything that such a layer can have, and nothing that depends on the machine.
fn everything() -> Vec<Item> {
    let long = format!("/{}/{}", "d".repeat(120), "f".repeat(90));
    vec![
        Item::new("/", What::Folder),
        Item::new("/bin", What::Folder),
        Item::new("/bin/hello", What::Link(b"/nix/store/0-hello/bin/hello".to_vec())),
        Item::new("/etc/passwd", What::Inline(b"root:x:0:0::/root:/bin/sh\n".to_vec())),
        Item::new("/home/me", What::Folder).with_mode(0o700).with_owner(Owner {
            uid: 1000,
            gid: 100,
            uname: "me".into(),
            gname: "users".into(),
        }),
        Item::new("/tmp", What::Folder).with_mode(0o1777),
        Item::new(format!("{long}/and/more/{}", "x".repeat(80)), What::Inline(vec![7; 1000])),
        Item::new(long, What::Inline(vec![])),
        Item::new("/\u{e9}", What::Link("\u{4e2d}".repeat(40).into())).with_owner(Owner {
            uid: -1,
            gid: 1 << 21,
            uname: "u".repeat(40),
            gname: "\u{e9}".into(),
        }),
    ]
}

/// Digests of what `gotar items` and `stream.py items` wrote for `everything`, with Go 1.26 and Python 3.11: `sha256sum` of
/// what `reference_items` gives.
#[test]
fn a_layer_of_everything_has_the_digests_that_it_always_had() {
    let dir = tempfile::tempdir().unwrap();
    let golden = [
        (Writer::Go, "57f6da7017a4174bd820103a095231179148b308bb3dac205925b53ad88b2032"),
        (Writer::Python, "e8c788856f455f5d6e6eec6cdb273b2ed1481a889170c3a1146279685ebe2bf5"),
        (Writer::OldPython, "c7d8e93a2847a2abcbe8586240b3b5273914b76cf85302b738735684a7b37540"),
    ];
    for (writer, expected) in golden {
        let style = Style { writer, ..style() };
        let listed = Listed { roots: vec![], items: everything() };
        let layer = Layer::make(&style, &listed, dir.path().join("list"));
        assert_eq!(layer.digest.to_string(), format!("sha256:{expected}"), "{writer:?}");
    }
}

#[test]
fn whatever_changes_the_bytes_changes_the_recipe() {
    let name = |items: Vec<Item>| recipe(&style(), &Listed { roots: vec![], items }).unwrap();
    let base = || Item::new("/a", What::Inline(b"x".to_vec()));
    let mut seen = vec![
        name(vec![]),
        name(vec![base()]),
        name(vec![base(), base()]),
        name(vec![Item::new("/b", What::Inline(b"x".to_vec()))]),
        name(vec![Item::new("/a", What::Inline(b"y".to_vec()))]),
        name(vec![Item::new("/a", What::Link(b"x".to_vec()))]),
        name(vec![Item::new("/a", What::Folder)]),
        name(vec![Item::new("/ax", What::Inline(vec![]))]),
        name(vec![base().with_mode(0o644)]),
        name(vec![base().with_mode(0o600)]),
        name(vec![base().with_owner(Owner::root())]),
        name(vec![base().with_owner(Owner { uid: 1, ..Owner::root() })]),
        recipe(&Style { writer: Writer::Go, ..style() }, &Listed { roots: vec![], items: vec![base()] })
            .unwrap(),
        recipe(&Style { mtime: 2, ..style() }, &Listed { roots: vec![], items: vec![base()] }).unwrap(),
    ];
    assert_eq!(name(vec![base()]), seen[1]);
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn what_no_archive_or_list_can_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = plant(dir.path())[0].clone();
    let owner = |uname: String| Owner { uname, ..Owner::root() };
    for (item, expected) in [
        (Item::new("", What::Folder), "no name"),
        (Item::new("a\0b", What::Folder), "no name of at most"),
        (Item::new("a".repeat(4097), What::Folder), "no name of at most"),
        (Item::new("/a", What::Link(b"b\0".to_vec())), "its target"),
        (Item::new("/a", What::Link(vec![b'b'; 4097])), "its target"),
        (Item::new("/a", What::Inline(vec![0; MAX_INLINE + 1])), "65537 bytes"),
        (Item::new("/a/", What::Inline(vec![])), "no slash"),
        (Item::new("/a/", What::OnDisk(Found::at(file).unwrap())), "no slash"),
        (Item::new("/a", What::Folder).with_mode(1 << 21), "no permissions"),
        (Item::new("/a", What::Folder).with_owner(owner("a\0".into())), "owner's name"),
        (Item::new("/a", What::Folder).with_owner(owner("a".repeat(1025))), "owner's name"),
    ] {
        let listed = Listed { roots: vec![], items: vec![item] };
        let error = make(&style(), &listed, &Budget::default(), usize::MAX, Vec::new()).unwrap_err();
        assert!(matches!(error, LayerError::Refused { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(expected) && error.len() < 1000, "{expected:?} is missing in {error}");
    }
}

#[test]
fn a_file_under_another_name_is_compared_with_what_was_hashed() {
    let dir = tempfile::tempdir().unwrap();
    let file = plant(dir.path())[1].clone();
    let items = vec![Item::new("/large", What::OnDisk(Found::at(file.clone()).unwrap()))];
    let layer = Layer::make(&style(), &Listed { roots: vec![], items }, dir.path().join("list"));
    let all = layer.range(0..u64::MAX).unwrap();
    fs::write(&file, vec![0; 300_000]).unwrap();
    assert!(layer.range(0..u64::MAX).is_err());
    assert_eq!(layer.range(0..512).unwrap(), all[..512]);
}

#[test]
fn a_list_of_the_format_before_is_no_list() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::make(&style(), &Listed::default(), dir.path().join("list"));
    let mut bytes = fs::read(&layer.list).unwrap();
    let magic = b"forge-registry layer 2\n";
    assert_eq!(&bytes[..magic.len()], magic);
    bytes[magic.len() - 2] = b'1';
    fs::write(&layer.list, bytes).unwrap();
    let error = EntryList::open(File::open(&layer.list).unwrap()).unwrap_err();
    assert!(matches!(error, LayerError::Damaged("it has another format")), "{error}");
}

#[test]
fn the_entry_list_of_a_hundred_thousand_moved_files_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    let mut writer = ListWriter::new(File::create(&list).unwrap(), style()).unwrap();
    let mut headers = Vec::new();
    let owner = std::sync::Arc::new(Owner { uid: 1000, ..Owner::root() });
    let store = format!("/nix/store/{}-package-1.0", "0".repeat(32));
    for n in 0..100_000_u64 {
        let hash = Digest::of(&n.to_le_bytes()).hex();
        let name = format!("/lib/python3.12/site-packages/m{:04}/{hash}.py", n / 100);
        let path = Some(OsString::from_vec(format!("{store}{name}").into_bytes()).into());
        let kind = Kind::File { size: n * 37 % 20_000, mark: Mark(n), path };
        let entry = Entry { name: name.into_bytes(), mode: 0o444, owner: Some(owner.clone()), kind };
        headers.clear();
        writer.push(&entry, &mut headers).unwrap();
    }
    writer.finish(Digest::of(b"")).unwrap();
    assert!(length(&list) < 16 << 20, "{} bytes", length(&list));
}
