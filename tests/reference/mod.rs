//! The references: Python's `tarfile` and Go's `archive/tar`, each driven by a program beside this file.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// What `stream.py` says.
#[allow(dead_code)]
pub fn python(arguments: &[&OsStr]) -> Vec<u8> {
    let output = Command::new("python3")
        .arg(program("stream.py"))
        .args(arguments)
        .env("PYTHONUTF8", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What `stream.py tree` finds in an archive of which it is given the ranges that it asks for.
#[allow(dead_code)]
pub fn tree(range: impl Fn(Range<u64>) -> Vec<u8>) -> serde_json::Value {
    let mut child = Command::new("python3")
        .arg(program("stream.py"))
        .arg("tree")
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut last = String::new();
    for line in BufReader::new(stdout).lines() {
        last = line.unwrap();
        if let Some((start, length)) = last.split_once(' ').filter(|_| !last.starts_with('[')) {
            let (start, length): (u64, u64) = (start.parse().unwrap(), length.parse().unwrap());
            stdin.write_all(&range(start..start + length)).unwrap();
        }
    }
    assert!(child.wait().unwrap().success());
    serde_json::from_str(&last).unwrap()
}

/// What `gotar.go` says.
pub fn go(command: &str, input: &serde_json::Value) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (path, new) = (folder.join("gotar"), folder.join(format!("gotar-{}", std::process::id())));
        let go = Command::new("go").arg("build").arg("-o").arg(&new).arg(program("gotar.go")).output();
        let go = go.expect("this test needs Go, which `dev/setup test` installs and `dev/test` finds");
        assert!(go.status.success(), "{}", String::from_utf8_lossy(&go.stderr));
        // Another test program may run the old one.
        fs::rename(new, &path).unwrap();
        path
    });
    let mut child =
        Command::new(built).arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_string();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "gotar {command}");
    output.stdout
}

/// As the references take bytes.
#[allow(dead_code)]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
