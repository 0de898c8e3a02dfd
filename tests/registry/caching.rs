//! The blob cache: layers of compressed archives, within a limit.

use crate::support::{Flake, Registry, nix};
use std::{fs, thread};

fn cached_bytes(registry: &Registry) -> u64 {
    let files = fs::read_dir(registry.state.join("blobs")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn what_was_evicted_is_made_again_when_it_is_asked_for() {
    let flake = Flake::new("");
    // Each of the images has a layer of 2 MB, and only one of those fits.
    let registry = Registry::start(&flake, &[("CACHE_MAX_BYTES", "3MiB")]);
    let names = ["applications/demo/web", "myApp", "applications/demo/db", "hello-xz"];
    let digests: Vec<String> = names.iter().map(|name| registry.pull(name, "latest")).collect();
    assert!(cached_bytes(&registry) <= 3 << 20);
    for _ in 0..2 {
        for (name, digest) in names.iter().zip(&digests) {
            registry.pull(name, digest);
            assert!(cached_bytes(&registry) <= 3 << 20);
        }
    }
    assert!(registry.logged("making a blob available again") > 0, "{}", registry.log());
}

#[test]
fn everybody_who_asks_for_an_evicted_layer_shares_its_making() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    let digest = registry.pull("hello", "latest");
    let layer =
        registry.manifest("hello", &digest).json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    registry.stop();
    for file in fs::read_dir(registry.state.join("blobs")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    registry.run();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let blob = registry.blob("hello", &layer);
                assert_eq!((blob.status, crate::support::sha256(&blob.body)), (200, layer.clone()));
            });
        }
    });
    assert_eq!(registry.logged("making a blob available again"), 1);
}

#[test]
fn a_layer_that_is_larger_than_the_cache_is_an_error_that_names_the_setting() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[("CACHE_MAX_BYTES", "64KiB"), ("FAILURE_TTL", "0")]);
    let message = registry.manifest("hello", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("CACHE_MAX_BYTES"), "{message}");
    assert_eq!(cached_bytes(&registry), 0, "nothing is left behind");
    // What is not compressed needs no cache.
    registry.pull("hello-plain", "latest");
}

#[test]
fn images_that_fit_each_by_itself_are_unpacked_whatever_else_is() {
    // Each needs more than half of the cache.
    let names = ["a", "b", "c", "d"];
    let examples = "import <examples>";
    let packages: String = names
        .iter()
        .map(|name| {
            format!(
                "{name}.image = ({examples} {{ system = \"x86_64-linux\"; nonce = \"{name}\"; largeMiB = \"6\"; }})\
                 .packages.large-gzip.image; "
            )
        })
        .collect();
    let flake = Flake::new("");
    flake.write_text(&format!("{{ outputs = _: {{ packages.x86_64-linux = {{ {packages} }}; }}; }}"));
    for name in names {
        let attribute = format!("{}#{name}.image", flake.reference());
        let output = nix("nix", &["build", "--impure", "--no-link", &attribute]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let registry = Registry::start(&flake, &[("CACHE_MAX_BYTES", "10MiB"), ("PULL_WAIT", "1h")]);
    thread::scope(|scope| {
        for name in names {
            let registry = &registry;
            scope.spawn(move || {
                let answer = registry.manifest(name, "latest");
                assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            });
        }
    });
    assert!(cached_bytes(&registry) <= 10 << 20);
    assert_eq!(registry.logged("indexed"), 4);
}
