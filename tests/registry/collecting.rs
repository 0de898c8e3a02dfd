//! Garbage collection and retention: what is kept, what is made again, what is let go.

use crate::{
    bed::Bed,
    support::{Flake, Registry, layers, sha256},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// Settings with which bytes come from where they are, and not from what is still mapped.
const UNMAPPED: &[(&str, &str)] = &[("MAX_MAPPED_FILES", "1"), ("TAG_TTL", "1h")];

fn links(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Takes the registry's GC roots away, as somebody could by mistake, and collects.
fn collect_by_force(bed: &Bed, registry: &Registry) {
    for link in links(&registry.state.join("gcroots")) {
        fs::remove_file(link).unwrap();
    }
    bed.collect_garbage();
}

/// The same while the registry is down: nix-daemon takes a file that is mapped for one that is in use.
fn collect_while_down(bed: &Bed, registry: &mut Registry) {
    registry.kill();
    collect_by_force(bed, registry);
    registry.run();
}

#[test]
fn what_is_served_is_rooted_and_survives_a_collection() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let registry = bed.registry(&flake, UNMAPPED);
    for name in ["hello", "hello-plain"] {
        registry.pull(name, "latest");
    }
    let image = bed.store_path("-docker-image-hello.tar").unwrap();
    let roots = bed.nix("nix-store", &["--query", "--roots", image.to_str().unwrap()]);
    assert!(roots.contains(registry.state.join("gcroots").to_str().unwrap()), "{roots}");
    bed.collect_garbage();
    assert!(image.exists());
    let (built, read) = (registry.logged("building"), registry.logged("indexed"));
    for name in ["hello", "hello-plain"] {
        registry.pull(name, "latest");
    }
    assert_eq!((registry.logged("building"), registry.logged("indexed")), (built, read));
}

#[test]
fn a_blob_whose_store_path_was_collected_is_built_again() {
    let bed = Bed::up_with(&[("TESTBED_NIX_CONF", "keep-derivations = false")]);
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, UNMAPPED);
    let digest = registry.pull("hello-plain", "latest");
    let layer = layers(&registry.manifest("hello-plain", "latest")).remove(0);
    let image = bed.store_path("-docker-image-hello.tar").unwrap();
    // Only the image goes; its derivation is held by a root of its own.
    let derivation = bed.store_path("-docker-image-hello.tar.drv").unwrap();
    bed.nix(
        "nix-store",
        &[
            "--realise",
            derivation.to_str().unwrap(),
            "--add-root",
            bed.store().with_file_name("drv-root").to_str().unwrap(),
            "--indirect",
        ],
    );
    let root = bed.store().with_file_name("drv-root");
    let _ = fs::remove_file(&root);
    std::os::unix::fs::symlink(&derivation, &root).unwrap();
    bed.nix("nix-store", &["--realise", derivation.to_str().unwrap()]);
    registry.kill();
    collect_by_force(&bed, &registry);
    assert!(!image.exists() && derivation.exists());

    registry.set("EVALUATOR_SOCKET", "/nowhere");
    registry.run();
    let built = registry.logged("building");
    let blob = registry.blob("hello-plain", &layer);
    assert_eq!((blob.status, sha256(&blob.body)), (200, layer), "{}", blob.text());
    assert_eq!(registry.logged("building"), built + 1);
    assert_eq!(registry.pull("hello-plain", "latest"), digest);
    // And it is rooted again.
    bed.collect_garbage();
    assert!(image.exists());
}

#[test]
fn that_a_blob_cannot_be_built_again_is_remembered_for_a_while() {
    let bed = Bed::up();
    let flake = Flake::of_scripts(&[("image", "sleep 5; cp $hello $out")]);
    let mut registry = bed.registry(&flake, UNMAPPED);
    registry.pull("image", "latest");
    let manifest = registry.manifest("image", "latest");
    let config = manifest.json()["config"]["digest"].as_str().unwrap().to_owned();
    let layer = layers(&manifest).remove(0);
    registry.kill();
    let image = bed.store_path("-image").unwrap();
    links(&registry.state.join("gcroots")).iter().for_each(|link| fs::remove_file(link).unwrap());
    bed.nix("nix-store", &["--delete", image.to_str().unwrap()]);
    // It does not build any more: there is too little time.
    registry.set("NIX_BUILD_TIMEOUT", "1");
    registry.set("FAILURE_TTL", "1h");
    registry.run();
    let built = registry.logged("building derivation");
    for _ in 0..3 {
        for digest in [&layer, &config] {
            let blob = registry.blob("image", digest);
            if blob.status != 200 {
                let message = blob.is_error(504, "UNKNOWN");
                assert!(message.contains("NIX_BUILD_TIMEOUT"), "{message}");
            }
        }
    }
    assert_eq!(registry.logged("building derivation"), built + 1);
    registry.blob("image", &layer).is_error(504, "UNKNOWN");
}

#[test]
fn a_blob_whose_derivation_was_collected_too_is_evaluated_again() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, UNMAPPED);
    for name in ["hello-plain", "hello"] {
        let digest = registry.pull(name, "latest");
        let layer = layers(&registry.manifest(name, "latest")).remove(0);
        for evict in [false, true] {
            registry.kill();
            collect_by_force(&bed, &registry);
            if evict {
                links(&registry.state.join("blobs")).iter().for_each(|file| fs::remove_file(file).unwrap());
            }
            assert_eq!(bed.store_path("-docker-image-hello.tar"), None);
            assert_eq!(bed.store_path("-docker-image-hello.tar.drv"), None);
            registry.run();
            let blob = registry.blob(name, &layer);
            assert_eq!((blob.status, sha256(&blob.body)), (200, layer.clone()), "{name}: {}", blob.text());
            assert_eq!(registry.pull(name, &digest), digest);
        }
    }
}

#[test]
fn layers_that_are_fetched_side_by_side_are_all_made_again_by_one_build() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, UNMAPPED);
    let digest = registry.pull("hello-links-plain", "latest");
    let layers = layers(&registry.manifest("hello-links-plain", &digest));
    collect_while_down(&bed, &mut registry);
    let built = registry.logged("building");
    thread::scope(|scope| {
        for layer in layers.iter().cycle().take(12) {
            let registry = &registry;
            scope.spawn(move || {
                let blob = registry.blob("hello-links-plain", layer);
                assert_eq!((blob.status, &sha256(&blob.body)), (200, layer), "{}", blob.text());
            });
        }
    });
    assert_eq!(registry.logged("building"), built + 1);
    assert_eq!(registry.pull("hello-links-plain", "latest"), digest);
}

#[test]
fn a_file_that_optimising_the_store_replaced_by_its_like_is_served_all_the_same() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, UNMAPPED);
    let digest = registry.pull("hello-oci-plain", "latest");
    let layer = layers(&registry.manifest("hello-oci-plain", &digest)).remove(0);
    let blobs = bed.store_path("-oci-image-hello").unwrap().join("blobs/sha256");
    let file = blobs.join(layer.trim_start_matches("sha256:"));
    registry.kill();
    // What `nix-store --optimise` does to the second of two files, and only it knows which it takes for the first.
    let like = bed.store().join(".links/like");
    fs::copy(&file, &like).unwrap();
    fs::set_permissions(&blobs, fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(&like, blobs.join("new")).unwrap();
    fs::rename(blobs.join("new"), &file).unwrap();
    registry.run();
    assert_eq!(registry.pull("hello-oci-plain", "latest"), digest);
    assert_eq!(registry.logged("building"), 1);
}

#[test]
fn a_blob_that_nothing_can_make_again_is_a_clean_404_and_the_next_pull_gets_the_new_image() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, UNMAPPED);
    registry.pull("hello-plain", "latest");
    let layer = layers(&registry.manifest("hello-plain", "latest")).remove(0);
    // The flake has the name still, but under it other bytes.
    flake.write_text(
        "{ outputs = _: let e = import <examples> { system = \"x86_64-linux\"; }; in { \
         packages.x86_64-linux.hello-plain.image = e.packages.demo.containers; }; }",
    );
    collect_while_down(&bed, &mut registry);
    let blob = registry.blob("hello-plain", &layer);
    assert!(blob.status == 404 || blob.status == 422, "{}: {}", blob.status, blob.text());
    blob.error();

    flake.write("");
    collect_while_down(&bed, &mut registry);
    registry.pull("hello-plain", "latest");
}

#[test]
fn a_blob_of_a_name_that_is_gone_is_a_clean_404() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, UNMAPPED);
    let digest = registry.pull("hello-plain", "latest");
    let layer = layers(&registry.manifest("hello-plain", "latest")).remove(0);
    flake.write_text("{ outputs = _: { packages.x86_64-linux = { }; }; }");
    collect_while_down(&bed, &mut registry);
    registry.blob("hello-plain", &layer).is_error(404, "BLOB_UNKNOWN");
    registry.manifest("hello-plain", &digest).is_error(404, "MANIFEST_UNKNOWN");
    assert!(links(&registry.state.join("gcroots")).is_empty());
}

#[test]
fn collections_in_the_midst_of_pulls_never_yield_wrong_bytes() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let registry = bed.registry(&flake, &[("TAG_TTL", "0"), ("TAG_STALE", "0"), ("MAX_MAPPED_FILES", "1")]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                // Every other time also what the registry wants to keep.
                collect_by_force(&bed, &registry);
                bed.collect_garbage();
            }
        });
        let pulls: Vec<_> = ["hello-plain", "hello", "hello-links-plain"]
            .map(|name| {
                let registry = &registry;
                scope.spawn(move || {
                    (0..4).map(|_| pull_or_be_told(registry, name)).filter(|pulled| *pulled).count()
                })
            })
            .into_iter()
            .collect();
        let pulled: usize = pulls.into_iter().map(|pull| pull.join().unwrap_or(0)).sum();
        done.store(true, Ordering::SeqCst);
        assert!(pulled > 0, "no pull went through");
    });
    for name in ["hello-plain", "hello", "hello-links-plain"] {
        registry.pull(name, "latest");
    }
}

/// Pulls; whether all of it was there. What is there has to be right, and what is not a clean error.
fn pull_or_be_told(registry: &Registry, name: &str) -> bool {
    let manifest = registry.manifest(name, "latest");
    if manifest.status != 200 {
        manifest.error();
        return false;
    }
    assert_eq!(sha256(&manifest.body), manifest.header("docker-content-digest"));
    layers(&manifest).into_iter().all(|layer| {
        let blob = registry.blob(name, &layer);
        match blob.status {
            200 => assert_eq!(sha256(&blob.body), layer),
            _ => drop(blob.error()),
        }
        blob.status == 200
    })
}

#[test]
fn beyond_the_number_of_images_the_least_recently_used_loses_its_row_and_its_root() {
    let bed = Bed::up();
    let flake = Flake::of_scripts(&["a", "b", "c"].map(|name| (name, "cp $hello $out; : $nonce $name")));
    let registry = bed.registry(&flake, &[("CACHE_SIZE", "2"), ("TAG_TTL", "1h")]);
    let digest = registry.pull("a", "latest");
    registry.pull("b", "latest");
    registry.pull("a", "latest");
    let roots = registry.state.join("gcroots");
    assert_eq!(links(&roots).len(), 2);
    registry.pull("c", "latest");
    crate::support::eventually("one image is dropped", || links(&roots).len() == 2);
    bed.collect_garbage();
    let there = |name: &str| bed.store_path(&format!("-{name}")).is_some();
    assert_eq!([there("a"), there("b"), there("c")], [true, false, true]);
    // What was dropped comes back when it is asked for.
    assert_eq!(registry.pull("b", "latest"), digest);
}

#[test]
fn images_that_come_faster_than_the_clock_ticks_are_all_served() {
    let flake =
        Flake::of_scripts(&["a", "b", "c", "d", "e", "f"].map(|name| (name, "cp $hello $out; : $name")));
    let registry = Registry::start(&flake, &[("CACHE_SIZE", "1")]);
    for round in 0..3 {
        thread::scope(|scope| {
            for name in ["a", "b", "c", "d", "e", "f"] {
                let registry = &registry;
                scope.spawn(move || {
                    let answer = registry.manifest(name, "latest");
                    assert_eq!(answer.status, 200, "round {round}, {name}: {}", answer.text());
                });
            }
        });
    }
}

#[test]
fn what_a_killed_process_left_without_a_row_is_removed_at_the_next_start() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    registry.pull("hello", "latest");
    registry.kill();
    let (roots, blobs) = (registry.state.join("gcroots"), registry.state.join("blobs"));
    let (kept_roots, kept_blobs) = (links(&roots), links(&blobs));
    std::os::unix::fs::symlink("/nowhere", roots.join("0".repeat(64))).unwrap();
    std::os::unix::fs::symlink("/nowhere", roots.join(".new-7")).unwrap();
    fs::write(blobs.join("0".repeat(64)), "no image has this").unwrap();
    fs::write(blobs.join(".unfinished-7"), "half").unwrap();
    registry.run();
    assert_eq!((links(&roots), links(&blobs)), (kept_roots, kept_blobs));
    registry.pull("hello", "latest");
}
