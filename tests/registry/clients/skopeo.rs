//! skopeo, which copies images; umoci unpacks them, and runc runs them.

use super::{
    Client, Folder, Outcome, outcome, root,
    scenarios::{self, Compressed},
};
use crate::support::{Flake, Registry, nix, sha256};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

/// skopeo with an OCI layout that it copies into.
pub struct Skopeo {
    dir: Folder,
}

impl Skopeo {
    pub fn new() -> Self {
        Self { dir: Folder::new() }
    }

    /// The tag in the layout that stands for an image of a registry.
    fn layout(&self, image: &str) -> String {
        format!("{}:{}", self.dir.join("layout"), &sha256(image.as_bytes())["sha256:".len()..])
    }

    /// Unpacks an image into a new folder, which has its configuration and, in `rootfs`, its files.
    fn unpack(&self, image: &str) -> PathBuf {
        let bundle = tempfile::tempdir_in(self.dir.path()).unwrap().keep().join("bundle");
        outcome("umoci", ["unpack", "--image", &self.layout(image), bundle.to_str().unwrap()]).expect();
        bundle
    }
}

impl Client for Skopeo {
    fn pull(&self, image: &str) -> Outcome {
        let [from, to] = [format!("docker://{image}"), format!("oci:{}", self.layout(image))];
        // As they are: it would compress plain layers otherwise, and fetch them again each time.
        outcome("skopeo", ["copy", "--preserve-digests", "--src-tls-verify=false", &from, &to])
    }

    fn run(&self, image: &str, command: &[&str]) -> Outcome {
        let bundle = self.unpack(image);
        let settings = bundle.join("config.json");
        let text = root("cat").arg(&settings).output().unwrap().stdout;
        let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        json["process"]["terminal"] = false.into();
        if !command.is_empty() {
            json["process"]["args"] = command.into();
        }
        let changed = self.dir.path().join("config.json");
        fs::write(&changed, json.to_string()).unwrap();
        assert!(root("cp").args([&changed, &settings]).status().unwrap().success());
        let id = bundle.parent().unwrap().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        outcome("runc", ["--root", &self.dir.join("runc"), "run", "--bundle", bundle.to_str().unwrap(), id])
    }
}

#[test]
fn skopeo_copies_an_image_of_every_format_that_then_runs() {
    scenarios::an_image_of_every_format_runs(&Skopeo::new());
}

#[test]
fn skopeo_runs_layers_compressed_with_gzip() {
    scenarios::compressed_layers(&Skopeo::new(), "gzip", Compressed::Run);
}

#[test]
fn skopeo_pulls_layers_compressed_with_zstd() {
    // umoci 0.4, which unpacks here, does not know zstd.
    scenarios::compressed_layers(&Skopeo::new(), "zstd", Compressed::Pulled);
}

#[test]
fn skopeo_copies_packages_without_an_image_that_then_run() {
    scenarios::packages_without_an_image_run(&Skopeo::new());
}

#[test]
fn skopeo_fetches_only_the_layers_of_a_package_that_changed() {
    scenarios::only_changed_layers_of_a_package_are_fetched_again(&Skopeo::new());
}

#[test]
fn skopeo_copies_a_container_of_an_application_that_then_runs() {
    scenarios::a_container_of_an_application_runs(&Skopeo::new());
}

#[test]
fn skopeo_copies_by_digest_and_by_version() {
    scenarios::the_same_image_by_digest_and_by_version(&Skopeo::new());
}

#[test]
fn skopeo_fetches_no_layer_again_even_from_a_restarted_registry() {
    scenarios::no_layer_is_fetched_by_a_second_pull(&Skopeo::new());
}

#[test]
fn skopeo_prints_the_end_of_the_log_of_a_failed_build() {
    scenarios::the_end_of_the_log_of_a_failed_build_is_printed(&Skopeo::new());
}

#[test]
fn skopeo_completes_a_download_that_broke() {
    scenarios::a_broken_download_is_completed_in_two_attempts_at_most(&Skopeo::new());
}

#[test]
fn skopeo_prints_near_misses_of_an_unknown_name() {
    scenarios::near_misses_are_printed(&Skopeo::new());
}

#[test]
fn the_unpacked_files_are_those_of_the_archive_in_the_store() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let skopeo = Skopeo::new();
    for attribute in ["hello", "hello-plain", "hello-links", "hello-flat-gzip"] {
        let image = format!("{}/packages/{attribute}:latest", registry.address);
        skopeo.pull(&image).expect();
        let found = files(&skopeo.unpack(&image).join("rootfs"));
        let wanted = tempfile::tempdir().unwrap();
        unpack_archive(&flake.store_path(&format!("{attribute}.image")), wanted.path());
        assert_eq!(found, files(wanted.path()), "{attribute}");
        assert!(found.contains_key(Path::new("bin/busybox")), "{found:?}");
    }
}

/// Unpacks the layers of a docker-archive with nothing but tar.
fn unpack_archive(archive: &Path, into: &Path) {
    let members = tempfile::tempdir().unwrap();
    untar(archive, members.path());
    let manifest = fs::read(members.path().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        untar(&members.path().join(layer.as_str().unwrap()), into);
    }
}

fn untar(archive: &Path, into: &Path) {
    let status = Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(status.success());
}

/// Every file below a folder: its mode, with its type, and what it holds or points to.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let holds = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if metadata.is_dir() {
                folders.push(path.clone());
                String::new()
            } else {
                sha256(&fs::read(&path).unwrap())
            };
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), (metadata.mode(), holds));
        }
    }
    found
}

impl Flake {
    /// Where Nix puts the output of an attribute.
    fn store_path(&self, attribute: &str) -> PathBuf {
        let attribute = format!("{}#{attribute}.outPath", self.reference());
        let output = nix("nix", &["eval", "--raw", "--impure", &attribute]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap())
    }
}
