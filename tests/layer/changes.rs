//! Files that are not what they were, and damaged entry lists.

use crate::support::{Layer, store, style};
use forge_registry::budget::Budget;
use forge_registry::layer::{EntryList, LayerError, make, recipe};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
    sync::atomic::Ordering,
};

fn tree() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for n in 0..200 {
        fs::write(tree.join(format!("{n:03}")), vec![n as u8; 3000]).unwrap();
    }
    (dir, tree)
}

#[test]
fn a_file_that_changed_is_never_served_and_everything_before_it_is() {
    let changes: [fn(&std::path::Path); 5] = [
        |file| fs::write(file, "shorter").unwrap(),
        |file| fs::write(file, vec![9; 3000]).unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| {
            fs::write(file.with_extension("new"), vec![150; 3000]).unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        },
        |file| {
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink("000", file).unwrap();
        },
    ];
    for (n, change) in changes.iter().enumerate() {
        let (dir, tree) = tree();
        let layer = Layer::make(&style(), &store(std::slice::from_ref(&tree)), dir.path().join("list"));
        let all = layer.range(0..u64::MAX).unwrap();
        change(&tree.join("150"));
        assert!(layer.range(0..u64::MAX).is_err(), "change {n}");
        assert_eq!(layer.failures.load(Ordering::SeqCst), 1, "change {n}");
        assert_eq!(layer.range(0..100_000).unwrap(), all[..100_000], "change {n}");
    }
}

#[test]
fn another_folder_in_the_place_of_a_store_path_is_seen_before_the_response_begins() {
    let (dir, tree) = tree();
    let layer = Layer::make(&style(), &store(std::slice::from_ref(&tree)), dir.path().join("list"));
    let open = || EntryList::open(File::open(&layer.list).unwrap()).unwrap();
    assert!(open().is_current());
    let before = recipe(&style(), &store(std::slice::from_ref(&tree))).unwrap();
    let copy = dir.path().join("copy");
    assert!(Command::new("cp").arg("-a").args([&tree, &copy]).status().unwrap().success());
    fs::rename(&tree, dir.path().join("old")).unwrap();
    assert!(!open().is_current());
    fs::rename(&copy, &tree).unwrap();
    assert!(!open().is_current());
    assert_ne!(recipe(&style(), &store(&[tree])).unwrap(), before);
}

#[test]
fn a_damaged_list_is_an_error_wherever_the_damage_is() {
    let (dir, tree) = tree();
    let layer = Layer::make(&style(), &store(&[tree]), dir.path().join("list"));
    let good = fs::read(&layer.list).unwrap();
    let all = layer.range(0..u64::MAX).unwrap();
    for at in (0..good.len()).step_by(11).chain(good.len() - 60..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&layer.list, &bad).unwrap();
        match EntryList::open(File::open(&layer.list).unwrap()) {
            Err(LayerError::Damaged(_)) => {}
            Err(error) => panic!("{error}"),
            Ok(_) => assert!(layer.range(0..u64::MAX).is_err(), "damage at {at} of {}", good.len()),
        }
    }
    for length in [0, 10, 40, good.len() / 2, good.len() - 1] {
        fs::write(&layer.list, &good[..length]).unwrap();
        assert!(EntryList::open(File::open(&layer.list).unwrap()).is_err(), "{length}");
    }
    fs::write(&layer.list, &good).unwrap();
    assert_eq!(layer.range(0..u64::MAX).unwrap(), all);
}

#[test]
fn what_nix_does_not_store_is_refused() {
    let (dir, tree) = tree();
    let status = Command::new("mkfifo").arg(tree.join("fifo")).status().unwrap();
    assert!(status.success());
    let error =
        make(&style(), &store(&[tree]), &Budget::default(), 10_000, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("a FIFO"), "{error}");
    let error = make(&style(), &store(&[dir.path().join("nowhere")]), &Budget::default(), 10_000, Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn a_layer_has_as_many_entries_as_it_may_and_no_more() {
    let (_dir, tree) = tree();
    let paths = [tree];
    // Two hundred files in a folder, below /nix/store.
    make(&style(), &store(&paths), &Budget::default(), 203, Vec::new()).unwrap();
    let error = make(&style(), &store(&paths), &Budget::default(), 202, Vec::new()).unwrap_err().to_string();
    assert!(
        error.contains("more than 202 files, folders and links") && error.contains("MAX_LAYER_FILES"),
        "{error}"
    );
}
