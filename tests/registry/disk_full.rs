//! A full disk under the state folder.

use crate::support::{Flake, PATIENCE, Registry, layers};
use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

/// A registry whose state folder is a file system of its own, of 5 MiB.
struct Small {
    registry: Registry,
    child: Child,
    log: PathBuf,
}

impl Small {
    fn start(flake: &Flake, failure_ttl: &str) -> Self {
        let mut registry = Registry::start(flake, &[("FAILURE_TTL", failure_ttl), ("UNKNOWN_TTL", "0")]);
        registry.stop();
        let program = registry.command(&[]);
        let mount = "mount -t tmpfs -o size=5m tmpfs \"$STATE_DIR\" && exec \"$0\"";
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "/bin/sh", "-c", mount]).arg(program.get_program());
        command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let log = registry.state.with_file_name("small-log");
        let child = command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let begin = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            assert!(begin.elapsed() < PATIENCE, "it does not start");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self { registry, child, log }
    }

    /// The state folder, as the registry sees it.
    fn state(&self) -> PathBuf {
        let state = self.registry.state.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.child.id())).join(state)
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.state().join("fill")).unwrap();
        let block = [1; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.state().join("fill")).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn cached(&self) -> usize {
        fs::read_dir(self.state().join("blobs")).unwrap().count()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_needs_no_restart() {
    let flake = Flake::new("");
    let small = Small::start(&flake, "0");
    small.registry.pull("packages/hello-plain", "latest");
    small.fill();
    // One has to be unpacked, the other ones only have to be written down.
    let message = small.registry.manifest("packages/hello", "latest").is_error(507, "UNKNOWN");
    assert!(message.contains("the registry's disk is full"), "{message}");
    let log = small.log();
    let line = log.lines().find(|line| line.contains("no space left")).unwrap();
    assert!(line.contains("ERROR") && line.contains("CACHE_MAX_BYTES"), "{line}");
    let names = ["hello-flat", "hello-oci-plain", "hello-oci-archive", "hello-links-plain"];
    let full = || names.map(|name| small.registry.manifest(&format!("packages/{name}"), "latest").status);
    assert!(full().contains(&507), "the index is full");
    assert!(!full().contains(&500));
    assert!(small.log().contains("no space left on the file system of STATE_DIR"), "{}", small.log());
    assert_eq!(small.cached(), 0, "nothing half-written stays");
    // What is known is served all the while.
    small.registry.pull("packages/hello-plain", "latest");
    small.free();
    for name in names {
        small.registry.pull(&format!("packages/{name}"), "latest");
    }
    small.registry.pull("packages/hello-plain", "latest");
}

#[test]
fn while_the_disk_is_full_an_image_is_not_unpacked_for_each_who_asks() {
    let flake = Flake::new("");
    let small = Small::start(&flake, "1h");
    small.registry.pull("packages/hello-xz", "latest");
    let manifest = small.registry.manifest("packages/hello-xz", "latest");
    let layer = layers(&manifest).remove(0);
    let evicted = small.state().join("blobs").join(layer.trim_start_matches("sha256:"));
    assert!(evicted.exists());
    fs::remove_file(evicted).unwrap();
    small.fill();
    for _ in 0..5 {
        small.registry.manifest("packages/hello", "latest").is_error(507, "UNKNOWN");
        small.registry.blob("packages/hello-xz", &layer).is_error(507, "UNKNOWN");
    }
    assert_eq!(small.log().matches("no space left on the file system").count(), 2, "{}", small.log());
}
