//! The state folder as a whole: who uses it, and which format it has.
//!
//! ```text
//! STATE_DIR/lock      locked by the process that uses the folder; says which one
//! STATE_DIR/version   the format of everything else in the folder, a number
//! ```
//! A folder of an older format is brought forward step by step before anything else is opened, one of a newer format is
//! refused and left alone. Each step can be done twice: the number is written when it is done, and a process that died in
//! between begins with it again.

use crate::index::{self, IndexError};
use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The format that this version reads and writes.
pub const FORMAT: usize = 1;

/// Changes the folder; twice is the same as once.
type Step = fn(&Path) -> Result<(), StateError>;

/// What leads from the format of each number to the next.
const STEPS: [Step; FORMAT] = [
    // Folders before there was a number; their index does not know the names of an image.
    |dir| Ok(index::migrate(&dir.join(INDEX))?),
];

/// The name of the index in the folder.
pub(super) const INDEX: &str = "index.redb";
const LOCK: &str = "lock";
const VERSION: &str = "version";

/// How long it is waited for whoever has the folder: one who only reads it lets go of it soon.
const READERS_LAST: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(20);

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it.
    #[error("STATE_DIR={dir:?} is in use by another forge-registry{}: each needs its own STATE_DIR",
        .process.map(|id| format!(" (process {id})")).unwrap_or_default())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The process, if it has said which it is.
        process: Option<u32>,
    },
    /// A newer version of this program has written it.
    #[error(
        "STATE_DIR={dir:?} has format {found}, and forge-registry {} knows formats up to {}: start the newer version that \
         wrote it again, or set STATE_DIR to another folder; everything in it can be made again",
        env!("CARGO_PKG_VERSION"), FORMAT
    )]
    Newer {
        /// The folder.
        dir: PathBuf,
        /// The format that it states.
        found: usize,
    },
    /// It does not say which format it has.
    #[error(
        "STATE_DIR: {path:?} is no number of a format: delete STATE_DIR, or set it to another folder; everything in it \
             can be made again"
    )]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// Nothing can be read from its index.
    #[error("STATE_DIR: {path:?} cannot be used ({reason}); the registry makes it again when it starts")]
    Unusable {
        /// The index.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is none.
    #[error("there is no state in STATE_DIR={0:?}: no registry has served anything from there")]
    Missing(PathBuf),
    /// A folder in it cannot be made or read.
    #[error("STATE_DIR: {path:?}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The index cannot be opened.
    #[error("STATE_DIR: {0}")]
    Index(#[from] IndexError),
}

impl StateError {
    /// Whether this version can do nothing with the folder, now or later.
    pub fn is_of_another_version(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Version { .. } | Self::Index(IndexError::Newer { .. }))
    }
}

/// The folder, for as long as this process has it for itself.
#[derive(Debug)]
pub(super) struct State {
    _lock: File,
}

impl State {
    /// Takes possession of the folder, which is made if need be, and brings it to the current format.
    pub(super) fn open(dir: &Path) -> Result<Self, StateError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| StateError::Folder { path, error }
        };
        // Images can be private.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let path = dir.join(LOCK);
        let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let mut lock = options.open(&path).map_err(failed(&path))?;
        let since = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() < READERS_LAST => {
                    thread::sleep(AGAIN);
                }
                Err(TryLockError::WouldBlock) => return Err(in_use(dir, &mut lock)),
                Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
            }
        }
        // For the message of whoever comes second; without it, the message only says less.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        migrate(dir)?;
        Ok(Self { _lock: lock })
    }

    /// Keeps others from changing the folder, which is not changed either. Nothing is held if nobody has ever used it.
    pub(super) fn share(dir: &Path) -> Result<Option<File>, StateError> {
        let path = dir.join(LOCK);
        let mut lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::Folder { path, error }),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Err(in_use(dir, &mut lock)),
            Err(TryLockError::Error(error)) => Err(StateError::Folder { path, error }),
        }
    }
}

fn in_use(dir: &Path, lock: &mut File) -> StateError {
    let mut text = String::new();
    let _ = lock.take(64).read_to_string(&mut text);
    StateError::InUse { dir: dir.into(), process: text.trim().parse().ok() }
}

/// The format that a folder has; refuses one that is newer than this version.
///
/// # Errors
/// It is newer, or the file that has the number cannot be read.
pub fn format(dir: &Path) -> Result<usize, StateError> {
    let path = dir.join(VERSION);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(found @ ..=FORMAT) => Ok(found),
            Ok(found) => Err(StateError::Newer { dir: dir.into(), found }),
            Err(_) => Err(StateError::Version { path }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Without an index there is nothing to bring forward.
            Ok(if dir.join(INDEX).exists() { 0 } else { FORMAT })
        }
        Err(error) => Err(StateError::Folder { path, error }),
    }
}

fn migrate(dir: &Path) -> Result<(), StateError> {
    let found = format(dir)?;
    for (number, step) in STEPS.iter().enumerate().skip(found) {
        step(dir)?;
        write(dir, number + 1)?;
        tracing::info!("the state folder was brought from format {number} to {}", number + 1);
    }
    if !dir.join(VERSION).exists() {
        write(dir, FORMAT)?;
    }
    Ok(())
}

/// Replaces the number at once.
fn write(dir: &Path, number: usize) -> Result<(), StateError> {
    let (path, new): (PathBuf, PathBuf) = (dir.join(VERSION), dir.join(".version"));
    let replace = || -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        writeln!(file, "{number}")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    replace().map_err(|error| StateError::Folder { path: path.clone(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        index::{ImageId, Index},
        nix::StoreDir,
        oci::RepositoryName,
        registry::Snapshot,
    };
    use std::collections::HashSet;

    /// The index of a folder without a number, with three names and four images in it.
    fn former(dir: &Path) {
        let packed = include_bytes!("../../tests/fixtures/index-3.redb.zst");
        fs::write(dir.join(INDEX), zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
    }

    fn names(index: &Index) -> Vec<(ImageId, Vec<RepositoryName>)> {
        let images = index.usage().unwrap().into_iter();
        images.map(|(id, _)| (id, index.names(&id).unwrap())).collect()
    }

    fn is_whole(dir: &Path) {
        assert_eq!(fs::read_to_string(dir.join(VERSION)).unwrap(), format!("{FORMAT}\n"));
        let opened = index::open(&dir.join(INDEX)).unwrap();
        assert_eq!(opened.moved_aside, None);
        let index = opened.index;
        let repositories = index.repositories().unwrap();
        let expected: Vec<RepositoryName> =
            ["greet", "hello", "hello-plain"].map(|name| format!("packages/{name}").parse().unwrap()).into();
        assert_eq!(repositories, expected);
        let names = names(&index);
        assert_eq!(names.len(), 4);
        for repository in &repositories {
            let of: HashSet<ImageId> = index.members(repository).unwrap().into_iter().collect();
            let back: HashSet<ImageId> =
                names.iter().filter(|(_, names)| names.contains(repository)).map(|(id, _)| *id).collect();
            assert!(!of.is_empty() && of == back, "{repository}");
        }
    }

    #[test]
    fn a_folder_of_before_there_were_formats_is_brought_forward() {
        let dir = tempfile::tempdir().unwrap();
        former(dir.path());
        drop(State::open(dir.path()).unwrap());
        is_whole(dir.path());
        // As after a crash between the step and the number.
        fs::remove_file(dir.path().join(VERSION)).unwrap();
        drop(State::open(dir.path()).unwrap());
        is_whole(dir.path());
    }

    #[test]
    fn a_new_folder_has_the_current_format_and_a_newer_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        drop(State::open(&state).unwrap());
        assert_eq!(fs::read_to_string(state.join(VERSION)).unwrap(), format!("{FORMAT}\n"));
        fs::write(state.join(VERSION), "7\n").unwrap();
        let error = State::open(&state).unwrap_err().to_string();
        for part in [state.to_str().unwrap(), "format 7", &format!("up to {FORMAT}"), "newer"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert_eq!(fs::read_to_string(state.join(VERSION)).unwrap(), "7\n");
        for damage in ["", "one", "-1"] {
            fs::write(state.join(VERSION), damage).unwrap();
            assert!(matches!(State::open(&state), Err(StateError::Version { .. })), "{damage:?}");
        }
    }

    #[test]
    fn a_folder_has_one_user_at_a_time_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path()).unwrap();
        let own = std::process::id();
        for error in [State::open(dir.path()).unwrap_err(), State::share(dir.path()).unwrap_err()] {
            assert!(matches!(error, StateError::InUse { process: Some(id), .. } if id == own), "{error}");
        }
        drop(first);
        let readers = [State::share(dir.path()).unwrap(), State::share(dir.path()).unwrap()];
        let read = thread::spawn(move || {
            thread::sleep(5 * AGAIN);
            drop(readers);
        });
        State::open(dir.path()).expect("readers are waited for");
        read.join().unwrap();
    }

    #[test]
    fn a_registry_can_start_while_what_is_in_its_folder_is_looked_at() {
        let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        former(dir.path());
        drop(State::open(dir.path()).unwrap());
        let store = StoreDir::new(Path::new("/nix/store"));
        let snapshot = Snapshot::open(dir.path(), store, scratch.path()).unwrap();
        let state = State::open(dir.path()).expect("nobody has it");
        assert_eq!(snapshot.images().unwrap().len(), 5);
        drop(state);
    }
}
