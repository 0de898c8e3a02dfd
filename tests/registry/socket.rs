//! A socket in front of nix-daemon's or the evaluator's: for faults that those cannot be made to show, and for counting.

use crate::support::{PATIENCE, testbed};
use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::symlink,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tempfile::TempDir;

/// What a fake evaluator answers: the value, under the key that the expression asks for.
pub fn answer(expression: &str, value: &str) -> String {
    let key = expression.trim_start_matches(['{', ' ']).split(' ').next().unwrap();
    assert!(key.starts_with("forgeRegistry-"), "{expression}");
    format!("{{\"{key}\":{value}}}")
}

/// A socket whose place a real one can take.
pub struct Socket {
    dir: TempDir,
    real: String,
}

impl Socket {
    /// In front of the socket that the testbed has in `variable`.
    pub fn of(variable: &str) -> Self {
        Self::before(&testbed(variable))
    }

    /// In front of this one.
    pub fn before(real: &str) -> Self {
        let socket = Self { dir: tempfile::tempdir().unwrap(), real: real.into() };
        socket.restore();
        socket
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn point_at(&self, target: &Path) {
        let new = self.dir.path().join("new");
        symlink(target, &new).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    /// From now on it leads to the real one.
    pub fn restore(&self) {
        self.point_at(Path::new(&self.real));
    }

    /// From now on every connection is given to `serve`.
    pub fn serve(
        &self,
        name: &str,
        serve: impl Fn(UnixStream) -> io::Result<()> + Send + Sync + Clone + 'static,
    ) {
        let path = self.dir.path().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        self.point_at(&path);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let serve = serve.clone();
                thread::spawn(move || serve(stream.unwrap()));
            }
        });
    }

    /// From now on connections lead to the real one, and what it says comes through `change`.
    pub fn proxy(
        &self,
        name: &str,
        change: impl Fn(&mut Vec<u8>, u64) -> bool + Send + Sync + Clone + 'static,
    ) {
        let real = self.real.clone();
        self.serve(name, move |client| {
            let daemon = UnixStream::connect(&real)?;
            let (mut from_client, mut to_daemon) = (client.try_clone()?, daemon.try_clone()?);
            thread::spawn(move || {
                let _ = io::copy(&mut from_client, &mut to_daemon);
                to_daemon.shutdown(Shutdown::Write)
            });
            let (mut from_daemon, mut to_client) = (daemon.try_clone()?, client.try_clone()?);
            let (mut chunk, mut passed) = (vec![0; 4096], 0);
            loop {
                let length = from_daemon.read(&mut chunk)?;
                let mut bytes = chunk[..length].to_vec();
                let goes_on = length > 0 && change(&mut bytes, passed);
                passed += length as u64;
                to_client.write_all(&bytes)?;
                if !goes_on {
                    client.shutdown(Shutdown::Both)?;
                    return daemon.shutdown(Shutdown::Both);
                }
            }
        });
    }

    /// From now on connections lead to the real one, and are counted.
    pub fn counted(&self, name: &str) -> Arc<Connections> {
        let (counted, real) = (Arc::new(Connections::default()), self.real.clone());
        let connections = counted.clone();
        self.serve(name, move |mut client| {
            connections.opened();
            let mut daemon = UnixStream::connect(&real)?;
            let (mut from_daemon, mut to_client) = (daemon.try_clone()?, client.try_clone()?);
            thread::spawn(move || {
                let _ = io::copy(&mut from_daemon, &mut to_client);
                to_client.shutdown(Shutdown::Both)
            });
            let copied = io::copy(&mut client, &mut daemon);
            connections.open.fetch_sub(1, Ordering::SeqCst);
            daemon.shutdown(Shutdown::Write)?;
            copied.map(drop)
        });
        counted
    }

    /// From now on connections lead to the real one, but for those whose first operation is the one of this number:
    /// these are never answered.
    pub fn silent_on(&self, name: &str, operation: u64) {
        let real = self.real.clone();
        self.serve(name, move |mut client| {
            let mut daemon = UnixStream::connect(&real)?;
            let (mut from_daemon, mut to_client) = (daemon.try_clone()?, client.try_clone()?);
            thread::spawn(move || io::copy(&mut from_daemon, &mut to_client));
            // Before it come the magic number, the version, and two numbers that have no meaning any more.
            let mut word = [0; 8];
            for _ in 0..4 {
                client.read_exact(&mut word)?;
                daemon.write_all(&word)?;
            }
            client.read_exact(&mut word)?;
            if u64::from_le_bytes(word) == operation {
                return never_answers(client);
            }
            daemon.write_all(&word)?;
            io::copy(&mut client, &mut daemon)?;
            daemon.shutdown(Shutdown::Both)
        });
    }
}

/// Silent, also once the other side has said all that it has to say.
pub fn never_answers(mut stream: UnixStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink())?;
    thread::sleep(PATIENCE);
    Ok(())
}

/// How many connections there are, and were.
#[derive(Default)]
pub struct Connections {
    open: AtomicUsize,
    pub most: AtomicUsize,
    pub all: AtomicUsize,
}

impl Connections {
    fn opened(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(self.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    }
}
