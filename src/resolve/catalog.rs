//! Names that mean entries of a catalog file: a host can serve a fixed set of images with no evaluator at all.
//!
//! ```json
//! {
//!   "hello": { "drvPath": "/nix/store/…-hello.tar.gz.drv", "output": "out" },
//!   "shop/web": { "outPath": "/nix/store/…-containers", "image": "web" }
//! }
//! ```

use super::Resolution;
use crate::{
    image::Selection,
    metrics::CatalogState,
    nix::{Buildable, StoreDir, StorePath, StorePathError, Wanted},
    oci::{NameError, RepositoryName},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::SystemTime,
};
use tokio::{sync::Mutex, task::spawn_blocking};

/// Bytes of a catalog file.
const MAX_SIZE: u64 = 64 << 20;

/// A catalog file, read again when it changes.
#[derive(Debug)]
pub struct Catalog {
    path: PathBuf,
    store: StoreDir,
    current: Mutex<(Option<Stamp>, Arc<Entries>)>,
    /// Apart, so that nobody who only looks has to wait while the file is being read.
    state: std::sync::Mutex<CatalogState>,
}

type Entries = BTreeMap<RepositoryName, Resolution>;
/// Modification time, inode and length: an atomically replaced file differs in the second.
type Stamp = (std::time::SystemTime, u64, u64);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    drv_path: Option<String>,
    out_path: Option<String>,
    output: Option<String>,
    image: Option<String>,
}

/// A catalog file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It cannot be read.
    #[error("{path:?}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// It is longer than 64 MiB.
    #[error("{0:?} is longer than {MAX_SIZE} bytes")]
    TooLong(PathBuf),
    /// It is not JSON of the right shape.
    #[error("{path:?}: {error}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The reason, with line and column.
        error: serde_json::Error,
    },
    /// A name is not a repository name.
    #[error("{path:?}: {error}")]
    Name {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: NameError,
    },
    /// A store path is none.
    #[error("{path:?}: entry {name}: {error}")]
    StorePath {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: RepositoryName,
        /// The reason.
        error: StorePathError,
    },
    /// A string of an entry is not what has to stand there.
    #[error("{path:?}: entry {name}: \"{field}\" is {value:?}, which is not {expected}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: RepositoryName,
        /// The field.
        field: &'static str,
        /// What stands there, perhaps cut.
        value: String,
        /// What has to.
        expected: &'static str,
    },
    /// An entry has neither path.
    #[error("{path:?}: entry {name} has neither \"drvPath\" nor \"outPath\"")]
    NoPath {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: RepositoryName,
    },
}

impl Catalog {
    /// Reads the catalog at `path`. An error here stops the start; a later one leaves the last good catalog in use.
    pub fn open(path: &Path, store: StoreDir) -> Result<Self, CatalogError> {
        let stamp = stamp(path);
        let entries = read(path, &store)?;
        let state = std::sync::Mutex::new(read_now(&entries));
        Ok(Self { path: path.into(), store, current: Mutex::new((stamp, Arc::new(entries))), state })
    }

    /// What is in use, as far as it has been looked at.
    pub fn state(&self) -> CatalogState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<E>(&self, read: &Result<Entries, E>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(entries) => *state = read_now(entries),
            Err(_) => state.is_current = false,
        }
    }

    /// What an entry means.
    pub async fn get(&self, name: &RepositoryName) -> Option<Resolution> {
        self.entries().await.get(name).cloned()
    }

    /// All names, sorted.
    pub async fn names(&self) -> Vec<RepositoryName> {
        self.entries().await.keys().cloned().collect()
    }

    /// Reads the file again, whether it seems to have changed or not; the number of entries. An error leaves the last
    /// good catalog in use.
    pub async fn reload(&self) -> Result<usize, CatalogError> {
        let mut current = self.current.lock().await;
        let (path, store) = (self.path.clone(), self.store.clone());
        let again = spawn_blocking(move || (stamp(&path), read(&path, &store))).await;
        let (stamp, entries) = again.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        self.note(&entries);
        *current = (stamp, Arc::new(entries?));
        Ok(current.1.len())
    }

    /// The entries as they are now. Whoever asks while a changed file is being read waits for that.
    async fn entries(&self) -> Arc<Entries> {
        let mut current = self.current.lock().await;
        let (path, store, known) = (self.path.clone(), self.store.clone(), current.0);
        // The file can be large, and its disk slow.
        let changed = spawn_blocking(move || {
            let stamp = stamp(&path);
            (stamp != known).then(|| (stamp, read(&path, &store)))
        });
        let changed = changed.await;
        if let Ok(Some((_, read))) = &changed {
            self.note(read);
        }
        match changed {
            Ok(None) => {}
            Ok(Some((stamp, Ok(entries)))) => {
                tracing::info!(catalog = %self.path.display(), entries = entries.len(), "read the catalog again");
                *current = (stamp, Arc::new(entries));
            }
            Ok(Some((stamp, Err(error)))) => {
                tracing::error!(%error, "the catalog changed and is unusable; the last good one stays");
                current.0 = stamp;
            }
            Err(panic) => tracing::error!(%panic, "the catalog cannot be read; the last good one stays"),
        }
        current.1.clone()
    }
}

fn read_now(entries: &Entries) -> CatalogState {
    CatalogState { entries: entries.len(), read_at: SystemTime::now(), is_current: true }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
}

fn read(path: &Path, store: &StoreDir) -> Result<Entries, CatalogError> {
    let io_error = |error| CatalogError::Io { path: path.into(), error };
    let mut text = Vec::new();
    fs::File::open(path).map_err(io_error)?.take(MAX_SIZE + 1).read_to_end(&mut text).map_err(io_error)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(CatalogError::TooLong(path.into()));
    }
    let raw: BTreeMap<String, Entry> =
        serde_json::from_slice(&text).map_err(|error| CatalogError::Json { path: path.into(), error })?;
    let mut entries = Entries::new();
    for (name, entry) in raw {
        let name: RepositoryName =
            name.parse().map_err(|error| CatalogError::Name { path: path.into(), error })?;
        let parse = |text: String| -> Result<StorePath, CatalogError> {
            store.parse(&text).map_err(|error| CatalogError::StorePath {
                path: path.into(),
                name: name.clone(),
                error,
            })
        };
        let check = |field, value: Option<String>, expected, is_right: fn(&str) -> bool| match value {
            Some(value) if !is_right(&value) => Err(CatalogError::Field {
                path: path.into(),
                name: name.clone(),
                field,
                value: value.chars().take(300).collect(),
                expected,
            }),
            value => Ok(value),
        };
        let drv_path =
            check("drvPath", entry.drv_path, "a derivation: NAME.drv", |path| path.ends_with(".drv"))?;
        let output = check("output", entry.output, "the name of an output", is_output_name)?;
        let image = check("image", entry.image, "the name of an image in a folder", is_member_name)?;
        let derivation = drv_path.map(parse).transpose()?;
        let expected = entry.out_path.map(parse).transpose()?;
        let buildable = match (derivation, &expected) {
            (Some(derivation), _) => {
                Buildable::Output { derivation, output: output.unwrap_or_else(|| "out".into()) }
            }
            (None, Some(path)) => Buildable::Path(path.clone()),
            (None, None) => return Err(CatalogError::NoPath { path: path.into(), name }),
        };
        let resolution = Resolution {
            wanted: vec![Wanted { buildable, expected }],
            selection: image.map_or(Selection::Only, Selection::Member),
            hint: None,
            tags: Vec::new(),
            origin: path.display().to_string(),
            revision: None,
            age: std::time::Duration::ZERO,
        };
        entries.insert(name, resolution);
    }
    Ok(entries)
}

/// Whether a derivation can have an output of this name: it is part of a store path's name. (Nix manual, "Store Path".)
fn is_output_name(name: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"+._?=-".contains(&b);
    (1..=211).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(byte)
}

/// Whether something in a folder can have this name.
fn is_member_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.contains(['/', '\0']) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRV: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello.tar.gz.drv";

    fn read_text(text: &str) -> Result<Entries, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.json");
        fs::write(&path, text).unwrap();
        read(&path, &StoreDir::new("/nix/store")).map_err(|e| e.to_string())
    }

    #[test]
    fn entries_name_a_derivation_or_a_path() {
        let entries = read_text(&format!(
            r#"{{"a": {{"drvPath": "{DRV}", "output": "img"}}, "b/c": {{"outPath": "{DRV}", "image": "web"}}}}"#
        ))
        .unwrap();
        let a = &entries[&"a".parse::<RepositoryName>().unwrap()];
        assert!(matches!(&a.wanted[0].buildable, Buildable::Output { output, .. } if output == "img"));
        let b = &entries[&"b/c".parse::<RepositoryName>().unwrap()];
        assert_eq!(b.selection, Selection::Member("web".into()));
        assert!(matches!(&b.wanted[0].buildable, Buildable::Path(_)));
    }

    #[test]
    fn an_unusable_catalog_says_where_and_why() {
        for (text, part) in [
            ("{", "line 1"),
            (r#"{"a": {}}"#, "neither"),
            (r#"{"a": {"outPath": "/etc/passwd"}}"#, "not in the Nix store"),
            (r#"{"../a": {"outPath": "x"}}"#, "cannot stand in a repository name"),
            (r#"{"a": {"path": "x"}}"#, "unknown field"),
            (r#"{"a": {"drvPath": "DRV", "output": "../../x"}}"#, r#"entry a: "output" is "../../x""#),
            (r#"{"a": {"drvPath": "DRV", "output": ""}}"#, r#""output" is """#),
            (r#"{"a": {"drvPath": "DRV", "output": "out,dev"}}"#, r#""output" is "out,dev""#),
            (r#"{"a": {"drvPath": "DRV", "output": "a\nb"}}"#, r#""output" is "a\nb""#),
            (r#"{"a": {"drvPath": "DRV/../x.drv"}}"#, "hello.tar.gz.drv/../x.drv"),
            (r#"{"a": {"drvPath": "DRV.chroot"}}"#, r#".drv.chroot", which is not a derivation"#),
            (r#"{"a": {"outPath": "/nix/store/../etc"}}"#, r#""/nix/store/../etc" is not in the Nix store"#),
            (r#"{"a": {"outPath": "DRV", "image": "../../x"}}"#, r#""image" is "../../x""#),
            (r#"{"a": {"outPath": "DRV", "image": ".."}}"#, r#""image" is "..""#),
            (r#"{"a\nb": {"outPath": "DRV"}}"#, "cannot stand in a repository name"),
        ] {
            let error = read_text(&text.replace("DRV", DRV)).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_changed_catalog_is_read_again_and_a_broken_one_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.json");
        fs::write(&path, "{}").unwrap();
        let catalog = Catalog::open(&path, StoreDir::new("/nix/store")).unwrap();
        assert!(catalog.names().await.is_empty());
        fs::write(&path, format!(r#"{{"a": {{"drvPath": "{DRV}"}}}}"#)).unwrap();
        assert_eq!(catalog.names().await.len(), 1);
        assert!(catalog.state().is_current);
        fs::write(&path, "{broken").unwrap();
        assert_eq!(catalog.names().await.len(), 1);
        let state = catalog.state();
        assert_eq!((state.entries, state.is_current), (1, false));
    }
}
