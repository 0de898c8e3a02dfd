//! The binary caches that a flake's `nixConfig` names.

use crate::{
    bed::Bed,
    support::{Flake, Registry},
};
use std::{fs, path::Path};

/// An image whose bytes are others whenever it is built.
const UNLIKE: &str = "mkdir -p l && head -c 99 /dev/urandom >l/f && tar -cf layer.tar -C l f && \
     s=$(sha256sum <layer.tar | cut -c -64) && mkdir $s && mv layer.tar $s && \
     printf '{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}' $s >config.json && \
     printf '[{\"Config\":\"config.json\",\"RepoTags\":null,\"Layers\":[\"%s/layer.tar\"]}]' $s >manifest.json && \
     tar -cf $out manifest.json config.json $s";

/// Builds the image once, moves it to a signed cache, and has the flake name that cache. Gives its digest.
fn move_to_cache(bed: &Bed, flake: &Flake, cache: &Path) -> String {
    let first = bed.registry(flake, &[]);
    let digest = first.pull("unlike", "latest");
    let image = bed.store_path("-unlike").unwrap();
    let image = image.to_str().unwrap();
    let secret = bed.nix("nix", &["key", "generate-secret", "--key-name", "test"]);
    let key_file = cache.join("secret");
    fs::write(&key_file, &secret).unwrap();
    let to = format!("file://{}?secret-key={}", cache.display(), key_file.display());
    bed.nix("nix", &["copy", "--to", &to, image]);
    drop(first);
    let text = fs::read_to_string(flake.dir.path().join("flake.nix")).unwrap();
    let public = bed.public_key(&secret);
    let config = format!(
        "{{ nixConfig = {{ extra-substituters = [ \"file://{}\" ]; extra-trusted-public-keys = \"{public}\"; }};",
        cache.display()
    );
    flake.write_text(&text.replacen('{', &config, 1));
    bed.collect_garbage();
    assert!(bed.store_path("-unlike").is_none());
    digest
}

fn pull_again(bed: &Bed, flake: &Flake, setting: &str) -> (String, Registry) {
    let registry = bed.registry(flake, &[("ACCEPT_FLAKE_CONFIG", setting)]);
    let digest = registry.pull("unlike", "latest");
    (digest, registry)
}

#[test]
fn the_caches_of_a_flake_are_used_if_they_are_accepted_and_only_then() {
    let bed = Bed::up_with(&[("TESTBED_NIX_CONF", "extra-trusted-users = *")]);
    let flake = Flake::of_scripts(&[("unlike", UNLIKE)]);
    let cache = tempfile::tempdir().unwrap();
    let digest = move_to_cache(&bed, &flake, cache.path());

    let (accepted, registry) = pull_again(&bed, &flake, "1");
    assert_eq!(accepted, digest, "it was built instead of fetched");
    assert_eq!(registry.logged("the flake's own binary caches are used"), 1);
    drop(registry);

    bed.collect_garbage();
    let (refused, registry) = pull_again(&bed, &flake, "0");
    assert_ne!(refused, digest, "it was fetched from a cache that nobody accepted");
    assert_eq!(registry.logged("binary caches"), 0);
}

#[test]
fn a_daemon_that_does_not_trust_the_registry_is_named_in_the_log() {
    let bed = Bed::up();
    let flake = Flake::of_scripts(&[("unlike", UNLIKE)]);
    let cache = tempfile::tempdir().unwrap();
    let digest = move_to_cache(&bed, &flake, cache.path());
    let (built, registry) = pull_again(&bed, &flake, "1");
    assert_ne!(built, digest);
    assert!(registry.logged("you are not a trusted user") > 0, "{}", registry.log());
}
