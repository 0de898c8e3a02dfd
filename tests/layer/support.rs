//! Layers, and the reference.

use crate::reference::{go, hex, python};
use forge_registry::{
    blob::{Blob, Buffers, Sight, VirtualTar},
    budget::Budget,
    layer::{self, Contents, EntryList, Item, Owner, StorePaths, Style, What, Writer},
    oci::Digest,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

pub fn style() -> Style {
    Style { mtime: 1, owner: Owner::root(), writer: Writer::Python }
}

/// These paths, as newer nixpkgs puts them into a layer.
pub fn store(paths: &[PathBuf]) -> StorePaths<'_> {
    StorePaths { paths, root_mode: 0o755 }
}

/// A layer that was made from these paths, with its entry list in a file.
pub struct Layer {
    pub digest: Digest,
    pub size: u64,
    pub list: PathBuf,
    pub failures: Arc<AtomicUsize>,
}

impl Layer {
    pub fn make(style: &Style, contents: &dyn Contents, list: PathBuf) -> Self {
        let made = layer::make(style, contents, &Budget::default(), usize::MAX, File::create(&list).unwrap())
            .unwrap();
        Self { digest: made.digest, size: made.size, list, failures: Arc::default() }
    }

    pub fn blob(&self) -> Blob {
        self.blob_with(Buffers::for_chunks(64 << 20))
    }

    pub fn blob_with(&self, buffers: Arc<Buffers>) -> Blob {
        let list = EntryList::open(File::open(&self.list).unwrap()).unwrap();
        assert_eq!((list.digest(), list.size()), (self.digest, self.size));
        let failures = self.failures.clone();
        let count = move |_: &io::Error| {
            failures.fetch_add(1, Ordering::SeqCst);
        };
        Blob::virtual_tar(VirtualTar::new(list, buffers, count))
    }

    pub fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        read(&self.blob(), range)
    }
}

pub fn read(blob: &Blob, range: Range<u64>) -> io::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bytes = runtime.block_on(async { blob.body(range, Sight::Kernel).collect().await });
    bytes.map(|bytes| bytes.to_bytes().to_vec())
}

/// One layer of Python's.
pub fn reference_layer(style: &Style, contents: &StorePaths<'_>) -> Vec<u8> {
    let (style, mode) = (serde_json::to_string(style).unwrap(), format!("{:o}", contents.root_mode));
    let mut arguments = vec!["layer".as_ref(), style.as_ref(), mode.as_ref()];
    arguments.extend(contents.paths.iter().map(|path| path.as_os_str()));
    python(&arguments)
}

/// The same items as a reference writes them.
pub fn reference_items(style: &Style, items: &[Item]) -> Vec<u8> {
    let items: Vec<Value> = items
        .iter()
        .map(|item| {
            let (kind, mode, data, path) = match &item.what {
                What::Folder => ("folder", 0o755, vec![], None),
                What::Link(target) => ("link", 0o777, target.clone(), None),
                What::Inline(bytes) => ("file", 0o644, bytes.clone(), None),
                What::OnDisk(found) => {
                    let (kind, data, path) = match found.metadata.file_type() {
                        t if t.is_dir() => ("folder", vec![], None),
                        t if t.is_symlink() => {
                            ("link", fs::read_link(&found.path).unwrap().into_os_string().into_vec(), None)
                        }
                        _ => ("file", vec![], Some(found.path.as_os_str().as_bytes())),
                    };
                    (kind, found.metadata.mode() & 0o7777, data, path)
                }
            };
            json!({
                "name": hex(&item.name),
                "type": kind,
                "mode": item.mode.unwrap_or(mode),
                "data": hex(&data),
                "path": hex(path.unwrap_or_default()),
                "owner": item.owner.as_deref(),
            })
        })
        .collect();
    if style.writer == Writer::Go {
        return go("items", &json!({ "mtime": style.mtime, "owner": style.owner, "items": items }));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), Value::from(items).to_string()).unwrap();
    let style = serde_json::to_string(style).unwrap();
    python(&["items".as_ref(), style.as_ref(), file.path().as_os_str()])
}

/// An entry list's size on the disk.
pub fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}
