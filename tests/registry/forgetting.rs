//! Pulls of what is forgotten while they run.

use crate::support::{Flake, Registry, eventually, layers, sha256};

#[track_caller]
fn forget(registry: &Registry, name: &str) {
    let (text, code) = registry.run_to_its_end(&["forget", name]);
    assert_eq!(code, Some(0), "{name}: {text}");
}

#[test]
fn a_layer_of_a_forgotten_image_that_takes_longer_than_the_wait_is_to_be_asked_for_again() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[("TAG_TTL", "1h"), ("PULL_WAIT", "0")]);
    registry.pull("packages/hello", "latest");
    let layer = layers(&registry.manifest("packages/hello", "latest")).pop().unwrap();
    forget(&registry, "packages/hello");

    let answer = registry.blob("packages/hello", &layer);
    let message = answer.is_error(429, "TOOMANYREQUESTS");
    assert!(message.contains("pull again to join it"), "{message}");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
    let mut blob = answer;
    eventually("the layer is there", || {
        blob = registry.blob("packages/hello", &layer);
        blob.status != 429
    });
    assert_eq!((blob.status, sha256(&blob.body)), (200, layer), "{}", blob.text());
}

#[test]
fn a_name_that_is_forgotten_in_two_steps_is_pulled_to_the_end_as_in_one() {
    let flake = Flake::new("");
    let settings = [("TAG_TTL", "0"), ("TAG_STALE", "0"), ("PULL_WAIT", "1h")];
    let registry = Registry::start(&flake, &settings);
    registry.pull("packages/hello", "latest");
    // No tag leads to the first any more.
    flake.write("");
    registry.pull("packages/hello", "latest");
    let layer = layers(&registry.manifest("packages/hello", "latest")).pop().unwrap();
    forget(&registry, "packages/hello:latest");
    forget(&registry, "packages/hello");
    let (text, _) = registry.run_to_its_end(&["images"]);
    assert_eq!(text, "");
    let blob = registry.blob("packages/hello", &layer);
    assert_eq!((blob.status, sha256(&blob.body)), (200, layer), "{}", blob.text());
}
