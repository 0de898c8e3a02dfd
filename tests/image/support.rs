//! A pretended store, and writers of archives.

use forge_registry::{
    blob::{Blob, BlobBody, Buffers, Cache, Sight, Source, VirtualTar},
    image::{self, Image, ImageBlob, ImageError, Limits, Options, Reachable, Reader, Resources, Selection},
    layer::EntryList,
    nix::{StoreDir, StorePath},
    oci::{Digest, Manifest, media_type},
};
use std::{
    fs::{self, File},
    io::{Read, Write},
    num::NonZeroUsize,
    os::unix::fs::{FileExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

/// All that a body yields.
pub fn body(body: BlobBody) -> std::io::Result<Vec<u8>> {
    use http_body_util::BodyExt;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(body.collect()).map(|bytes| bytes.to_bytes().to_vec())
}

/// A store, a cache, and what reads from one into the other.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub store: StoreDir,
    pub reader: Resources,
    /// What everything in the store refers to; if nothing is said of it, to everything.
    pub closure: Option<Vec<StorePath>>,
}

impl Host {
    pub fn new() -> Self {
        Self::with_cache(1 << 30)
    }

    pub fn with_cache(max_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        fs::create_dir(&store).unwrap();
        let cache = Arc::new(Cache::open(dir.path().join("blobs"), max_bytes, "CACHE_MAX_BYTES").unwrap());
        let lists = Arc::new(Cache::open(dir.path().join("layers"), 1 << 30, "LAYERS_MAX_BYTES").unwrap());
        let threads = NonZeroUsize::new(2).unwrap();
        let reader = Resources { cache, lists, limits: Limits::default(), threads };
        Self { dir, store: StoreDir::new(store), reader, closure: None }
    }

    /// What reads an object.
    pub fn reader(&self, object: &StorePath) -> Reader {
        let (store, closure) = (self.store.clone(), self.closure.clone());
        let ask = move |_: &[StorePath]| {
            let all = fs::read_dir(store.as_path()).unwrap().map(|entry| entry.unwrap().file_name());
            let all = all.filter_map(|name| StorePath::from_base_name(name.to_str()?).ok());
            // To name what was collected is another error.
            let all = all.chain([super::support::object("gone")]);
            Ok(closure.clone().map_or_else(|| all.collect(), |closure| closure.into_iter().collect()))
        };
        let reachable = Reachable::new(self.store.clone(), vec![object.clone()], ask);
        Reader::new(self.reader.clone(), reachable, Arc::default())
    }

    /// The path of a store object with this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.store.join(&object(name))
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> StorePath {
        fs::write(self.path(name), bytes).unwrap();
        object(name)
    }

    /// A folder of files, links (`-> target`) and folders (a name that ends in `/`).
    pub fn folder(&self, name: &str, entries: &[(&str, &[u8])]) -> StorePath {
        for (entry, bytes) in entries {
            let path = self.path(name).join(entry);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match bytes.strip_prefix(b"-> ") {
                _ if entry.ends_with('/') => fs::create_dir_all(path).unwrap(),
                Some(target) => symlink(Path::new(std::str::from_utf8(target).unwrap()), path).unwrap(),
                None => fs::write(path, bytes).unwrap(),
            }
        }
        fs::create_dir_all(self.path(name)).unwrap();
        object(name)
    }

    pub fn read(&self, object: &StorePath) -> Result<Image, ImageError> {
        image::read(&self.reader(object), object, &Selection::Only, &Options::default())
    }

    pub fn member(&self, object: &StorePath, name: &str) -> Result<Image, ImageError> {
        image::read(&self.reader(object), object, &Selection::Member(name.into()), &Options::default())
    }

    /// Puts a blob into the cache again.
    pub fn recreate(&self, object: &StorePath, digest: Digest, size: u64) -> Result<(), ImageError> {
        image::recreate(&self.reader(object), object, &Selection::Only, digest, size)
    }

    /// Reads a file that must be refused, without leaving anything behind, and returns what is said about it.
    pub fn refused(&self, bytes: &[u8]) -> String {
        let object = self.file("hostile", bytes);
        let error = self.read(&object).unwrap_err();
        self.assert_cache_is_empty();
        let said = error.to_string();
        assert!(said.contains("hostile"), "the store path is not named: {said}");
        assert!(!matches!(error, ImageError::Io { .. }), "not the system's fault: {said}");
        said
    }

    pub fn assert_cache_is_empty(&self) {
        let left: Vec<_> = fs::read_dir(self.reader.cache.dir()).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        assert_eq!(self.reader.cache.total_bytes(), 0);
    }

    /// A blob's bytes, from wherever they are.
    pub fn bytes(&self, blob: &ImageBlob) -> Vec<u8> {
        let mut bytes = vec![0; blob.size as usize];
        match &blob.source {
            Source::Store { object, file, offset, .. } => {
                let path = match file.as_os_str().is_empty() {
                    true => self.store.join(object),
                    false => self.store.join(object).join(file),
                };
                File::open(path).unwrap().read_exact_at(&mut bytes, *offset).unwrap();
            }
            Source::Cache | Source::Compressed { .. } => {
                let mut file = self.reader.cache.open_blob(&blob.digest).unwrap().expect("in the cache");
                bytes.clear();
                file.read_to_end(&mut bytes).unwrap();
            }
            Source::Inline(inline) => bytes = inline.to_vec(),
            Source::Virtual { list } => {
                let file = self.reader.lists.open_blob(list).unwrap().expect("an entry list");
                let list = EntryList::open(file).unwrap();
                assert_eq!((list.digest(), list.size()), (blob.digest, blob.size));
                let tar = VirtualTar::new(list, Buffers::for_chunks(64 << 20), |error| panic!("{error}"));
                bytes = body(Blob::virtual_tar(tar).body(0..blob.size, Sight::Kernel)).unwrap();
            }
        }
        assert_eq!(Digest::of(&bytes), blob.digest);
        bytes
    }

    /// The layers' bytes and the ends of their media types, base first.
    pub fn layers(&self, image: &Image) -> Vec<(Vec<u8>, String)> {
        let manifest: Manifest = serde_json::from_slice(&image.oci.bytes).unwrap();
        let layers = manifest.layers.iter().map(|layer| {
            let blob = image.blobs.iter().find(|blob| blob.digest == layer.digest).unwrap();
            assert_eq!(blob.size, layer.size);
            (self.bytes(blob), layer.media_type.rsplit('.').next().unwrap().to_owned())
        });
        layers.collect()
    }
}

pub fn object(name: &str) -> StorePath {
    let digest = Digest::of(name.as_bytes()).hex().replace('e', "z");
    StorePath::from_base_name(&format!("{}-{name}", &digest[..32])).unwrap()
}

/// Writes tar archives, sane and insane ones.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn file(mut self, name: &str, bytes: &[u8]) -> Self {
        let mut header = header(tar::EntryType::Regular, bytes.len() as u64);
        // Sets names that the `tar` crate would refuse.
        if name.len() <= 100 && !name.is_empty() {
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            self.0.append(&header, bytes).unwrap();
        } else {
            self.0.append_data(&mut header, name, bytes).unwrap();
        }
        self
    }

    pub fn entry(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = header(kind, 0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, &[][..]).unwrap();
        self
    }

    pub fn raw(mut self, header: &tar::Header, bytes: &[u8]) -> Self {
        self.0.append(header, bytes).unwrap();
        self
    }

    pub fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// A layer with one file.
pub fn layer(text: &str) -> Vec<u8> {
    Tar::new().file("etc/text", text.as_bytes()).done()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn same(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

pub type Compress = fn(&[u8]) -> Vec<u8>;

/// Every way in which an archive can be compressed.
pub const COMPRESSIONS: [(&str, Compress); 4] = [("plain", same), ("gzip", gzip), ("zstd", zstd), ("xz", xz)];

/// Checks that an archive is refused in these words, however it is compressed.
pub fn refused_in_every_compression(archive: &[u8], expected: &[&str]) {
    for (name, compress) in COMPRESSIONS {
        let said = Host::new().refused(&compress(archive));
        for expected in expected {
            assert!(said.contains(expected), "{name}: {expected:?} is missing in: {said}");
        }
    }
}

/// A configuration with these diff IDs.
pub fn config(diff_ids: &[Digest]) -> Vec<u8> {
    let diff_ids: Vec<_> = diff_ids.iter().map(Digest::to_string).collect();
    serde_json::to_vec_pretty(&serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["/bin/hello"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))
    .unwrap()
}

pub fn manifest_json(config: &str, layers: &[&str]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!([
        { "Config": config, "RepoTags": ["hello:1.0"], "Layers": layers }
    ]))
    .unwrap()
}

/// The parts of a docker-archive whose layers are these tar archives, and the name of its configuration.
pub fn config_of(layers: &[Vec<u8>]) -> (String, Vec<u8>) {
    let config = config(&layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>());
    (format!("{}.json", Digest::of(&config).hex()), config)
}

/// A docker-archive as nixpkgs writes it: layers first, then the configuration and the manifest.
pub fn docker_archive(layers: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<_> = layers.iter().map(|layer| format!("{}/layer.tar", Digest::of(layer).hex())).collect();
    let (config_name, config) = config_of(layers);
    let mut tar = Tar::new();
    for (name, layer) in names.iter().zip(layers) {
        tar = tar.file(name, layer);
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    tar.file(&config_name, &config).file("manifest.json", &manifest_json(&config_name, &names)).done()
}

/// The files of an OCI layout, written blob by blob.
#[derive(Default, Clone)]
pub struct Layout {
    pub files: Vec<(String, Vec<u8>)>,
    pub index: Vec<serde_json::Value>,
}

impl Layout {
    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = Digest::of(bytes);
        self.files.push((format!("blobs/sha256/{}", digest.hex()), bytes.to_vec()));
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Adds a manifest of these layers: uncompressed bytes, as stored, and the media type.
    pub fn image(
        &mut self,
        architecture: &str,
        layers: &[(Vec<u8>, Vec<u8>, &str)],
        docker: bool,
    ) -> serde_json::Value {
        let diff_ids: Vec<_> = layers.iter().map(|(plain, _, _)| Digest::of(plain)).collect();
        let config = String::from_utf8(config(&diff_ids)).unwrap().replace("amd64", architecture);
        let types = match docker {
            true => [media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST],
            false => [media_type::OCI_CONFIG, media_type::OCI_MANIFEST],
        };
        let config = self.blob(types[0], config.as_bytes());
        let layers: Vec<_> = layers.iter().map(|(_, stored, kind)| self.blob(kind, stored)).collect();
        // Indented, so that nobody can mistake it for what the registry would have made of it.
        let manifest = serde_json::to_vec_pretty(&serde_json::json!({
            "schemaVersion": 2, "mediaType": types[1], "config": config, "layers": layers,
        }));
        self.blob(types[1], &manifest.unwrap())
    }

    pub fn index_blob(&mut self, manifests: &[serde_json::Value]) -> serde_json::Value {
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests,
        });
        self.blob(media_type::OCI_INDEX, &serde_json::to_vec_pretty(&index).unwrap())
    }

    /// All files, with an index of what has been put into `index`.
    pub fn done(&self) -> Vec<(String, Vec<u8>)> {
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": self.index });
        let mut files = self.files.clone();
        files.sort();
        files.dedup();
        files.push(("index.json".into(), serde_json::to_vec(&index).unwrap()));
        files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        files
    }

    pub fn archive(&self) -> Vec<u8> {
        self.done().iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes)).done()
    }

    pub fn folder(&self, host: &Host, name: &str) -> StorePath {
        let files = self.done();
        let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        host.folder(name, &files)
    }
}
