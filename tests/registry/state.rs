//! The state folder of another version: brought forward, or left alone.

use crate::support::{Flake, Registry};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// A folder with the index of a version that had no number for formats: three names, four images.
fn former() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    write_former(&state);
    (dir, state)
}

fn write_former(state: &Path) {
    fs::create_dir_all(state).unwrap();
    let packed = include_bytes!("../fixtures/index-3.redb.zst");
    fs::write(state.join("index.redb"), zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
}

fn command(program: &str, arguments: &[&str], state: &Path) -> Output {
    Command::new(program).args(arguments).env("STATE_DIR", state).output().unwrap()
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_forge-registry");
const IMAGES: [&str; 4] =
    ["packages/greet:latest", "packages/hello:1.0.0", "packages/hello:latest", "packages/hello-plain:latest"];

/// Names and tags, and how many images have none.
fn listed(state: &Path) -> (Vec<String>, usize) {
    let output = command(PROGRAM, &["images"], state);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().map(|row| row.split('\t').take(2).collect::<Vec<_>>().join(":"));
    let (bare, tagged): (Vec<String>, Vec<String>) = rows.partition(|row| row.ends_with(':'));
    (tagged, bare.len())
}

#[test]
fn a_folder_of_an_older_version_is_looked_at_as_it_is_and_brought_forward_by_whoever_changes_it() {
    let (_dir, state) = former();
    let index = fs::read(state.join("index.redb")).unwrap();
    // What is no index is no empty one either.
    fs::write(state.join("index.redb"), "not a database").unwrap();
    let output = command(PROGRAM, &["images"], &state);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((text.lines().count(), output.status.code()), (1, Some(1)), "{text}");
    assert!(text.contains("index.redb") && text.contains("makes it again when it starts"), "{text}");
    assert_eq!(fs::read(state.join("index.redb")).unwrap(), b"not a database");
    fs::write(state.join("index.redb"), &index).unwrap();
    let (tagged, bare) = listed(&state);
    assert_eq!((tagged, bare), (IMAGES.map(str::to_owned).to_vec(), 1));
    assert!(!state.join("version").exists());
    assert!(fs::read(state.join("index.redb")).unwrap() == index, "looking at it changed it");

    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    registry.stop();
    fs::remove_dir_all(&registry.state).unwrap();
    write_former(&registry.state);
    registry.run();
    assert!(registry.log().contains("from format 0 to 1"), "{}", registry.log());
    assert!(!registry.log().contains("moved aside"));
    let (text, _) = registry.run_to_its_end(&["images"]);
    assert!(IMAGES.iter().all(|image| text.contains(&image.replace(':', "\t"))), "{text}");
    registry.pull("packages/hello", "latest");
    let (text, code) = registry.run_to_its_end(&["forget", "packages/greet"]);
    assert!(code == Some(0) && text.contains("images: 1"), "{text}");
    registry.stop();
    registry.run();
    assert_eq!(registry.log().matches("from format 0 to 1").count(), 1);
}

/// Kills the process at each of its writes in turn; what comes after finds everything.
#[test]
fn bringing_a_folder_forward_can_be_interrupted_anywhere() {
    let mut kills = 0;
    for call in ["pwrite64", "fdatasync", "fsync", "write", "rename"] {
        for nth in 1.. {
            let (_dir, state) = former();
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            let arguments = ["-f", "-o", "/dev/null", "-e", &inject, PROGRAM, "gc", "--older-than", "3650d"];
            let killed = !command("strace", &arguments, &state).status.success();
            let output = command(PROGRAM, &["gc", "--older-than", "3650d"], &state);
            assert!(output.status.success(), "{call} {nth}: {}", String::from_utf8_lossy(&output.stderr));
            let (tagged, bare) = listed(&state);
            assert_eq!((tagged, bare), (IMAGES.map(str::to_owned).to_vec(), 1), "{call} {nth}");
            assert_eq!(fs::read_to_string(state.join("version")).unwrap(), "1\n");
            assert!(!state.join("index.damaged").exists(), "{call} {nth}");
            if !killed {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 5, "it was killed {kills} times only");
}

#[test]
fn a_folder_of_a_newer_version_is_refused_in_one_line_and_left_alone() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    registry.pull("packages/hello", "latest");
    registry.stop();
    let (version, index) = (registry.state.join("version"), registry.state.join("index.redb"));
    let before = fs::read(&index).unwrap();
    fs::write(&version, "2\n").unwrap();
    for arguments in [&[][..], &["images"], &["gc"], &["forget", "packages/hello"]] {
        let (text, code) = registry.run_to_its_end(arguments);
        assert_eq!((text.lines().count(), code), (1, Some(2)), "{arguments:?}: {text}");
        let own = concat!("forge-registry ", env!("CARGO_PKG_VERSION"));
        for part in
            ["STATE_DIR=", registry.state.to_str().unwrap(), "format 2", own, "formats up to 1", "newer"]
        {
            assert!(text.contains(part), "{arguments:?}: {part} in {text}");
        }
    }
    let (text, code) = registry.run_to_its_end(&["check"]);
    assert!(code == Some(1) && text.contains("BAD STATE_DIR: ") && text.contains("format 2"), "{text}");
    assert!(fs::read(&index).unwrap() == before);
    assert!(!registry.state.join("index.damaged").exists());

    // The same if only the index says so.
    fs::write(&version, "1\n").unwrap();
    {
        const META: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
        let database = redb::Database::create(&index).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", 1000).unwrap();
        transaction.commit().unwrap();
    }
    let (text, code) = registry.run_to_its_end(&[]);
    assert_eq!((text.lines().count(), code), (1, Some(2)), "{text}");
    assert!(text.contains("format 1000") && text.contains("STATE_DIR"), "{text}");
    assert!(!registry.state.join("index.damaged").exists());
}
