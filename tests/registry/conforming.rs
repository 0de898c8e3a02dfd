//! The checks that the OCI conformance suite makes of a registry without push, for machines that cannot get the suite
//! (`make conformance` runs the suite itself), and what it cannot check that way: the digest headers.

use crate::support::{Flake, Registry, sha256};

const NAMES: [&str; 4] =
    ["packages/hello", "packages/hello-oci", "packages/multi", "applications/demo/worker"];

#[test]
fn the_api_version_is_announced() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let answer = registry.get("/v2/");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
}

#[test]
fn content_is_found_by_tag_and_digest_with_the_same_headers_for_head_and_get() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    for name in NAMES {
        let by_tag = registry.manifest(name, "latest");
        assert_eq!(by_tag.status, 200, "{name}: {}", by_tag.text());
        let digest = sha256(&by_tag.body);
        assert_eq!(by_tag.header("docker-content-digest"), digest);
        assert_eq!(by_tag.json()["mediaType"].as_str(), Some(by_tag.header("content-type")));

        // Everything that the manifest leads to, through an index as well.
        let mut paths = vec![format!("manifests/{digest}"), "manifests/latest".into()];
        let mut manifests = vec![by_tag.json()];
        while let Some(manifest) = manifests.pop() {
            for child in manifest["manifests"].as_array().into_iter().flatten() {
                let digest = child["digest"].as_str().unwrap();
                paths.push(format!("manifests/{digest}"));
                manifests.push(registry.manifest(name, digest).json());
            }
            for blob in manifest["layers"].as_array().into_iter().flatten().chain([&manifest["config"]]) {
                paths.extend(blob["digest"].as_str().map(|digest| format!("blobs/{digest}")));
            }
        }
        for path in paths {
            let path = format!("/v2/{name}/{path}");
            let get = registry.get(&path);
            assert_eq!(get.status, 200, "{path}");
            assert_eq!(get.header("docker-content-digest"), sha256(&get.body), "{path}");
            assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
            let head = registry.request("HEAD", &path, &[]);
            assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
            for header in ["content-length", "content-type", "docker-content-digest", "etag"] {
                assert_eq!(head.header(header), get.header(header), "{path}: {header}");
            }
        }
    }
}

#[test]
fn both_forms_of_an_image_stay_retrievable_by_digest() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    for name in NAMES {
        let path = format!("/v2/{name}/manifests/latest");
        let docker = [
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ];
        let docker = registry.request("GET", &path, &[("accept", &docker.join(", "))]);
        let oci = registry.request("GET", &path, &[("accept", "*/*")]);
        assert!(docker.header("content-type").starts_with("application/vnd.docker."), "{name}");
        assert!(oci.header("content-type").starts_with("application/vnd.oci."), "{name}");
        for answer in [docker, oci] {
            let again = registry.manifest(name, answer.header("docker-content-digest"));
            assert_eq!(again.body, answer.body, "{name}");
            assert_eq!(again.header("content-type"), answer.header("content-type"), "{name}");
        }
    }
}

#[test]
fn what_is_missing_is_404_and_what_is_malformed_is_400() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    registry.pull("packages/hello", "latest");
    let unknown = sha256(b"nothing has this digest");
    for (path, status, code) in [
        ("manifests/missing-sdjfksjdf".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("manifests/.INVALID_MANIFEST_NAME".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("manifests/{unknown}"), 404, "MANIFEST_UNKNOWN"),
        ("manifests/sha256:baddigeststring".to_owned(), 400, "DIGEST_INVALID"),
        (format!("blobs/{unknown}"), 404, "BLOB_UNKNOWN"),
        ("blobs/sha256:baddigeststring".to_owned(), 400, "DIGEST_INVALID"),
        ("referrers/sha256:baddigeststring".to_owned(), 400, "DIGEST_INVALID"),
    ] {
        let answer = registry.get(&format!("/v2/packages/hello/{path}"));
        assert_eq!((answer.status, answer.error().0.as_str()), (status, code), "{path}");
    }
    assert_eq!(registry.logged("building"), 1, "only what was pulled is built");
}

#[test]
fn a_digest_is_served_under_the_names_that_lead_to_it_and_no_other() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let digest = registry.pull("packages/hello", "latest");
    let layer = registry.manifest("packages/hello", &digest).json()["layers"][0]["digest"].clone();
    let layer = layer.as_str().unwrap();
    assert_eq!(registry.blob("packages/hello", layer).status, 200);
    for other in ["packages/myApp", "packages/nothing", "nothing"] {
        assert_eq!(registry.blob(other, layer).status, 404, "{other}");
    }
    assert_eq!(registry.manifest("packages/nothing", &digest).status, 404);
}

#[test]
fn tags_are_listed_in_pages() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let list = |query: &str| registry.get(&format!("/v2/packages/hello/tags/list{query}"));
    assert_eq!(list("").json()["tags"], serde_json::json!(["1.0.0", "latest", "stable"]));
    let first = list("?n=2");
    assert_eq!(first.json()["tags"], serde_json::json!(["1.0.0", "latest"]));
    assert_eq!(first.header("link"), "</v2/packages/hello/tags/list?n=2&last=latest>; rel=\"next\"");
    let rest = list("?n=2&last=latest");
    assert_eq!((rest.json()["tags"].clone(), rest.header("link")), (serde_json::json!(["stable"]), ""));
    assert_eq!(list("?n=0").json()["tags"], serde_json::json!([]));
    assert_eq!(registry.logged("building"), 0, "a list of tags builds nothing");
    assert_eq!(registry.get("/v2/packages/nothing/tags/list").error().0, "NAME_UNKNOWN");
}

#[test]
fn the_catalog_has_what_the_flake_offers_and_what_was_served() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    registry.pull("hello", "latest");
    let names = registry.get("/v2/_catalog").json()["repositories"].clone();
    for name in ["hello", "packages/hello", "packages/multi"] {
        assert!(names.as_array().unwrap().iter().any(|n| n == name), "{name} in {names}");
    }
}

#[test]
fn referrers_are_an_empty_index_for_now() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let path = format!("/v2/packages/hello/referrers/{}", sha256(b"x"));
    let answer = registry.get(&path);
    assert_eq!(answer.header("content-type"), "application/vnd.oci.image.index.v1+json");
    assert_eq!(answer.json()["manifests"], serde_json::json!([]));
    let filtered = registry.get(&format!("{path}?artifactType=a/b"));
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
}

#[test]
fn nothing_can_be_written() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    for (method, path) in [
        ("POST", "/v2/packages/hello/blobs/uploads/"),
        ("PUT", "/v2/packages/hello/manifests/latest"),
        ("DELETE", "/v2/packages/hello/manifests/latest"),
        ("PATCH", "/v2/packages/hello/blobs/uploads/1"),
    ] {
        let answer = registry.request(method, path, &[]);
        assert_eq!((answer.status, answer.error().0.as_str()), (405, "UNSUPPORTED"), "{method}");
    }
}
