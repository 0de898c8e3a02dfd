//! Every byte of a layer, and every range of it.

use crate::{
    reference::{go, hex, python},
    support::{Layer, length, read, reference_layer, store, style},
};
use forge_registry::{
    blob::{Blob, Buffers, Sight, VirtualTar},
    encode::{Coding, Encoder, Encoders},
    layer::{
        Entry, EntryList, Kind, ListWriter, Mark, Owner, Recent, StorePaths, Style, Writer, walk,
        write_header,
    },
    oci::Digest,
};
use http_body_util::BodyExt;
use proptest::{collection::vec, prelude::*};
use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io::Read,
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// What a random tree consists of.
#[derive(Debug, Clone)]
enum Node {
    File { name: Vec<u8>, length: usize, executable: bool },
    HardLink { name: Vec<u8> },
    Link { name: Vec<u8>, target: Vec<u8> },
    Folder { name: Vec<u8>, nodes: Vec<Node> },
}

pub fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zA-Z0-9._+-]{1,12}".prop_map(String::into_bytes),
        1 => "[a-z]{90,200}".prop_map(String::into_bytes),
        1 => "[a-z\u{e9}\u{4e2d}\u{d7ff}\u{e000}\u{1f600}]{1,20}".prop_map(String::into_bytes),
        1 => vec(prop_oneof![Just(b'a'), Just(b'\n'), Just(b' '), 0x80_u8..=0xff], 1..10),
    ]
    .prop_filter("a name of its own", |name| !matches!(&name[..], b"." | b".." | b"first"))
}

fn node() -> impl Strategy<Value = Node> {
    let length = prop_oneof![Just(0_usize), 1_usize..2000, Just(512), 130_000_usize..400_000];
    let target = prop_oneof![name(), vec(1_u8..=255, 95..120), "[a-z/.]{1,30}".prop_map(String::into_bytes)];
    let leaf = prop_oneof![
        3 => (name(), length, any::<bool>())
            .prop_map(|(name, length, executable)| Node::File { name, length, executable }),
        1 => name().prop_map(|name| Node::HardLink { name }),
        1 => (name(), target).prop_map(|(name, target)| Node::Link { name, target }),
        1 => name().prop_map(|name| Node::Folder { name, nodes: vec![] }),
    ];
    leaf.prop_recursive(5, 40, 8, |inner| {
        (name(), vec(inner, 0..8)).prop_map(|(name, nodes)| Node::Folder { name, nodes })
    })
}

/// Makes the tree; of two nodes of one name the first one counts.
fn plant(root: &Path, folder: &Path, nodes: &[Node]) {
    for (n, node) in nodes.iter().enumerate() {
        let at = |name: &Vec<u8>| folder.join(OsString::from_vec(name.clone()));
        match node {
            Node::File { name, length, executable } => {
                if at(name).symlink_metadata().is_ok() {
                    continue;
                }
                let bytes: Vec<u8> = (0..*length).map(|i| (i * 7 + n + length) as u8).collect();
                fs::write(at(name), bytes).unwrap();
                let mode = if *executable { 0o555 } else { 0o444 };
                fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
            }
            Node::HardLink { name } => drop(fs::hard_link(root.join("first"), at(name))),
            Node::Link { name, target } => drop(symlink(OsString::from_vec(target.clone()), at(name))),
            Node::Folder { name, nodes } => {
                if fs::create_dir(at(name)).is_ok() {
                    plant(root, &at(name), nodes);
                }
            }
        }
    }
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

pub fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let at = a.iter().zip(b).position(|(a, b)| a != b);
    at.or((a.len() != b.len()).then_some(a.len().min(b.len())))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_is_what_python_writes_and_every_range_is_a_range_of_it(
        nodes in vec(node(), 0..12),
        style in styles(),
        root_mode in prop_oneof![Just(0o755), Just(0o555)],
        ranges in vec((0.0..1.0_f64, 0_u64..300_000), 12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("00bgd045z0d4icpbc2yyz4gx48ak44la-tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("first"), "the first file").unwrap();
        plant(&tree, &tree, &nodes);
        let (link, file) = (dir.path().join("a-link"), dir.path().join("a-file"));
        symlink(&tree, &link).unwrap();
        fs::write(&file, "a file").unwrap();
        let paths = [tree, link, file];

        let contents = StorePaths { paths: &paths, root_mode };
        let layer = Layer::make(&style, &contents, dir.path().join("list"));
        assert_same(&layer, &reference_layer(&style, &contents), &ranges);
    }
}

/// Compares the whole and ranges, which begin at this part of it.
pub fn assert_same(layer: &Layer, expected: &[u8], ranges: &[(f64, u64)]) {
    let all = layer.range(0..layer.size).unwrap();
    assert_eq!(difference(&all, expected), None);
    assert_eq!(layer.digest, Digest::of(expected));
    let size = layer.size;
    for (start, length) in ranges {
        let start = (start * size as f64) as u64;
        for (start, length) in [(start, *length), (start / 512 * 512, 512), (start, 1), (start, u64::MAX)] {
            let end = start.saturating_add(length);
            let found = layer.range(start..end).unwrap();
            let wanted = &expected[start as usize..end.min(size) as usize];
            assert_eq!(difference(&found, wanted), None, "{start} {length}");
        }
    }
}

/// Lines of a tree: name, kind, permissions, contents.
fn lines(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut lines = Vec::new();
    walk(root, &mut |found| {
        let contents = match found.metadata.file_type() {
            t if t.is_symlink() => fs::read_link(&found.path).unwrap().into_os_string().into_vec(),
            t if t.is_file() => fs::read(&found.path).unwrap(),
            _ => Vec::new(),
        };
        lines.push((found.path.strip_prefix(root).unwrap().to_owned(), found.metadata.mode(), contents));
        Ok(())
    })
    .unwrap();
    lines
}

#[test]
fn gnu_tar_and_python_unpack_a_layer_to_the_same_tree() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let deep = tree.join("d".repeat(120)).join("e".repeat(150)).join("f".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    for (name, bytes) in
        [("empty-file", vec![]), ("large", vec![7; 700_001]), ("\u{e9}\u{1f600}", vec![1; 512])]
    {
        fs::write(tree.join(name), bytes).unwrap();
    }
    fs::write(deep.join("x".repeat(101)), "deep").unwrap();
    fs::write(tree.join("program"), "#!").unwrap();
    fs::set_permissions(tree.join("program"), Permissions::from_mode(0o555)).unwrap();
    fs::write(tree.join(OsString::from_vec(b"bytes\xff\xfe".to_vec())), "no text").unwrap();
    symlink("l".repeat(150), tree.join("long-link")).unwrap();
    symlink("program", tree.join("link")).unwrap();
    fs::hard_link(tree.join("large"), tree.join("large-again")).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();

    let paths = [tree.clone()];
    let layer = Layer::make(&style(), &store(&paths), dir.path().join("list"));
    let archive = dir.path().join("layer.tar");
    fs::write(&archive, layer.range(0..u64::MAX).unwrap()).unwrap();
    assert_eq!(fs::read(&archive).unwrap().len() % 10_240, 0);
    let planted = lines(&tree);
    let unpackers: [(&str, &[&str]); 2] = [
        ("tar", &["-xf"]),
        ("python3", &["-c", "import sys,tarfile; tarfile.open(sys.argv[1]).extractall('.', filter='tar')"]),
    ];
    for (program, arguments) in unpackers {
        let out = dir.path().join(format!("by-{program}"));
        fs::create_dir(&out).unwrap();
        let status = Command::new(program).args(arguments).arg(&archive).current_dir(&out).status().unwrap();
        assert!(status.success(), "{program}");
        let unpacked = lines(&out.join(tree.strip_prefix("/").unwrap()));
        assert_eq!(unpacked.len(), planted.len());
        for (unpacked, planted) in unpacked.iter().zip(&planted) {
            // Python's filter takes write permissions away; GNU tar keeps what the umask leaves.
            let same = unpacked.1 & !0o7777 == planted.1 & !0o7777 && unpacked.1 & 0o500 == planted.1 & 0o500;
            assert!(unpacked.0 == planted.0 && same && unpacked.2 == planted.2, "{program}: {:?}", planted.0);
        }
    }
}

#[test]
fn headers_of_sizes_that_no_test_could_write_are_pythons_and_gos() {
    for (size, writer) in [0, 511, (1 << 33) - 1, 1 << 33, (1 << 33) + 1, 1 << 40, u64::MAX / 2]
        .into_iter()
        .flat_map(|size| [Writer::Python, Writer::Go].map(|writer| (size, writer)))
    {
        let style = Style { writer, ..style() };
        let entry = Entry {
            name: b"/nix/store/large".to_vec(),
            mode: 0o444,
            owner: None,
            kind: Kind::File { size, mark: Mark(0), path: None },
        };
        let mut found = Vec::new();
        write_header(&mut found, &style, &entry);
        let mut item = serde_json::json!({ "mode": 0o444, "size": size });
        let expected = match writer {
            Writer::Go => {
                item["name"] = hex(&entry.name).into();
                item["type"] = "file".into();
                go("items", &serde_json::json!({ "mtime": 1, "owner": style.owner, "items": [item] }))
            }
            _ => {
                item["name"] = "/nix/store/large".into();
                item["type"] = "0".into();
                item["linkname"] = "".into();
                let style = serde_json::to_string(&style).unwrap();
                python(&["header".as_ref(), style.as_ref(), item.to_string().as_ref()])
            }
        };
        assert_eq!(difference(&found, &expected), None, "{size} {writer:?}");
    }
}

#[test]
fn a_sparse_file_beyond_eight_gibibytes_is_served_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let size: u64 = (9 << 30) + 13;
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"the end", size - 7).unwrap();

    // As it would be written after hashing all of it, which takes long in a debug build.
    let list = dir.path().join("list");
    let mut writer = ListWriter::new(File::create(&list).unwrap(), style()).unwrap();
    let metadata = file.metadata().unwrap();
    let kind = Kind::File { size, mark: Mark::of(&metadata), path: None };
    let name = path.clone().into_os_string().into_vec();
    let mut headers = Vec::new();
    writer.push(&Entry { name, mode: 0o444, owner: None, kind }, &mut headers).unwrap();
    let (length, _) = writer.finish(Digest::of(b"")).unwrap();

    let list = EntryList::open(File::open(&list).unwrap()).unwrap();
    let blob =
        Blob::virtual_tar(VirtualTar::new(list, Buffers::for_chunks(64 << 20), |error| panic!("{error}")));
    let start = headers.len() as u64;
    assert_eq!(headers.len(), 1536, "a size that does not fit takes an extended header");
    assert_eq!(length, (start + size + 499 + 1024).next_multiple_of(10_240));
    assert_eq!(read(&blob, 0..start).unwrap(), headers);
    let tail = read(&blob, start + size - 9..u64::MAX).unwrap();
    assert_eq!((&tail[..9], tail.len() as u64), (&b"\0\0the end"[..], length - start - size + 9));
    assert!(tail[9..].iter().all(|byte| *byte == 0));
    assert_eq!(read(&blob, start + (5 << 30)..start + (5 << 30) + (3 << 20)).unwrap(), vec![0; 3 << 20]);
}

#[tokio::test]
async fn responses_that_nobody_takes_hold_no_more_memory_than_they_may_and_keep_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::write(&tree, "to be served ".repeat(300_000)).unwrap();
    let paths = [tree];
    let contents = StorePaths { paths: &paths, root_mode: 0o755 };
    let layer = Layer::make(&style(), &contents, dir.path().join("list"));
    let blob = layer.blob_with(Buffers::for_chunks(2 << 20));
    let whole = blob.body(0..u64::MAX, Sight::Program).collect().await.unwrap().to_bytes();
    let encoders = Arc::new(Encoders::new(1, 0));
    let encoded = || blob.encoded(Encoder::new(Coding::Gzip, encoders.clone(), false));

    let mut held = Vec::new();
    for _ in 0..10 {
        let mut body = blob.body(0..u64::MAX, Sight::Program);
        let taken = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let mut encoded = encoded();
        encoded.frame().await.unwrap().unwrap();
        held.push((taken, body, encoded));
    }
    let lengths: Vec<usize> = held.iter().map(|(taken, ..)| taken.len()).collect();
    assert!(lengths.iter().sum::<usize>() < (2 << 20) + 10 * (16 << 10), "{lengths:?}");

    let mut body = blob.body(0..u64::MAX, Sight::Program);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), whole[..16 << 10], "a short chunk");
    assert!(blob.body(0..u64::MAX, Sight::Program).collect().await.unwrap().to_bytes() == whole);
    let compressed = encoded().collect().await.unwrap().to_bytes();
    let mut decoded = Vec::new();
    flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut decoded).unwrap();
    assert!(decoded == whole);

    drop((held, body));
    let first = blob.body(0..u64::MAX, Sight::Program).frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.len() > 16 << 10, "there are long ones again");
}

#[test]
fn the_entry_list_of_a_hundred_thousand_files_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    let mut writer = ListWriter::new(File::create(&list).unwrap(), style()).unwrap();
    let (mut headers, mut position, mut places) = (Vec::new(), 0, Vec::new());
    for n in 0..100_000_u64 {
        let hash = Digest::of(&n.to_le_bytes()).hex();
        let folder =
            format!("/nix/store/{}-package-1.0/lib/python3.12/site-packages/m{:04}", "0".repeat(32), n / 100);
        let name = format!("{folder}/{hash}.py").into_bytes();
        let kind = Kind::File {
            size: n * 37 % 20_000,
            mark: Mark(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            path: None,
        };
        let entry = Entry { name, mode: 0o444, owner: None, kind };
        headers.clear();
        writer.push(&entry, &mut headers).unwrap();
        if n % 9973 == 0 {
            places.push((position, headers.clone()));
        }
        position += headers.len() as u64 + entry.size().next_multiple_of(512);
    }
    let (size, _) = writer.finish(Digest::of(b"")).unwrap();
    assert!(length(&list) < 16 << 20, "{} bytes", length(&list));
    let list = EntryList::open(File::open(&list).unwrap()).unwrap();
    assert_eq!(list.size(), size);
    for (place, header) in places {
        let mut found = Vec::new();
        list.pieces(place..place + header.len() as u64, &mut Recent::default(), &mut |piece| {
            let forge_registry::layer::Piece::Bytes(bytes) = piece else { panic!("{piece:?}") };
            found.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, header);
    }
}
