//! Files of the store that are layers as they are, beside computed ones: nixpkgs' customisation layer, and the `layer-path`
//! of nix2container. What is mounted over one, or written to it, never comes under the digest of what was there.

use crate::{
    bed::Bed,
    changing::{FILLER, Mount},
    support::{Flake, Registry, layers, sha256},
    wire::{Download, raw},
};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// The image's file of either format, `sum` being the layer's digest.
const FORMATS: [(&str, &str); 2] = [
    (
        "streamed",
        r#"{"architecture":"amd64","config":{},"created":"1970-01-01T00:00:01+00:00","store_dir":"STORE",
            "store_layers":[],"customisation_layer":"LAYER"}"#,
    ),
    (
        "nix2container",
        r#"{"version":1,"image-config":{},"arch":"amd64","created":"0001-01-01T00:00:00Z","layers":[{"size":0,
            "digest":"sha256:SUM","diff_ids":"sha256:SUM","layer-path":"LAYER/layer.tar","mediatype":"","History":{}}]}"#,
    ),
];

/// A registry that serves an image whose one layer is a file.
struct Site {
    registry: Registry,
    _flake: Flake,
    _bed: Bed,
    file: PathBuf,
    bytes: Vec<u8>,
    digest: String,
}

impl Site {
    fn new(json: &str) -> Self {
        let flake = Flake::new("");
        flake.write_text(&format!(
            r#"{{ outputs = _: let
                busybox = import <examples/busybox.nix>;
                run = name: script: derivation {{
                  inherit name;
                  json = ''{json}'';
                  system = "x86_64-linux";
                  builder = "${{busybox}}/busybox";
                  args = [ "sh" "-euc" "mkdir c; ${{busybox}}/busybox --install -s $PWD/c; PATH=$PWD/c; ${{script}}" ];
                }};
                layer = run "layer" ''
                  mkdir $out
                  head -c {FILLER} /dev/urandom >noise
                  tar -cf $out/layer.tar noise
                  sha256sum $out/layer.tar | cut -d ' ' -f 1 | tr -d '\n' >$out/checksum
                '';
                image = run "image.json" ''
                  sum=$(cat ${{layer}}/checksum)
                  echo "$json" | sed "s|STORE|${{builtins.storeDir}}|; s|LAYER|${{layer}}|; s|SUM|$sum|g" >$out
                '';
              in {{ packages.x86_64-linux.image = {{ type = "derivation"; inherit image; }}; }}; }}"#,
        ));
        let bed = Bed::up();
        let registry = bed.registry(&flake, &[("TAG_TTL", "1h"), ("FAILURE_TTL", "0")]);
        let manifest = registry.manifest("image", "latest");
        assert_eq!(manifest.status, 200, "{}", manifest.text());
        let digest = layers(&manifest).remove(0);
        let file = bed.store_path("-layer").unwrap().join("layer.tar");
        let bytes = fs::read(&file).unwrap();
        assert_eq!(sha256(&bytes), digest);
        Self { registry, _flake: flake, _bed: bed, file, bytes, digest }
    }

    fn path(&self) -> String {
        format!("/v2/image/blobs/{}", self.digest)
    }

    /// By a registry that knows nothing of what there was meanwhile.
    fn is_served_anew(&mut self) {
        self.registry.kill();
        fs::remove_dir_all(&self.registry.state).unwrap();
        self.registry.run();
        assert_eq!(layers(&self.registry.manifest("image", "latest")), [&*self.digest]);
        assert!(raw(&self.registry, &self.path()) == (200, self.bytes.clone()));
    }

    /// Neither at once nor when it is asked for again.
    fn is_not_served(&self, case: &str) {
        for _ in 0..2 {
            let (status, body) = raw(&self.registry, &self.path());
            assert!(matches!(status, 404 | 422), "{case}: {status}, {} bytes", body.len());
        }
        // Both formats state the digest, which is no longer that of the file.
        let message = self.registry.manifest("image", "latest").is_error(422, "MANIFEST_UNKNOWN");
        assert!(message.contains(&self.digest), "{case}: {message}");
    }
}

/// Other bytes at the end of a file, of which none is sent before the ones in front of them.
fn rewrite(file: &Path) {
    let end = fs::metadata(file).unwrap().len() - 4;
    File::options().write(true).open(file).unwrap().write_all_at(b"else", end).unwrap();
}

/// As it was, and still the same file.
fn restore(site: &Site) {
    let file = File::options().write(true).open(&site.file).unwrap();
    file.write_all_at(&site.bytes, 0).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
}

#[test]
fn what_is_written_to_or_mounted_over_a_file_of_a_layer_is_never_served_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    for (format, json) in FORMATS {
        let mut site = Site::new(json);
        let other = dir.path().join("other");
        fs::copy(&site.file, &other).unwrap();
        rewrite(&other);
        // Of the same length and time, as everything in the store is of that time.
        let writable = File::options().write(true).open(&other).unwrap();
        writable.set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        let file = site.file.clone();

        site.is_served_anew();
        rewrite(&file);
        site.is_not_served(&format!("{format}, written to"));
        restore(&site);

        site.is_served_anew();
        let mount = Mount::over(&file, &other);
        // As long as the file is open, it is still the one that was hashed.
        assert!(raw(&site.registry, &site.path()) == (200, site.bytes.clone()), "{format}");
        site.registry.kill();
        site.registry.run();
        site.is_not_served(&format!("{format}, mounted over"));
        drop(mount);

        // In the middle of a response.
        site.is_served_anew();
        let mut download = Download::begin(&site.registry, &site.path());
        download.receive(400_000);
        rewrite(&file);
        let (status, body) = download.finish();
        assert_eq!(status, 200);
        assert!(body.len() < site.bytes.len() && site.bytes.starts_with(&body), "{format}: {}", body.len());
        site.is_not_served(&format!("{format}, written to while it is sent"));
        restore(&site);

        site.is_served_anew();
        let mut download = Download::begin(&site.registry, &site.path());
        download.receive(400_000);
        let mount = Mount::over(&file, &other);
        assert!(download.finish() == (200, site.bytes.clone()), "{format}");
        drop(mount);
        site.is_served_anew();
    }
}
