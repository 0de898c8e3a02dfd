//! Images whose layers are computed from store paths: pulled and run by every client, with a crash, a collection and a new
//! version in between.

use super::{
    Client, containerd::Containerd, docker::Docker, podman::Podman, scenarios::requests, skopeo::Skopeo,
};
use crate::{
    bed::Bed,
    support::{Flake, Registry, eventually, layers},
};
use std::{collections::HashSet, fs};

/// An image.
struct Example {
    name: &'static str,
    prints: &'static str,
    /// How many of its layers its next version has as well, at least.
    kept: usize,
}

const IMAGES: [Example; 6] = [
    // The script of nixpkgs; on a base image.
    Example { name: "hello-streamed", prints: "Hello from the package greeter", kept: 1 },
    Example { name: "hello-streamed-base", prints: "Hello from the package greeter", kept: 2 },
    // The configuration by itself: in nixpkgs' form, in flakeforge's.
    Example { name: "hello-streamed-owned", prints: "Hello from the package greeter", kept: 1 },
    Example { name: "hello-streamed-conf", prints: "Hello from the package greeter", kept: 1 },
    // A description of nix2container; what is computed has the same names and contents in every version, the file has not.
    Example { name: "hello-nix2container", prints: "Hello from nix2container as 1000", kept: 1 },
    // A plain package; what its scripts are run by stays the same.
    Example { name: "packages/greet", prints: "from greet", kept: 1 },
];

/// A client, and the layers that it has.
struct Puller<C> {
    client: C,
    has: HashSet<String>,
}

impl<C: Client> Puller<C> {
    fn new(client: C) -> Self {
        Self { client, has: HashSet::new() }
    }

    /// Pulls and runs all images; stops the registry and asserts that the layers that the client had already were not
    /// fetched, and that all others were.
    fn pulls_and_runs_all(&mut self, registry: &mut Registry) {
        let is_new_version = !self.has.is_empty();
        // What has been logged so far is about other pulls.
        let before = registry.log().len();
        let mut expected = HashSet::new();
        let mut spared = HashSet::new();
        for Example { name, prints, kept } in IMAGES {
            let manifest = registry.manifest(name, "latest");
            assert_eq!(manifest.status, 200, "{name}: {}", manifest.text());
            let all = layers(&manifest);
            let is_known = |layer: &&String| self.has.contains(*layer) && !expected.contains(*layer);
            let known = all.iter().filter(is_known).count();
            if is_new_version {
                assert!(known >= kept && known < all.len(), "{name}: {known} of {} are known", all.len());
            }
            for layer in all {
                let had = !self.has.insert(layer.clone()) && !expected.contains(&layer);
                if had { &mut spared } else { &mut expected }.insert(layer);
            }
            let image = format!("{}/{name}:latest", registry.address);
            self.client.pull(&image).expect();
            let outcome = self.client.run(&image, &[]);
            assert!(outcome.expect().contains(prints), "{name}: {}", outcome.text);
        }
        // Stopped, it has logged every request that it answered.
        registry.stop();
        let log = registry.log();
        let fetched = |layer: &String| {
            let line = format!("reference=\"{layer}\"");
            let mut lines = log[before..].lines().filter(|line| line.contains(" request request="));
            lines.any(|found| found.contains("method=GET") && found.contains(&line))
        };
        assert!(!expected.is_empty());
        let missing: Vec<_> = expected.iter().filter(|layer| !fetched(layer)).collect();
        let again: Vec<_> = spared.iter().filter(|layer| fetched(layer)).collect();
        assert!(missing.is_empty() && again.is_empty(), "not fetched: {missing:?}, again: {again:?}\n{log}");
    }
}

/// Writes another version of all images, and waits until the registry has seen that.
fn release(flake: &Flake, registry: &Registry) {
    let digests =
        || IMAGES.map(|Example { name, .. }| registry.manifest(name, "latest").header("etag").to_owned());
    let old = digests();
    flake.write("");
    eventually("every image is of the new version", || {
        digests().iter().zip(&old).all(|(new, old)| !new.is_empty() && new != old)
    });
}

fn computed_images_survive_a_crash_collections_and_a_release<C: Client>(client: fn() -> C) {
    let bed = Bed::up();
    let flake = Flake::new("");
    let settings = [("TAG_TTL", "1"), ("TAG_STALE", "0"), ("MAX_MAPPED_FILES", "1")];
    let mut registry = bed.registry(&flake, &settings);
    let mut puller = Puller::new(client());
    puller.pulls_and_runs_all(&mut registry);

    // What has been served is rooted. The new version shares layers with the old one.
    registry.run();
    registry.kill();
    bed.collect_garbage();
    registry.run();
    release(&flake, &registry);
    puller.pulls_and_runs_all(&mut registry);

    // Nothing is rooted any more, and somebody comes who has none of it.
    for link in fs::read_dir(registry.state.join("gcroots")).unwrap() {
        fs::remove_file(link.unwrap().path()).unwrap();
    }
    bed.collect_garbage();
    assert!(bed.store_path("-greeter-1.0.0").is_none());
    registry.run();
    Puller::new(client()).pulls_and_runs_all(&mut registry);
    assert!(requests(&registry, &["status=5"]) == 0, "{}", registry.log());
}

#[test]
fn podman_runs_computed_images_through_a_crash_collections_and_a_release() {
    computed_images_survive_a_crash_collections_and_a_release(Podman::new);
}

#[test]
fn docker_runs_computed_images_through_a_crash_collections_and_a_release() {
    computed_images_survive_a_crash_collections_and_a_release(Docker::start);
}

#[test]
fn containerd_runs_computed_images_through_a_crash_collections_and_a_release() {
    computed_images_survive_a_crash_collections_and_a_release(Containerd::start);
}

#[test]
fn skopeo_copies_computed_images_that_run_through_a_crash_collections_and_a_release() {
    computed_images_survive_a_crash_collections_and_a_release(Skopeo::new);
}

fn a_name_lists_the_packages_to_run<C: Client>(client: C) {
    let (_folder, registry) = crate::package_sets::registry(&[]);
    let image = format!("{}/shell/hello/camelcase:latest", registry.address);
    client.pull(&image).expect();
    for (command, prints) in [(&["hello"][..], "hello"), (&["bash", "-c", "camel"], "camel")] {
        let outcome = client.run(&image, command);
        assert!(outcome.expect().contains(prints), "{command:?}: {}", outcome.text);
    }
}

#[test]
fn podman_runs_what_a_name_lists() {
    a_name_lists_the_packages_to_run(Podman::new());
}

#[test]
fn docker_runs_what_a_name_lists() {
    a_name_lists_the_packages_to_run(Docker::start());
}
