//! What can be found out without a pull.

use super::{Outcome, outcome, podman::Podman};
use crate::support::{Flake, Registry};
use serde_json::Value;

fn skopeo(arguments: &[&str]) -> Outcome {
    outcome("skopeo", arguments.iter().copied())
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.expect()).unwrap_or_else(|error| panic!("{error}: {}", outcome.text))
}

#[test]
fn skopeo_lists_tags_without_a_build() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let name = format!("docker://{}/packages/hello", registry.address);
    let tags = json(&skopeo(&["list-tags", "--tls-verify=false", &name]))["Tags"].clone();
    // The package's version, the image's own tag, and what every image has.
    assert_eq!(tags, serde_json::json!(["1.0.0", "latest", "stable"]));
    assert_eq!(registry.logged("building"), 0, "{}", registry.log());
}

#[test]
fn skopeo_inspects_an_image() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let name = format!("docker://{}/packages/hello:latest", registry.address);
    let digest = registry.pull("packages/hello", "latest");
    let found = json(&skopeo(&["inspect", "--tls-verify=false", &name]));
    assert_eq!(found["Digest"], digest.as_str());
    assert_eq!(found["Labels"]["org.opencontainers.image.title"], "hello");
    assert_eq!(found["Env"], serde_json::json!(["PATH=/bin"]));
    assert_eq!(found["RepoTags"], serde_json::json!(["1.0.0", "latest", "stable"]));
    let settings = json(&skopeo(&["inspect", "--tls-verify=false", "--config", &name]));
    assert_eq!(settings["config"]["Cmd"], serde_json::json!(["/bin/hello"]));
}

#[test]
fn podman_searches_the_catalog() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let podman = Podman::new();
    let found = |part: &str| {
        let name = format!("{}/{part}", registry.address);
        podman.podman(&["search", "--tls-verify=false", "--limit=100", "--format={{.Name}}", &name])
    };
    let hello = found("hello-o");
    let mut names: Vec<&str> = hello.expect().lines().map(|line| line.rsplit_once('/').unwrap().1).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["hello-oci", "hello-oci-archive", "hello-oci-archive-gzip", "hello-oci-plain"]);
    assert_eq!(found("nothing-like-this").expect().trim(), "");
    let name = format!("{}/packages/hello", registry.address);
    let tags = podman.podman(&["search", "--tls-verify=false", "--list-tags", &name]);
    assert!(tags.expect().contains("1.0.0") && tags.text.contains("latest"), "{}", tags.text);
    assert_eq!(registry.logged("building"), 0, "{}", registry.log());
}
