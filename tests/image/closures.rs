//! Names of store paths that a build does not refer to: nothing of these is opened, whatever names them.

use super::support::*;
use forge_registry::{
    image::{self, ImageError, Options, Package},
    nix::StorePath,
    oci::{Digest, Platform},
};
use serde_json::{Value, json};
use std::{fs, num::NonZeroUsize, os::unix::fs::symlink, path::Path};

/// A store with an image, and something to make one of, that nothing refers to.
fn host() -> Host {
    let mut host = Host::new();
    host.closure = Some(vec![]);
    host.file("secret", &docker_archive(&[layer("secret")]));
    host.folder(
        "secrets",
        &[("layer.tar", &layer("x")), ("checksum", Digest::of(&layer("x")).hex().as_bytes())],
    );
    host
}

fn link(host: &Host, name: &str, target: &str) -> StorePath {
    symlink(host.path(target), host.path(name)).unwrap();
    object(name)
}

/// Checks that an object is refused because of what it names, and is not once its build refers to that.
fn refused(mut host: Host, object: &StorePath, named: &str) {
    let error = host.read(object).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, ImageError::OutOfClosure { .. }), "{said}");
    assert!(said.contains(host.path(named).to_str().unwrap()), "{named} is not named: {said}");
    host.assert_cache_is_empty();
    assert_eq!(host.reader.lists.total_bytes(), 0);
    host.closure = None;
    if let Err(error) = host.read(object) {
        assert!(!matches!(error, ImageError::OutOfClosure { .. }), "{error}");
    }
}

#[test]
fn an_output_that_is_a_link() {
    let host = host();
    let image = link(&host, "image", "secret");
    refused(host, &image, "secret");
}

#[test]
fn a_link_over_links_to_what_is_in_the_closure() {
    // Each of them has to be in it: what leads there is foreign, too.
    let mut host = host();
    link(&host, "between", "secret");
    let image = link(&host, "image", "between");
    host.closure = Some(vec![object("secret")]);
    refused(host, &image, "between");
}

#[test]
fn a_folder_of_archives() {
    let host = host();
    let folder =
        host.folder("folder", &[("app.tar", format!("-> {}", host.path("secret").display()).as_bytes())]);
    let error = host.member(&folder, "app").unwrap_err();
    assert!(matches!(error, ImageError::OutOfClosure { .. }), "{error}");
    refused(host, &folder, "secret");
}

#[test]
fn a_layout() {
    let mut layout = Layout::default();
    let tar = layer("x");
    let manifest =
        layout.image("amd64", &[(tar.clone(), tar.clone(), "application/vnd.oci.image.layer.v1.tar")], false);
    layout.index.push(manifest);
    for member in ["index.json", "blobs/sha256", &format!("blobs/sha256/{}", Digest::of(&tar).hex())] {
        let host = host();
        let object = layout.folder(&host, "layout");
        let at = host.path("layout").join(member);
        fs::rename(&at, host.path("moved")).unwrap();
        symlink(host.path("moved"), at).unwrap();
        assert!(host.member(&object, "x").is_err());
        refused(host, &object, "moved");
    }
}

fn conf(host: &Host, changes: Value) -> Vec<u8> {
    let mut conf = json!({
        "architecture": "amd64", "created": "now", "config": {}, "store_dir": host.store.as_path(), "store_layers": [],
    });
    conf.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::to_vec(&conf).unwrap()
}

#[test]
fn a_streamed_image() {
    let path = |host: &Host, name: &str| host.path(name).to_str().unwrap().to_owned();
    let cases: [fn(String) -> Value; 3] = [
        |secret| json!({ "store_layers": [[secret]] }),
        |secret| json!({ "from_image": secret }),
        |secret| json!({ "customisation_layer": secret }),
    ];
    for (case, named) in cases.iter().zip(["secret", "secret", "secrets"]) {
        let host = host();
        let object = host.file("x-conf.json", &conf(&host, case(path(&host, named))));
        refused(host, &object, named);
    }
    // By a script.
    for (program, named) in [("bash", "x-conf.json"), ("stream", "stream")] {
        let mut host = host();
        host.file("x-conf.json", &conf(&host, json!({})));
        host.file("stream", b"#!/usr/bin/python3.12\n");
        let script = format!("#! /bin/sh\nexec {} {}\n", path(&host, program), path(&host, "x-conf.json"));
        let object = host.file("script", script.as_bytes());
        if named == "stream" {
            host.closure = Some(vec![super::support::object("x-conf.json")]);
        }
        refused(host, &object, named);
    }
}

#[test]
fn a_description_of_nix2container() {
    let zeroes = format!("sha256:{}", "0".repeat(64));
    for (key, value) in [("layer-path", json!("SECRET")), ("paths", json!([{ "path": "SECRET" }]))] {
        let host = host();
        let mut layer = json!({ "digest": zeroes, "diff_ids": zeroes });
        layer[key] = value;
        let image = json!({ "version": 1, "image-config": {}, "arch": "amd64", "layers": [layer] });
        let text = image.to_string().replace("SECRET", host.path("secret").to_str().unwrap());
        let object = host.file("image.json", text.as_bytes());
        refused(host, &object, "secret");
    }
}

#[test]
fn a_blob_that_is_made_again() {
    let mut host = Host::new();
    let layers = [layer("x")];
    host.file("secret", &gzip(&docker_archive(&layers)));
    let image = link(&host, "image", "secret");
    host.read(&image).unwrap();
    let (digest, size) = (Digest::of(&layers[0]), layers[0].len() as u64);
    host.reader.cache.remove(&digest).unwrap();
    host.closure = Some(vec![]);
    let error = host.recreate(&image, digest, size).unwrap_err();
    assert!(matches!(error, ImageError::OutOfClosure { .. }), "{error}");
    host.assert_cache_is_empty();
    host.closure = None;
    host.recreate(&image, digest, size).unwrap();
}

#[test]
fn a_package() {
    let mut host = host();
    host.folder("outside", &[("bin/tool", b"#!/bin/sh\n")]);
    let app = host.folder("app", &[("share/text", b"text")]);
    for name in ["bin", "lib"] {
        symlink(host.path("outside"), host.path("app").join(name)).unwrap();
    }
    host.closure = Some(vec![app.clone()]);
    let platform =
        Platform { architecture: "amd64".into(), os: "linux".into(), os_version: None, variant: None };
    let package = Package { count: NonZeroUsize::MIN, platform, main_program: None, settings: None };
    let make = |host: &Host, layering| {
        image::of_packages(
            &host.reader(&app),
            std::slice::from_ref(&app),
            &package,
            layering,
            &Options::default(),
        )
    };
    let image = make(&host, vec![vec![app.clone()]]).unwrap();
    for (bytes, _) in host.layers(&image) {
        assert!(!bytes.windows(4).any(|part| part == b"tool"), "names of what is outside");
    }
    let error = make(&host, vec![vec![app.clone(), object("outside")]]).unwrap_err();
    assert!(matches!(error, ImageError::OutOfClosure { .. }), "{error}");
}

#[test]
fn the_store_folder_itself_describes_nothing_of_it() {
    for (target, expected) in [
        ("", "the store folder itself"),
        (".links", ".links\" is not the name of a store path"),
        ("..", "leads out of the store"),
        ("00bgd045z0d4icpbc2yyz4gx48ak44la-x/..", "00bgd045z0d4icpbc2yyz4gx48ak44la-x"),
    ] {
        let host = host();
        fs::create_dir(host.store.as_path().join(".links")).unwrap();
        fs::write(host.store.as_path().join(".links/secret-name"), "").unwrap();
        symlink(host.store.as_path().join(target), host.path("image")).unwrap();
        let image = object("image");
        for error in [host.read(&image).unwrap_err(), host.member(&image, "secret-name").unwrap_err()] {
            let said = error.to_string();
            assert!(said.contains(expected), "{target}: {expected} is missing in {said}");
            assert!(!said.contains("secret"), "{target}: {said}");
        }
        assert!(image::read_if_any(&host.reader(&image), &image, &Options::default(), false).is_err());
    }
    // By a link that does not say where the store is.
    let host = host();
    symlink(Path::new("."), host.path("image")).unwrap();
    let said = host.read(&object("image")).unwrap_err().to_string();
    assert!(said.contains("the store folder itself"), "{said}");
}
