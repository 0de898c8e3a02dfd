//! The registry starts no program, whatever it is asked, and could not.

use crate::support::{Flake, Registry, eventually};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// strace(1), attached to every thread of a registry.
struct Trace {
    strace: Child,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Trace {
    fn of(registry: &Registry) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace");
        // clone3 as well: that threads are seen to begin shows that the trace sees anything at all.
        let strace = Command::new("strace")
            .args(["-f", "-e", "trace=execve,execveat,fork,vfork,clone,clone3", "-o"])
            .arg(&file)
            .args(["-p", &registry.pid().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is installed");
        eventually("all threads are traced", || {
            statuses(registry.pid()).iter().all(|status| field(status, "TracerPid") != "0")
        });
        Self { strace, file, _dir: dir }
    }

    /// Ends the trace after the registry has ended, and gives its lines.
    fn lines(mut self) -> String {
        self.strace.wait().unwrap();
        fs::read_to_string(&self.file).unwrap()
    }
}

fn statuses(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).unwrap();
    // A thread may end between the two.
    threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok()).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

#[test]
fn a_cold_pull_a_failed_build_and_a_restart_execute_nothing() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    let trace = Trace::of(&registry);
    registry.pull("packages/hello", "latest");
    registry.pull("packages/hello-xz", "latest");
    registry.pull("packages/greet", "latest");
    assert_eq!(registry.manifest("packages/failing", "latest").status, 422);
    assert_eq!(registry.get("/readyz").status, 200);
    registry.stop();
    let first = trace.lines();

    registry.run();
    let trace = Trace::of(&registry);
    registry.pull("packages/hello", "latest");
    registry.stop();
    for lines in [first, trace.lines()] {
        assert!(lines.contains("exited with 0"), "{lines}");
        assert!(!lines.contains("exec"), "{lines}");
        assert!(
            lines
                .lines()
                .filter(|l| l.contains("clone"))
                .all(|l| l.contains("CLONE_THREAD") || l.contains("resumed")),
            "a process was forked: {lines}"
        );
    }
}

#[test]
fn every_thread_is_denied_to_execute_before_the_first_connection_is_taken() {
    let flake = Flake::new("");
    // `start` returns as soon as a connection is taken.
    let registry = Registry::start(&flake, &[]);
    let statuses = statuses(registry.pid());
    assert!(!statuses.is_empty());
    for status in statuses {
        assert_eq!((field(&status, "Seccomp"), field(&status, "NoNewPrivs")), ("2", "1"), "{status}");
    }
}
