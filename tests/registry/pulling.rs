//! Names, formats, and what is refused.

use crate::support::{Flake, Registry};

#[test]
fn every_example_format_is_built_and_pulled() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    for image in [
        "hello",
        "hello-plain",
        "hello-zstd",
        "hello-xz",
        "hello-flat",
        "hello-flat-gzip",
        "hello-links",
        "hello-links-plain",
        "hello-oci",
        "hello-oci-plain",
        "hello-oci-archive",
        "hello-oci-archive-gzip",
        "hello-streamed",
        "hello-streamed-base",
        "hello-streamed-owned",
        "hello-streamed-conf",
        "hello-nix2container",
        "myApp",
        "python3.12",
        "nested.inner.tool",
        "legacy",
    ] {
        registry.pull(&format!("packages/{image}"), "latest");
        registry.pull(image, "latest");
    }
    for container in ["web", "worker", "db"] {
        registry.pull(&format!("applications/demo/{container}"), "latest");
    }
}

#[test]
fn a_name_that_leads_to_no_image_is_a_clear_error_and_never_a_build() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    for (name, status, code, part) in [
        ("packages/helo", 404, "NAME_UNKNOWN", "near misses: hello"),
        ("packages/sets", 404, "NAME_UNKNOWN", "it has no attribute image and is no derivation"),
        ("applications/hello/web", 404, "NAME_UNKNOWN", "it has no attribute containers"),
        ("library/hello", 400, "NAME_INVALID", "packages/<attribute>"),
        ("packages/not-a-derivation", 404, "NAME_UNKNOWN", "image"),
    ] {
        let answer = registry.manifest(name, "latest");
        let (found, message) = answer.error();
        assert_eq!((answer.status, found.as_str()), (status, code), "{name}: {message}");
        assert!(message.contains(part), "{name}: {message}");
    }
    assert_eq!(registry.logged("building"), 0);
}

#[test]
fn a_name_in_lower_case_leads_to_the_attribute_that_only_differs_in_case() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let digest = registry.pull("packages/myApp", "latest");
    assert_eq!(registry.pull("packages/myapp", "latest"), digest);
    assert_eq!(registry.pull("myapp", "1.0.0"), digest);
    registry.manifest("packages/MYAPP", "latest").is_error(404, "NAME_UNKNOWN");
}
