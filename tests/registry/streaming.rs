//! Streamed images: layers that are computed from store paths, as clients see them.

use crate::{
    bed::Bed,
    support::{Flake, Registry, layers, nix, sha256},
    wire::raw,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const IMAGES: [&str; 3] = ["hello-streamed", "hello-streamed-base", "hello-streamed-conf"];

/// Builds an image of the flake; the store path.
fn build(flake: &Flake, name: &str) -> PathBuf {
    let attribute = format!("{}#{name}.image", flake.reference());
    let output = nix("nix", &["build", "--impure", "--no-link", "--print-out-paths", &attribute]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// The configuration that a script names, or that this is.
fn configuration(image: &Path) -> PathBuf {
    let text = fs::read_to_string(image).unwrap();
    match text.starts_with("#!") {
        true => text.split_whitespace().find(|word| word.ends_with("-conf.json")).unwrap().into(),
        false => image.into(),
    }
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn skopeo_pulls_what_docker_load_would_get_from_the_script() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    let dir = tempfile::tempdir().unwrap();
    for name in IMAGES {
        let archive = dir.path().join(format!("{name}.tar"));
        let output = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/stream.py"))
            .arg("image")
            .arg(configuration(&build(&flake, name)))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(&archive, output.stdout).unwrap();
        // The manifest that skopeo makes of an archive names the digests of uncompressed layers.
        let expected = skopeo(&["inspect", "--raw", &format!("docker-archive:{}", archive.display())]);
        let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();

        let copy = dir.path().join(name);
        let (source, target) =
            (format!("docker://{}/{name}:latest", registry.address), format!("dir:{}", copy.display()));
        skopeo(&["copy", "--src-tls-verify=false", "--preserve-digests", &source, &target]);
        let pulled = fs::read(copy.join("manifest.json")).unwrap();
        let pulled: serde_json::Value = serde_json::from_slice(&pulled).unwrap();
        assert_eq!(pulled["config"]["digest"], expected["config"]["digest"], "{name}: the image's ID");
        let digests = |manifest: &serde_json::Value| -> Vec<String> {
            let layers = manifest["layers"].as_array().unwrap();
            layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(digests(&pulled), digests(&expected), "{name}");
    }
    assert!(fs::read_dir(registry.state.join("blobs")).unwrap().next().is_none(), "no layer is on the disk");

    let read = registry.logged("indexed");
    let first: Vec<String> = IMAGES.map(|name| registry.pull(name, "latest")).into();
    for stop in [true, false] {
        if stop {
            assert!(registry.stop().success());
        } else {
            registry.kill();
        }
        registry.run();
        let again: Vec<String> = IMAGES.map(|name| registry.pull(name, "latest")).into();
        assert_eq!(again, first);
    }
    assert_eq!(registry.logged("indexed"), read, "nothing was hashed again");
}

#[test]
fn ranges_of_a_computed_layer_are_those_of_the_whole() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let name = "hello-streamed";
    for layer in layers(&registry.manifest(name, "latest")) {
        let path = format!("/v2/{name}/blobs/{layer}");
        let all = registry.get(&path).body;
        assert_eq!(sha256(&all), layer);
        let head = registry.request("HEAD", &path, &[]);
        assert_eq!(head.header("content-length"), all.len().to_string());
        let length = all.len();
        for (from, to) in
            [(0, 1), (1, 700), (511, 1025), (length / 3, length / 3 * 2 + 1), (length - 7, length)]
        {
            let part = registry.request("GET", &path, &[("range", &format!("bytes={from}-{}", to - 1))]);
            assert_eq!(part.status, 206);
            assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{length}", to - 1));
            assert!(part.body == all[from..to], "{from} to {to}");
        }
        let parts = registry.request("GET", &path, &[("range", "bytes=3-9,1000-1010")]);
        assert_eq!(parts.status, 206);
        assert!(parts.body.windows(7).any(|window| window == &all[3..10]));
        assert!(parts.body.windows(11).any(|window| window == &all[1000..1011]));
        let beyond = registry.request("GET", &path, &[("range", &format!("bytes={length}-"))]);
        assert_eq!(beyond.status, 416);
    }
}

fn lists(registry: &Registry) -> Vec<PathBuf> {
    fs::read_dir(registry.state.join("layers")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn images_share_the_entry_lists_of_layers_that_they_share() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h"), ("CACHE_SIZE", "1")]);
    registry.pull("hello-streamed", "latest");
    assert_eq!(lists(&registry).len(), 2, "one for busybox, one for the program");
    registry.pull("hello-streamed-base", "latest");
    crate::support::eventually("the first image is dropped", || {
        fs::read_dir(registry.state.join("gcroots")).unwrap().count() == 1
    });
    assert_eq!(lists(&registry).len(), 2);
    registry.pull("hello-streamed-base", "latest");

    // What is lost or damaged is made again, and what nobody needs is removed.
    registry.kill();
    let files = lists(&registry);
    fs::remove_file(&files[0]).unwrap();
    let bytes = fs::read(&files[1]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    fs::write(&files[1], [&bytes[..40], b"damage", &bytes[46..]].concat()).unwrap();
    fs::write(registry.state.join("layers").join("0".repeat(64)), "no image needs this").unwrap();
    registry.run();
    assert_eq!(lists(&registry).len(), 1);
    let layer = layers(&registry.manifest("hello-streamed-base", "latest"));
    for layer in &layer {
        // A response that was cut may be the first one; the second is right.
        let (status, body) = raw(&registry, &format!("/v2/hello-streamed-base/blobs/{layer}"));
        let cut = body.is_empty() && matches!(status, 0 | 200);
        assert!(cut || status == 200 && sha256(&body) == *layer, "{status}, {} bytes", body.len());
    }
    registry.pull("hello-streamed-base", "latest");
    assert_eq!(lists(&registry).len(), 2);
}

#[test]
fn a_computed_layer_whose_store_paths_were_collected_is_served_again() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, &[("TAG_TTL", "1h"), ("MAX_MAPPED_FILES", "1")]);
    for name in IMAGES {
        let digest = registry.pull(name, "latest");
        // What is rooted stays, with all store paths that its layers are made of.
        bed.collect_garbage();
        assert!(bed.store_path("-greeter-1.0.0").is_some());
        assert_eq!(registry.pull(name, "latest"), digest);
        registry.kill();
        for link in fs::read_dir(registry.state.join("gcroots")).unwrap() {
            fs::remove_file(link.unwrap().path()).unwrap();
        }
        bed.collect_garbage();
        assert_eq!(bed.store_path("-greeter-1.0.0"), None);
        registry.run();
        for layer in layers(&registry.manifest(name, &digest)) {
            let blob = registry.blob(name, &layer);
            assert_eq!((blob.status, sha256(&blob.body)), (200, layer), "{name}");
        }
        assert_eq!(registry.pull(name, "latest"), digest);
    }
}
