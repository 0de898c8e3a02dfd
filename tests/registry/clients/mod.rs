//! The clients that people use, as this machine has them: skopeo, podman, docker and containerd. Each has its images,
//! its state and its daemon in a folder of its own, so that nothing of the machine's own is touched.
//!
//! They need root, for the containers that they run; elsewhere `sudo` must work without a password.

mod computed;
mod containerd;
mod discovery;
mod docker;
mod https;
mod login;
mod mirrors;
mod podman;
mod proxy;
mod scenarios;
mod signatures;
mod skopeo;
mod slow;

use crate::support::{PATIENCE, eventually};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Something that pulls images and runs containers. An image is `HOST:PORT/NAME:TAG` or `HOST:PORT/NAME@DIGEST`.
pub trait Client: Sync {
    /// Fetches an image.
    fn pull(&self, image: &str) -> Outcome;
    /// Runs a fetched image, with another command if one is given (entry point and all).
    fn run(&self, image: &str, command: &[&str]) -> Outcome;
}

/// How a client's command ended, and what a user saw.
#[derive(Debug)]
pub struct Outcome {
    /// Whether it succeeded.
    pub success: bool,
    /// Standard output and standard error.
    pub text: String,
}

impl Outcome {
    /// What was printed, the command having succeeded.
    pub fn expect(&self) -> &str {
        assert!(self.success, "{}", self.text);
        &self.text
    }

    /// What was printed, the command having failed.
    pub fn expect_failure(&self) -> &str {
        assert!(!self.success, "it succeeded: {}", self.text);
        &self.text
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self { success: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
    }
}

/// A command as root.
pub fn root(program: &str) -> Command {
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "--", program]);
    command
}

/// Runs a command as root until it ends, or hangs.
fn outcome<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
    let limit = (PATIENCE * 3).as_secs().to_string();
    let output = root("timeout")
        .args(["--kill-after=5", &limit, program])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    output.into()
}

/// The end of a `run`: the image, with another command if one is given.
fn run_arguments<'a>(image: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    match command.split_first() {
        Some((program, rest)) => [&["--entrypoint", program, image], rest].concat(),
        None => vec![image],
    }
}

/// A folder for what root writes.
struct Folder(Option<TempDir>);

impl Folder {
    fn new() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }

    /// A path below it, as text.
    fn join(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let dir: PathBuf = self.0.take().unwrap().keep();
        let _ = root("rm").arg("-rf").arg(dir).status();
    }
}

/// A daemon of a client. It ends with the test, even if that is killed.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start<'a>(log: &Path, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let file = std::fs::File::create(log).unwrap();
        let child = root("setpriv")
            .args(["--pdeathsig", "TERM", "--", program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    /// Waits until a client's command succeeds.
    fn until(mut self, ready: impl Fn() -> Outcome) -> Self {
        eventually("the client's daemon answers", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{status}:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
            }
            ready().success
        });
        self
    }

    fn signal(&self, signal: &str) {
        let _ = root("kill").args([signal, &self.child.id().to_string()]).status();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal("-TERM");
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > Duration::from_secs(20) {
                self.signal("-KILL");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let from = log.lines().count().saturating_sub(40);
            eprintln!("--- end of the log of the client's daemon");
            log.lines().skip(from).for_each(|line| eprintln!("{line}"));
        }
    }
}
