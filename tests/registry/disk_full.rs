//! A full disk under the state folder.

use crate::support::{Flake, PATIENCE, Registry};
use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

/// A registry whose state folder is a file system of its own, of 3 MiB.
struct Small {
    registry: Registry,
    child: Child,
}

impl Small {
    fn start(flake: &Flake) -> Self {
        let mut registry = Registry::start(flake, &[("FAILURE_TTL", "0"), ("UNKNOWN_TTL", "0")]);
        registry.stop();
        let program = registry.command(&[]);
        let mount = "mount -t tmpfs -o size=3m tmpfs \"$STATE_DIR\" && exec \"$0\"";
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "/bin/sh", "-c", mount]).arg(program.get_program());
        command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            assert!(begin.elapsed() < PATIENCE, "it does not start");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self { registry, child }
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
    let small = Small::start(&flake);
    small.registry.pull("packages/hello-plain", "latest");
    small.fill();
    // One has to be unpacked, the other ones only have to be written down.
    small.registry.manifest("packages/hello", "latest").is_error(500, "UNKNOWN");
    let names = ["hello-flat", "hello-oci-plain", "hello-oci-archive", "hello-links-plain"];
    let full = || names.map(|name| small.registry.manifest(&format!("packages/{name}"), "latest").status);
    assert!(full().contains(&500), "the index is full");
    assert_eq!(small.cached(), 0, "nothing half-written stays");
    // What is known is served all the while.
    small.registry.pull("packages/hello-plain", "latest");
    small.free();
    for name in names {
        small.registry.pull(&format!("packages/{name}"), "latest");
    }
    small.registry.pull("packages/hello-plain", "latest");
}
