//! OCI layouts, as folders and in archives.

use super::support::*;
use forge_registry::{
    blob::Source,
    image::{Image, ImageError},
    oci::{Digest, Index, Manifest, media_type},
};
use serde_json::json;

fn layers_of(text: &str) -> Vec<(Vec<u8>, Vec<u8>, &'static str)> {
    let (plain, second) = (layer(text), layer("zstd"));
    vec![
        (plain.clone(), gzip(&plain), media_type::OCI_LAYER_GZIP),
        (second.clone(), zstd(&second), media_type::OCI_LAYER_ZSTD),
        (plain.clone(), plain, media_type::OCI_LAYER_TAR),
    ]
}

fn named(mut descriptor: serde_json::Value, name: &str) -> serde_json::Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    descriptor
}

fn on(mut descriptor: serde_json::Value, os: &str, architecture: &str) -> serde_json::Value {
    descriptor["platform"] = json!({ "os": os, "architecture": architecture });
    descriptor
}

fn index_of(document: &forge_registry::oci::Document) -> Index {
    serde_json::from_slice(&document.bytes).unwrap()
}

#[test]
fn a_layout_keeps_its_manifest_byte_for_byte_whatever_it_is_wrapped_in() {
    let mut layout = Layout::default();
    let manifest = layout.image("amd64", &layers_of("x"), false);
    layout.index.push(named(manifest.clone(), "docker.io/library/hello:1.2"));
    let host = Host::new();
    let mut objects = vec![layout.folder(&host, "folder")];
    objects.extend(COMPRESSIONS.map(|(name, compress)| host.file(name, &compress(&layout.archive()))));
    for object in objects {
        let image = host.read(&object).unwrap();
        assert_eq!(json!(image.oci.digest), manifest["digest"]);
        assert_eq!(image.tags, ["1.2"]);
        let kinds: Vec<_> = host.layers(&image).into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, ["tar+gzip", "tar+zstd", "tar"]);
        let docker: Manifest = serde_json::from_slice(&image.docker.bytes).unwrap();
        assert_eq!(docker.media_type.as_deref(), Some(media_type::DOCKER_MANIFEST));
        assert_eq!(docker.layers[1].media_type, media_type::DOCKER_LAYER_ZSTD);
        assert_eq!(image.blobs.len(), 4);
        let cached = image.blobs.iter().any(|blob| blob.source == Source::Cache);
        assert_eq!(cached, ["gzip", "zstd", "xz"].iter().any(|c| object.name() == *c), "{object}");
    }
}

#[test]
fn a_docker_manifest_in_a_layout_is_kept_and_the_oci_form_is_derived() {
    let plain = layer("x");
    let mut layout = Layout::default();
    let manifest =
        layout.image("amd64", &[(plain.clone(), gzip(&plain), media_type::DOCKER_LAYER_GZIP)], true);
    layout.index.push(manifest.clone());
    let host = Host::new();
    let image = host.read(&layout.folder(&host, "docker")).unwrap();
    assert_eq!(json!(image.docker.digest), manifest["digest"]);
    assert_eq!(image.oci.media_type, media_type::OCI_MANIFEST);
    assert_eq!(host.layers(&image)[0].1, "tar+gzip");
}

/// Checks that both forms of an index lead to children that exist.
fn assert_leads_to_children(image: &Image) {
    for (root, list, single) in [
        (&image.oci, media_type::OCI_INDEX, media_type::OCI_MANIFEST),
        (&image.docker, media_type::DOCKER_MANIFEST_LIST, media_type::DOCKER_MANIFEST),
    ] {
        assert_eq!(root.media_type, list);
        for child in index_of(root).manifests {
            let found = image.children.iter().find(|document| document.digest == child.digest).unwrap();
            assert_eq!((found.media_type.as_str(), child.media_type.as_str()), (single, single));
            assert_eq!(child.size, found.bytes.len() as u64);
        }
    }
}

#[test]
fn an_index_of_several_platforms_is_served_in_both_forms_with_its_attestations() {
    let mut layout = Layout::default();
    let amd64 = on(layout.image("amd64", &layers_of("amd64"), false), "linux", "amd64");
    let arm64 = on(layout.image("arm64", &layers_of("arm64"), false), "linux", "arm64");
    let statement = br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#.to_vec();
    let attestation = layout.image(
        "unknown",
        &[(statement.clone(), statement.clone(), "application/vnd.in-toto+json")],
        false,
    );
    let attestation = on(attestation, "unknown", "unknown");
    let index = layout.index_blob(&[amd64.clone(), arm64.clone(), attestation.clone()]);
    layout.index.push(named(index.clone(), "latest"));
    let host = Host::new();
    for object in [layout.folder(&host, "folder"), host.file("archive", &gzip(&layout.archive()))] {
        let image = host.read(&object).unwrap();
        assert_eq!(json!(image.oci.digest), index["digest"], "verbatim");
        assert_leads_to_children(&image);
        assert_eq!(index_of(&image.oci).manifests.len(), 3);
        assert_eq!(index_of(&image.docker).manifests.len(), 2);
        let blob = image.blobs.iter().find(|blob| blob.digest == Digest::of(&statement)).unwrap();
        assert_eq!(host.bytes(blob), statement);
    }
}

#[test]
fn several_images_in_a_layout_become_an_index_if_their_platforms_differ() {
    let mut layout = Layout::default();
    let amd64 = layout.image("amd64", &layers_of("amd64"), false);
    let arm64 = layout.image("arm64", &layers_of("arm64"), false);
    layout.index = vec![named(amd64.clone(), "1.0"), named(arm64, "1.0")];
    let host = Host::new();
    let image = host.read(&layout.folder(&host, "platforms")).unwrap();
    assert_leads_to_children(&image);
    let index = index_of(&image.oci);
    let found: Vec<_> =
        index.manifests.iter().map(|d| d.platform.as_ref().unwrap().architecture.as_str()).collect();
    assert_eq!(found, ["amd64", "arm64"]);
    assert_eq!(image.tags, ["1.0"]);

    let other = layout.image("amd64", &layers_of("another"), false);
    layout.index = vec![named(amd64, "one"), named(other, "two")];
    let error = host.read(&layout.folder(&host, "several")).unwrap_err().to_string();
    assert!(error.contains("one (linux/amd64") && error.contains("two (linux/amd64"), "{error}");
}

#[test]
fn a_layout_in_a_docker_archive_is_preferred_if_it_is_complete() {
    let plain = layer("both");
    let mut layout = Layout::default();
    let manifest = layout.image("amd64", &[(plain.clone(), plain.clone(), media_type::OCI_LAYER_TAR)], false);
    let absent = on(
        json!({ "mediaType": media_type::OCI_MANIFEST, "digest": Digest::of(b"?"), "size": 1 }),
        "linux",
        "s390x",
    );
    let sparse = layout.index_blob(&[on(manifest.clone(), "linux", "amd64"), absent]);
    let config = layout.files.iter().find(|(_, bytes)| bytes.windows(6).any(|w| w == b"rootfs")).unwrap();
    let layer_name = format!("blobs/sha256/{}", Digest::of(&plain).hex());
    let json = manifest_json(&config.0, &[&layer_name]);
    layout.files.push(("manifest.json".into(), json.clone()));
    let host = Host::new();
    layout.index = vec![manifest.clone()];
    let image = host.read(&host.file("complete", &layout.archive())).unwrap();
    assert_eq!(json!(image.oci.digest), manifest["digest"]);
    layout.index = vec![sparse];
    for (name, compress) in COMPRESSIONS {
        let image = host.read(&host.file(name, &compress(&layout.archive()))).unwrap();
        assert_eq!(image.tags, ["1.0"]);
        assert_eq!(host.layers(&image)[0].0, plain);
    }
    layout.files.retain(|(name, _)| name != "manifest.json");
    let error = host.read(&layout.folder(&host, "sparse")).unwrap_err();
    assert!(matches!(error, ImageError::Incomplete { .. }), "{error}");
}

#[test]
fn blobs_of_a_layout_folder_may_be_links_into_the_store_but_not_out_of_it() {
    let mut layout = Layout::default();
    let plain = layer("linked");
    let manifest = layout.image("amd64", &[(plain.clone(), plain.clone(), media_type::OCI_LAYER_TAR)], false);
    layout.index.push(manifest);
    let host = Host::new();
    host.file("the-layer", &plain);
    let name = format!("blobs/sha256/{}", Digest::of(&plain).hex());
    let outside = host.dir.path().join("outside");
    std::fs::write(&outside, &plain).unwrap();
    for (object_name, target) in [("inside", host.path("the-layer")), ("escaping", outside)] {
        layout.files.retain(|(n, _)| *n != name);
        layout.files.push((name.clone(), format!("-> {}", target.display()).into_bytes()));
        let result = host.read(&layout.folder(&host, object_name));
        if object_name == "inside" {
            let image = result.unwrap();
            let layer = image.blobs.iter().find(|blob| blob.digest == Digest::of(&plain)).unwrap();
            assert!(matches!(&layer.source, Source::Store { object: o, .. } if *o == object("the-layer")));
        } else {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("not in the store"), "{error}");
        }
    }
}

#[test]
fn what_a_layout_says_about_its_blobs_is_held_against_them() {
    type Change = fn(&mut Layout, &mut serde_json::Value);
    let cases: [(&str, &str, Change); 8] = [
        ("digest", "which is not what its name says", |layout, _| layout.files[1].1.push(0)),
        ("config", "which is not what its name says", |layout, _| layout.files[0].1.push(b' ')),
        ("missing", "which it does not contain", |layout, _| drop(layout.files.remove(1))),
        ("size", "but its descriptor states", |_, manifest| manifest["layers"][0]["size"] = json!(7)),
        ("huge", "its descriptor states 18446744073709551615", |_, manifest| {
            manifest["layers"][0]["size"] = json!(u64::MAX);
        }),
        ("sha512", "algorithm other than sha256", |_, manifest| {
            manifest["layers"][0]["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
        }),
        ("type", "is a plain tar archive, which is not what its media type", |_, manifest| {
            manifest["layers"][0]["mediaType"] = json!(media_type::OCI_LAYER_GZIP);
        }),
        ("config-type", "no layers, but", |_, manifest| manifest["layers"] = json!([])),
    ];
    for (name, expected, change) in cases {
        let plain = layer("x");
        let mut layout = Layout::default();
        layout.image("amd64", &[(plain.clone(), plain.clone(), media_type::OCI_LAYER_TAR)], false);
        let (_, manifest) = layout.files.pop().unwrap();
        let mut manifest = serde_json::from_slice(&manifest).unwrap();
        change(&mut layout, &mut manifest);
        let descriptor = layout.blob(media_type::OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
        layout.index.push(descriptor);
        for (kind, compress) in COMPRESSIONS {
            let host = Host::new();
            let said = host.refused(&compress(&layout.archive()));
            let expected = expected.replace("no layers, but", "0 layers, but");
            assert!(said.contains(&expected), "{name} in {kind}: {said}");
        }
        let host = Host::new();
        host.read(&layout.folder(&host, "hostile")).unwrap_err();
    }
}

#[test]
fn a_layout_with_a_fifo_or_a_link_for_an_index_does_not_hang_or_escape() {
    let mut layout = Layout::default();
    let plain = layer("x");
    let manifest = layout.image("amd64", &[(plain.clone(), plain.clone(), media_type::OCI_LAYER_TAR)], false);
    layout.index.push(manifest);
    let host = Host::new();
    let blob = format!("blobs/sha256/{}", Digest::of(&plain).hex());
    for (name, replaced) in [("index", "index.json"), ("layer", blob.as_str())] {
        let object = layout.folder(&host, name);
        let path = host.path(name).join(replaced);
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = host.read(&object).unwrap_err().to_string();
        assert!(error.contains("a FIFO"), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        let error = host.read(&object).unwrap_err().to_string();
        assert!(error.contains("not in the store"), "{error}");
    }
}
