//! A testbed that belongs to one test: what happens to its store or its daemon disturbs nobody else.

use crate::support::{Flake, Registry, testbed};
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// A nix-daemon and an evaluator of one's own, of the same Nix as the shared ones.
pub struct Bed {
    dir: TempDir,
    environment: BTreeMap<String, String>,
}

fn script(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/testbed");
    // As started from a shell in which no testbed has been announced.
    let mut command = Command::new(script);
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("NIX_") || name.starts_with("TESTBED_"))
    {
        if name != "NIX_SSL_CERT_FILE" {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(settings.iter().copied()).output().unwrap()
}

impl Bed {
    pub fn up() -> Self {
        Self::up_with(&[])
    }

    /// With settings of `dev/testbed up`.
    pub fn up_with(settings: &[(&str, &str)]) -> Self {
        // The name of a Unix socket may be no longer than 107 bytes.
        let dir = tempfile::Builder::new().prefix("bed.").tempdir_in("/tmp").unwrap();
        let version = testbed("TESTBED_NIX_VERSION");
        let version: Vec<&str> = version.split('.').take(2).collect();
        let output = script(&["up", dir.path().to_str().unwrap(), &version.join(".")], settings);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let environment = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        Self { dir, environment }
    }

    /// A registry on this testbed.
    pub fn registry(&self, flake: &Flake, settings: &[(&str, &str)]) -> Registry {
        let own = ["NIX_DAEMON_SOCKET", "EVALUATOR_SOCKET", "FETCHER_SOCKET", "NIX_STORE_DIR"];
        let own: Vec<(&str, &str)> = own.iter().map(|name| (*name, &*self.environment[*name])).collect();
        Registry::start(flake, &[&own, settings].concat())
    }

    /// What `dev/testbed` exported.
    pub fn variable(&self, name: &str) -> &str {
        &self.environment[name]
    }

    pub fn store(&self) -> PathBuf {
        PathBuf::from(&self.environment["NIX_STORE_DIR"])
    }

    /// The output of one of Nix's commands, which has to succeed.
    pub fn nix(&self, command: &str, arguments: &[&str]) -> String {
        let program = Path::new(&self.environment["TESTBED_NIX"]).join(command);
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The public half of a key of binary caches.
    pub fn public_key(&self, secret: &str) -> String {
        let program = Path::new(&self.environment["TESTBED_NIX"]).join("nix");
        let mut child = Command::new(program)
            .args(["key", "convert-secret-to-public"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    }

    /// Deletes everything from the store that is not rooted.
    pub fn collect_garbage(&self) {
        self.nix("nix-store", &["--gc"]);
    }

    /// The only store path of this suffix, if it is there.
    pub fn store_path(&self, suffix: &str) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.store()).unwrap();
        let mut found = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(suffix));
        let first = found.next();
        assert!(found.next().is_none(), "there are several of {suffix}");
        first
    }

    /// `stop-daemon`, `start-daemon` or `restart-daemon`.
    pub fn daemon(&self, what: &str) {
        let output = script(&[what, self.dir.path().to_str().unwrap()], &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        script(&["remove", self.dir.path().to_str().unwrap()], &[]);
    }
}
