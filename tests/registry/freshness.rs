//! When a tag's answer is current, and what a tag can mean.

use crate::support::{Flake, Registry, eventually, nonce};
use std::process::Command;

fn digest(registry: &Registry, name: &str, tag: &str) -> String {
    let answer = registry.manifest(name, tag);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("docker-content-digest").to_owned()
}

/// A flake whose package `image` is one of the example images.
fn flake_of(example: &str) -> String {
    format!(
        "{{ outputs = _: {{ packages.x86_64-linux.image.image = (import <examples> {{ system = \"x86_64-linux\"; \
         nonce = \"{}\"; }}).packages.{example}.image; }}; }}",
        nonce()
    )
}

#[test]
fn a_changed_flake_is_seen_after_the_ttl_and_meanwhile_nobody_waits() {
    let flake = Flake::new("");
    flake.write_text(&flake_of("hello-plain"));
    let registry = Registry::start(&flake, &[("TAG_TTL", "1"), ("TAG_STALE", "1h"), ("PULL_WAIT", "0")]);
    // Nobody waits at all, so the first image is asked for until it is there.
    eventually("the image is built", || registry.manifest("image", "latest").status == 200);
    let old = digest(&registry, "image", "latest");
    flake.write_text(&flake_of("hello-links-plain"));
    // Every answer until then is the old one, at once: to wait for the new one would be a 429.
    eventually("the new image is served", || digest(&registry, "image", "latest") != old);
    assert_eq!(registry.manifest("image", &old).status, 200, "the old one stays retrievable by digest");
}

#[test]
fn an_answer_that_is_too_old_is_not_given() {
    let flake = Flake::new("");
    flake.write_text(&flake_of("hello-plain"));
    let settings = [("TAG_TTL", "0"), ("TAG_STALE", "0"), ("UNKNOWN_TTL", "0")];
    let mut registry = Registry::start(&flake, &settings);
    let old = digest(&registry, "image", "latest");
    // The age of an answer is counted in whole seconds.
    let expired = |text: &str| flake.write_text(text);
    expired(&flake_of("hello-links-plain"));
    eventually("the answer is a second old", || digest(&registry, "image", "latest") != old);
    flake.write_text("{ outputs = _: { }; }");
    eventually("the name is gone", || registry.manifest("image", "latest").status == 404);

    // With the evaluator gone, a fresh answer is still given, and an expired one is not.
    flake.write_text(&flake_of("hello-plain"));
    eventually("the name is back", || registry.manifest("image", "latest").status == 200);
    registry.stop();
    registry.set("EVALUATOR_SOCKET", "/nowhere/socket");
    registry.set("TAG_TTL", "1h");
    registry.run();
    assert_eq!(digest(&registry, "image", "latest"), old);
    registry.stop();
    registry.set("TAG_TTL", "0");
    registry.run();
    eventually("the answer has expired", || registry.manifest("image", "latest").status == 503);
    assert_eq!(registry.manifest("image", &old).status, 200, "a digest needs no evaluator");
}

#[test]
fn what_does_not_exist_is_remembered_for_a_while() {
    let flake = Flake::new("");
    flake.write_text("{ outputs = _: { }; }");
    let registry = Registry::start(&flake, &[("UNKNOWN_TTL", "1h"), ("LOG_LEVEL", "INFO")]);
    registry.manifest("image", "latest").is_error(404, "NAME_UNKNOWN");
    flake.write_text(&flake_of("hello-plain"));
    registry.manifest("image", "latest").is_error(404, "NAME_UNKNOWN");

    let registry = Registry::start(&flake, &[("UNKNOWN_TTL", "1"), ("TAG_TTL", "1h")]);
    registry.manifest("image", "no-such-tag").is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(registry.logged("building"), 0, "an unknown tag is never a build");
}

#[test]
fn the_images_own_tag_and_the_packages_version_are_the_same_image() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let latest = digest(&registry, "packages/hello", "latest");
    for tag in ["stable", "1.0.0"] {
        assert_eq!(digest(&registry, "packages/hello", tag), latest);
    }
    assert_eq!(registry.logged("building"), 1);
    assert_eq!(registry.logged("resolved"), 1);
}

/// A flake in a git repository.
pub struct GitFlake(Flake);

impl GitFlake {
    pub fn new() -> Self {
        let new = Self(Flake::new(""));
        new.git(&["init", "-q"]);
        new
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=x", "-c", "user.email=x@x", "-c", "init.defaultBranch=main"]);
        let output = command.arg("-C").arg(self.0.dir.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits this flake; the commit's name.
    pub fn commit(&self, text: &str) -> String {
        self.0.write_text(text);
        self.git(&["add", "flake.nix"]);
        self.git(&["commit", "-q", "-m", "."]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn folder(&self) -> &std::path::Path {
        self.0.dir.path()
    }

    pub fn reference(&self) -> String {
        format!("git+file://{}", self.0.dir.path().display())
    }
}

#[test]
fn a_tag_of_a_git_source_is_a_branch_a_tag_or_a_commit() {
    let flake = GitFlake::new();
    let first = flake.commit(&flake_of("hello-plain"));
    flake.git(&["tag", "v1"]);
    flake.commit(&flake_of("hello-links-plain"));
    flake.git(&["branch", "release"]);
    flake.commit(&flake_of("hello-flat"));

    let registry = Registry::start_with(&[("FLAKE", &flake.reference())]);
    let digests = ["latest", "release", "v1", &first].map(|tag| digest(&registry, "image", tag));
    assert_eq!(digests[2], digests[3], "a tag and its commit");
    assert_ne!(digests[1], digests[2], "a branch and a tag");
    let message = registry.manifest("image", "v2").is_error(404, "MANIFEST_UNKNOWN");
    assert!(message.contains("v2") && message.contains("latest"), "{message}");
    let tags = registry.get("/v2/image/tags/list").json()["tags"].clone();
    assert!(tags.as_array().unwrap().iter().any(|tag| tag == "v1"), "{tags}");
}

#[test]
fn what_flakeforge_served_is_served_at_every_revision() {
    // There, a package is the configuration itself, and its name has one segment.
    let text = |name: &str| {
        format!(
            "{{ outputs = _: {{ packages.x86_64-linux.{name} = (import <examples> {{ system = \"x86_64-linux\"; nonce = \"{}\"; \
             }}).packages.hello-streamed-conf.image; }}; }}",
            nonce()
        )
    };
    let flake = GitFlake::new();
    let first = flake.commit(&text("my-bash-image"));
    flake.git(&["tag", "v1"]);
    flake.commit(&text("my-bash-image"));
    flake.git(&["branch", "release-24.11"]);
    flake.commit(&text("another"));

    let registry = Registry::start_with(&[("FLAKE", &flake.reference())]);
    // As `nix build FLAKE/v1#my-bash-image`, layers and all.
    let pulled = ["v1", &first, "release-24.11"].map(|tag| registry.pull("my-bash-image", tag));
    assert_eq!(pulled[0], pulled[1], "a tag and its commit");
    assert_ne!(pulled[1], pulled[2], "two versions");
    registry.pull("another", "latest");
    registry.pull("another", "main");
    let builds = registry.logged("building");
    // A name that only older revisions have, one that they do not have yet, and refs and commits that nobody has.
    registry.manifest("my-bash-image", "latest").is_error(404, "NAME_UNKNOWN");
    for tag in ["v1", "v2", "1234567890123456789012345678901234567890"] {
        let message = registry.manifest("another", tag).is_error(404, "MANIFEST_UNKNOWN");
        assert!(message.contains(tag) && message.contains("it has: "), "{message}");
    }
    assert_eq!(registry.logged("building"), builds);

    // What is broken now does not take the releases with it.
    flake.commit("{ outputs = _: throw \"broken\"; }");
    let registry = Registry::start_with(&[("FLAKE", &flake.reference())]);
    assert_eq!(registry.pull("my-bash-image", "v1"), pulled[0]);
    let message = registry.manifest("my-bash-image", "v2").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("broken"), "{message}");
}
