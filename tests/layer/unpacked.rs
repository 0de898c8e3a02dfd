//! What GNU tar and Python's `tarfile` unpack.

use crate::{
    reference::python,
    support::{Layer, store, style},
    trees::{Scratch, assert_members, members, nodes, styles},
};
use forge_registry::budget::Budget;
use forge_registry::layer::{Owner, StorePaths, Style, walk};
use proptest::prelude::*;
use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

/// What is at a path: kind and permissions, contents or target.
type Line = (PathBuf, u32, Vec<u8>);

/// A folder's tree, and the times in it.
fn lines(root: &Path) -> (Vec<Line>, Vec<i64>) {
    let mut lines = (Vec::new(), Vec::new());
    walk(root, &Budget::default(), &mut |found| {
        let contents = match found.metadata.file_type() {
            t if t.is_symlink() => fs::read_link(&found.path).unwrap().into_os_string().into_vec(),
            t if t.is_file() => fs::read(&found.path).unwrap(),
            _ => Vec::new(),
        };
        lines.0.push((found.path.strip_prefix(root).unwrap().to_owned(), found.metadata.mode(), contents));
        lines.1.push(found.metadata.mtime());
        Ok(())
    })
    .unwrap();
    lines
}

fn below(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix("/").unwrap())
}

/// Unpacks the layer of these paths with both programs, and compares what is there then with what it was made of.
fn assert_unpacks(scratch: &Scratch, style: &Style, contents: &StorePaths<'_>) {
    let layer = Layer::make(style, contents, scratch.join("list"));
    assert_members(&members(style, contents), |range| layer.range(range).unwrap());

    let archive = scratch.join("layer.tar");
    fs::write(&archive, layer.range(0..u64::MAX).unwrap()).unwrap();
    assert_eq!(fs::metadata(&archive).unwrap().len() % 10_240, 0);
    let (by_tar, by_python) = (scratch.join("by-tar"), scratch.join("by-python"));
    for out in [&by_tar, &by_python] {
        fs::create_dir(out).unwrap();
    }
    let (mut tar, arguments) = (Command::new("tar"), ["-xp", "--no-same-owner", "-f"]);
    let tar = tar.args(arguments).arg(&archive).arg("-C").arg(&by_tar).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    python(&["unpack".as_ref(), archive.as_ref(), by_python.as_ref()]);

    let planted: Vec<_> = contents.paths.iter().map(|path| (path, lines(path).0)).collect();
    for (program, out) in [("tar", by_tar), ("tarfile", by_python)] {
        for folder in ["/nix", "/nix/store"] {
            let metadata = fs::metadata(below(&out, folder.as_ref())).unwrap();
            let found = (metadata.mode() & 0o7777, metadata.mtime());
            assert_eq!(found, (contents.root_mode, style.mtime), "{program}");
        }
        for (path, planted) in &planted {
            let (unpacked, times) = lines(&below(&out, path));
            let names = |lines: &[Line]| lines.iter().map(|line| line.0.clone()).collect::<Vec<_>>();
            assert_eq!(names(&unpacked), names(planted), "{program}");
            for ((unpacked, planted), mtime) in unpacked.iter().zip(planted).zip(times) {
                let same = unpacked.1 == planted.1 && unpacked.2 == planted.2;
                assert!(same, "{program}: {:?} {:o} {:o}", planted.0, unpacked.1, planted.1);
                // tarfile does not set a link's time.
                let is_link = planted.1 & libc::S_IFMT == libc::S_IFLNK;
                assert!(
                    mtime == style.mtime || (is_link && program == "tarfile"),
                    "{program}: {:?}",
                    planted.0
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn gnu_tar_and_python_unpack_a_layer_of_any_tree_to_that_tree(
        nodes in nodes(),
        style in styles(),
        // What every file system can keep.
        mtime in prop_oneof![Just(1_i64), Just(0), Just(-5), Just(i64::from(i32::MAX))],
        root_mode in prop_oneof![Just(0o755), Just(0o555)],
    ) {
        // GNU tar takes no number of an owner that is negative.
        let owner = Owner { uid: style.owner.uid.max(0), gid: style.owner.gid.max(0), ..style.owner };
        let style = Style { mtime, owner, ..style };
        let scratch = Scratch::new();
        let paths = scratch.plant(&nodes);
        assert_unpacks(&scratch, &style, &StorePaths { paths: &paths, root_mode });
    }
}

#[test]
fn gnu_tar_and_python_unpack_a_layer_of_all_that_a_store_path_can_have_to_the_same_tree() {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    let deep = tree.join("d".repeat(120)).join("e".repeat(150)).join("f".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    for (name, bytes) in
        [("empty-file", vec![]), ("large", vec![7; 700_001]), ("\u{e9}\u{1f600}", vec![1; 512])]
    {
        fs::write(tree.join(name), bytes).unwrap();
    }
    fs::write(deep.join("x".repeat(101)), "deep").unwrap();
    fs::write(deep.join("y".repeat(255)), "as long as a name can be").unwrap();
    fs::write(tree.join("program"), "#!").unwrap();
    fs::set_permissions(tree.join("program"), Permissions::from_mode(0o555)).unwrap();
    fs::write(tree.join(OsString::from_vec(b"bytes\xff\xfe".to_vec())), "no text").unwrap();
    symlink("l".repeat(150), tree.join("long-link")).unwrap();
    symlink("program", tree.join("link")).unwrap();
    fs::hard_link(tree.join("large"), tree.join("large-again")).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_all_at(b"not only zeroes", 3 << 20).unwrap();
    let longest = deep.join("y".repeat(255));
    assert!(longest.strip_prefix(&tree).unwrap().as_os_str().as_bytes().len() > 600);

    assert_unpacks(&scratch, &style(), &store(&[tree]));
}
