//! Layers, and the reference.

use forge_registry::{
    blob::{Blob, VirtualTar},
    layer::{self, DeviceFields, EntryList, Style},
    oci::Digest,
};
use http_body_util::BodyExt;
use std::{
    fs::{self, File},
    io,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

pub fn style() -> Style {
    Style {
        mtime: 1,
        uid: 0,
        gid: 0,
        uname: "root".into(),
        gname: "root".into(),
        root_mode: 0o755,
        devices: DeviceFields::Empty,
    }
}

/// A layer that was made from these paths, with its entry list in a file.
pub struct Layer {
    pub digest: Digest,
    pub size: u64,
    pub list: PathBuf,
    pub failures: Arc<AtomicUsize>,
}

impl Layer {
    pub fn make(style: &Style, paths: &[PathBuf], list: PathBuf) -> Self {
        let made = layer::make(style, paths, File::create(&list).unwrap()).unwrap();
        Self { digest: made.digest, size: made.size, list, failures: Arc::default() }
    }

    pub fn blob(&self) -> Blob {
        let list = EntryList::open(File::open(&self.list).unwrap()).unwrap();
        assert_eq!((list.digest(), list.size()), (self.digest, self.size));
        let failures = self.failures.clone();
        let count = move |_: &io::Error| {
            failures.fetch_add(1, Ordering::SeqCst);
        };
        Blob::virtual_tar(VirtualTar::new(list, count))
    }

    pub fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        read(&self.blob(), range)
    }
}

pub fn read(blob: &Blob, range: Range<u64>) -> io::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bytes = runtime.block_on(async { blob.body(range).collect().await });
    bytes.map(|bytes| bytes.to_bytes().to_vec())
}

/// What the reference says.
pub fn reference(arguments: &[&std::ffi::OsStr]) -> Vec<u8> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/stream.py");
    let output = Command::new("python3").arg(script).args(arguments).env("PYTHONUTF8", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// One layer of the reference.
pub fn reference_layer(style: &Style, paths: &[PathBuf]) -> Vec<u8> {
    let style = serde_json::to_string(style).unwrap();
    let mut arguments = vec!["layer".as_ref(), style.as_ref()];
    arguments.extend(paths.iter().map(|path| path.as_os_str()));
    reference(&arguments)
}

/// An entry list's size on the disk.
pub fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}
