//! Time that a reading may take, whichever format it is. (`tests/memory` has the memory.)

use super::support::*;
use forge_registry::{
    image::{self, Image, ImageError, Options, Package},
    nix::StorePath,
    oci::{Digest, Platform},
};
use serde_json::json;
use std::{num::NonZeroUsize, time::Duration};

fn of_packages(host: &Host, packages: &[StorePath]) -> Result<Image, ImageError> {
    let platform =
        Platform { architecture: "amd64".into(), os: "linux".into(), os_version: None, variant: None };
    let count = NonZeroUsize::new(packages.len()).unwrap();
    let package = Package { count, platform, main_program: None, settings: None };
    let layering = vec![packages.to_vec()];
    image::of_packages(&host.reader(&packages[0]), packages, &package, layering, &Options::default())
}

#[test]
fn a_reading_ends_when_its_time_is_over() {
    let mut host = Host::new();
    let tar = layer("x");
    let one = host.folder("one", &[("bin/one", b"one")]);
    let path = host.path("one").to_str().unwrap().to_owned();
    let mut objects: Vec<StorePath> = Vec::new();
    for (name, compress) in COMPRESSIONS {
        objects.push(host.file(name, &compress(&docker_archive(std::slice::from_ref(&tar)))));
    }
    let mut layout = Layout::default();
    let manifest =
        layout.image("amd64", &[(tar.clone(), tar.clone(), "application/vnd.oci.image.layer.v1.tar")], false);
    layout.index.push(manifest);
    objects.push(layout.folder(&host, "layout"));
    objects.push(host.folder("folder", &[("app.tar", &docker_archive(&[tar]))]));
    let conf = json!({
        "architecture": "amd64", "created": "now", "store_dir": host.store.as_path(), "store_layers": [[path]],
    });
    objects.push(host.file("conf.json", conf.to_string().as_bytes()));
    let digest = Digest::of(b"");
    let layers = json!([{ "digest": digest, "diff_ids": digest, "paths": [{ "path": path }] }]);
    let description = json!({ "version": 1, "image-config": {}, "arch": "", "layers": layers });
    objects.push(host.file("image.json", description.to_string().as_bytes()));
    host.reader.limits.reading.time = Duration::ZERO;
    let mut errors: Vec<_> = objects.iter().map(|object| (object, host.read(object).unwrap_err())).collect();
    errors.push((&one, of_packages(&host, std::slice::from_ref(&one)).unwrap_err()));
    for (object, error) in errors {
        let said = error.to_string();
        assert!(matches!(error, ImageError::LimitExceeded { .. }), "{object}: {said}");
        assert!(said.contains("MAX_READING_TIME"), "{object}: {said}");
    }
    host.assert_cache_is_empty();
}

#[test]
fn expressions_have_a_time_of_their_own() {
    let mut host = Host::new();
    host.reader.limits.reading.matching = Duration::from_nanos(1);
    host.folder("one", &[("bin/one", b"one")]);
    let digest = Digest::of(b"");
    let tree =
        json!({ "path": host.path("one"), "options": { "perms": [{ "regex": "a", "mode": "0755" }] } });
    let layers = json!([{ "digest": digest, "diff_ids": digest, "paths": [tree] }]);
    let description = json!({ "version": 1, "image-config": {}, "arch": "", "layers": layers });
    let object = host.file("image.json", description.to_string().as_bytes());
    let said = host.read(&object).unwrap_err().to_string();
    assert!(said.contains("MAX_MATCHING_TIME"), "{said}");
}

#[test]
fn folders_that_packages_share_are_not_followed_for_ever() {
    for (depth, is_ok) in [(100, true), (1200, false)] {
        let host = Host::new();
        let folder = "d/".repeat(depth);
        let packages = ["one", "two"].map(|name| host.folder(name, &[(&format!("{folder}{name}"), b"")]));
        match of_packages(&host, &packages) {
            Ok(_) => assert!(is_ok),
            Err(error) => {
                assert!(!is_ok, "{error}");
                assert!(error.to_string().contains("more than 200 folders within each other"), "{error}");
            }
        }
    }
}
