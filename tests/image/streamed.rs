//! Streamed images: the script and the configuration of nixpkgs, the configuration of flakeforge.

use crate::support::{Host, Tar, config_of, gzip, layer, manifest_json};
use forge_registry::{
    blob::Source,
    image::{Image, ImageError},
    nix::StorePath,
    oci::{Digest, Manifest},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

/// Store paths to make layers from, and a customisation layer.
fn plant(host: &Host) -> [String; 4] {
    host.folder("one", &[("bin/one", b"one"), ("lib/\u{e9}", b"e"), ("lib/link", b"-> ../bin/one")]);
    host.folder("two", &[("share/two", &vec![2; 300_000]), ("empty/", b"")]);
    host.file("three", b"three");
    let tar = layer("customised");
    host.folder("custom", &[("layer.tar", &tar), ("checksum", Digest::of(&tar).hex().as_bytes())]);
    ["one", "two", "three", "custom"].map(|name| host.path(name).to_str().unwrap().to_owned())
}

fn conf(host: &Host) -> Value {
    let [one, two, three, custom] = plant(host);
    json!({
        "architecture": "amd64",
        "config": { "Env": ["PATH=/bin", "X=1"], "Cmd": [format!("{one}/bin/one")], "Labels": { "\u{e9}": "\"\u{1f600}" } },
        "os": "linux",
        "store_dir": host.store.as_path(),
        "from_image": null,
        "store_layers": [[one, two], [three]],
        "customisation_layer": custom,
        "repo_tag": "hello:stable",
        "created": "2024-02-29T12:00:00+00:00",
    })
}

fn newer(host: &Host) -> Value {
    let mut conf = conf(host);
    for (key, value) in [
        ("mtime", "1970-01-01T00:00:01+00:00"),
        ("uid", "1000"),
        ("gid", "100"),
        ("uname", "me"),
        ("gname", "users"),
    ] {
        conf[key] = value.into();
    }
    conf
}

fn write(host: &Host, conf: &Value) -> StorePath {
    host.file("hello-conf.json", &serde_json::to_vec(conf).unwrap())
}

/// The reference's archive of the configuration in the store, read as the archive it is.
fn reference(host: &Host, options: &[&str]) -> Image {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/stream.py");
    let output = Command::new("python3")
        .arg(script)
        .arg("image")
        .arg(host.path("hello-conf.json"))
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let archive = host.file("reference.tar", &output.stdout);
    host.read(&archive).unwrap()
}

fn config(host: &Host, image: &Image) -> String {
    let manifest: Manifest = serde_json::from_slice(&image.oci.bytes).unwrap();
    let blob = image.blobs.iter().find(|blob| blob.digest == manifest.config.digest).unwrap();
    String::from_utf8(host.bytes(blob)).unwrap()
}

fn assert_same(host: &Host, found: &Image, expected: &Image) {
    if found.oci.digest != expected.oci.digest {
        assert_eq!(config(host, found), config(host, expected));
    }
    assert_eq!((found.oci.digest, &found.tags), (expected.oci.digest, &expected.tags));
    for blob in &found.blobs {
        // Checks the digest.
        host.bytes(blob);
    }
}

#[test]
fn old_and_new_configurations_yield_the_bytes_that_nixpkgs_writes() {
    for make in [conf, newer] {
        let host = Host::new();
        let object = write(&host, &make(&host));
        let image = host.read(&object).unwrap();
        assert_same(&host, &image, &reference(&host, &[]));
        assert_eq!(image.tags, ["stable"]);
        let computed = image.blobs.iter().filter(|b| matches!(b.source, Source::Virtual { .. })).count();
        let stored = image.blobs.iter().filter(|b| matches!(b.source, Source::Store { .. })).count();
        assert_eq!((computed, stored, host.reader.cache.total_bytes()), (2, 1, 0));
    }
}

#[test]
fn a_script_is_read_for_its_configuration_and_for_how_its_program_writes() {
    let host = Host::new();
    write(&host, &newer(&host));
    let path = |name: &str| host.path(name).display().to_string();
    for (python, mode, options) in [
        ("3.12", "0o0755", ["755", "Python"]),
        ("3.9", "0o0555", ["555", "Python"]),
        ("3.8", "0o0555", ["555", "OldPython"]),
    ] {
        let program = format!("#!/usr/bin/python{python}\n    ti.mode = {mode}  # rwxr-xr-x\n");
        host.file("stream", program.as_bytes());
        let script = format!(
            "#! {}/bin/bash -e\nexec \"{}\"  {} \"$@\" \n",
            path("bash-5.2"),
            path("stream"),
            path("hello-conf.json")
        );
        let object = host.file("stream-hello", script.as_bytes());
        assert_same(&host, &host.read(&object).unwrap(), &reference(&host, &options));
        // As a member of a folder, too.
        host.folder("containers", &[]);
        let _ = symlink(host.path("stream-hello"), host.path("containers").join("web"));
        let member = host.member(&crate::support::object("containers"), "web").unwrap();
        assert_eq!(member.oci.digest, host.read(&object).unwrap().oci.digest);
    }
}

/// A docker-archive of these layers, whose configuration has this environment.
fn base_with(env: &[&str], layers: &[Vec<u8>]) -> Vec<u8> {
    let mut config: Value = serde_json::from_slice(&config_of(layers).1).unwrap();
    config["config"]["Env"] = json!(env);
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tar = names.iter().zip(layers).fold(Tar::new(), |tar, (name, layer)| tar.file(name, layer));
    let config = serde_json::to_vec(&config).unwrap();
    tar.file("config.json", &config).file("manifest.json", &manifest_json("config.json", &names)).done()
}

#[test]
fn a_base_image_comes_first_and_gives_its_environment() {
    for compress in [<[u8]>::to_vec, gzip] {
        let host = Host::new();
        let base = base_with(&["A=1", "PATH=/base", "B=2"], &[layer("base"), layer("second")]);
        host.file("base.tar.gz", &compress(&base));
        let mut conf = newer(&host);
        conf["from_image"] = host.path("base.tar.gz").to_str().unwrap().into();
        let object = write(&host, &conf);
        let image = host.read(&object).unwrap();
        assert_same(&host, &image, &reference(&host, &[]));
        assert_eq!(host.layers(&image).len(), 5);
        let config: Value = serde_json::from_str(&config(&host, &image)).unwrap();
        // Of its own, `conf` has PATH and X.
        assert_eq!(config["config"]["Env"], json!(["A=1", "PATH=/bin", "B=2", "X=1"]));
        for blob in image.blobs.iter().filter(|blob| blob.source == Source::Cache) {
            host.reader.cache.remove(&blob.digest).unwrap();
            host.recreate(&object, blob.digest, blob.size).unwrap();
            host.bytes(blob);
        }
    }
}

#[test]
fn layers_that_are_known_are_not_read_again_and_lost_or_damaged_lists_are_made_again() {
    let host = Host::new();
    let object = write(&host, &conf(&host));
    let image = host.read(&object).unwrap();
    let lists = || -> Vec<_> {
        let mut lists: Vec<_> =
            fs::read_dir(host.reader.lists.dir()).unwrap().map(|e| e.unwrap().path()).collect();
        lists.sort();
        lists
    };
    let before = lists();
    assert_eq!(before.len(), 2);
    fs::remove_file(&before[0]).unwrap();
    fs::remove_file(&before[1]).unwrap();
    let again = host.read(&object).unwrap();
    assert_eq!((again.oci.digest, lists()), (image.oci.digest, before.clone()));
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let inodes: Vec<_> = before.iter().map(|path| inode(path)).collect();
    host.read(&object).unwrap();
    assert_eq!(inodes, before.iter().map(|path| inode(path)).collect::<Vec<_>>());
    let bytes = fs::read(&before[0]).unwrap();
    fs::remove_file(&before[0]).unwrap();
    fs::write(&before[0], &bytes[..bytes.len() - 5]).unwrap();
    assert_eq!(host.read(&object).unwrap().oci.digest, image.oci.digest);
    assert_eq!(fs::read(&before[0]).unwrap(), bytes);
}

#[test]
fn now_is_when_the_configuration_was_built_so_digests_do_not_change_from_look_to_look() {
    let host = Host::new();
    let mut conf = newer(&host);
    conf["created"] = "now".into();
    let object = write(&host, &conf);
    let first = host.read(&object).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(host.read(&object).unwrap().oci.digest, first.oci.digest);
}

/// A script that names a program and a configuration.
fn script(host: &Host, program: &Path, conf: &Path) -> StorePath {
    let text = format!("#! /bin/sh\nexec \"{}\"  {} \"$@\" \n", program.display(), conf.display());
    host.file("stream-hello", text.as_bytes())
}

/// Reads what has to be refused, and leaves nothing behind.
fn refused_object(host: &Host, object: &StorePath) -> String {
    let error = host.read(object).unwrap_err();
    host.assert_cache_is_empty();
    assert_eq!(host.reader.lists.total_bytes(), 0);
    assert!(!matches!(error, ImageError::Io { .. }), "not the system's fault: {error}");
    error.to_string()
}

/// The same of a configuration, by itself and named by a script.
fn refused(host: &Host, conf: &Value) -> String {
    let said = refused_object(host, &write(host, conf));
    let program = host.path("stream");
    host.file("stream", b"#!/usr/bin/python3.12\n");
    let by_script = refused_object(host, &script(host, &program, &host.path("hello-conf.json")));
    assert_eq!(by_script, said);
    said
}

#[test]
fn hostile_configurations_are_refused_in_clear_words_and_nothing_outside_the_store_is_read() {
    let host = Host::new();
    let secret = host.dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let store = host.store.as_path().to_str().unwrap().to_owned();
    let good = newer(&host);
    symlink(&secret, host.path("leads-out")).unwrap();
    fs::create_dir(host.path("no-layer")).unwrap();
    fs::write(host.path("no-layer").join("checksum"), "0".repeat(64)).unwrap();
    host.folder("wrong", &[("layer.tar", &layer("x")), ("checksum", "0".repeat(64).as_bytes())]);
    host.folder("odd", &[("layer.tar", &layer("x")), ("checksum", b"sha256:abc")]);
    host.folder("text", &[("layer.tar", b"text"), ("checksum", Digest::of(b"text").hex().as_bytes())]);
    fs::create_dir(host.path("out-layer")).unwrap();
    fs::write(host.path("out-layer").join("checksum"), Digest::of(b"secret").hex()).unwrap();
    symlink(&secret, host.path("out-layer").join("layer.tar")).unwrap();
    host.file("text.txt", b"no archive");
    let path = |name: &str| host.path(name).to_str().unwrap().to_owned();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("store_layers", json!([["/etc/passwd"]]), "not in the Nix store"),
        ("store_layers", json!([[secret]]), "not in the Nix store"),
        ("store_layers", json!([[format!("{store}/../secret")]]), "not in the Nix store"),
        ("store_layers", json!([[format!("{}/../../secret", path("one"))]]), "not in the Nix store"),
        ("store_layers", json!([[format!("{}/bin", path("one"))]]), "not the name of a store path"),
        ("store_layers", json!([[store]]), "not in the Nix store"),
        ("store_layers", json!([[path("gone")]]), "which it does not contain"),
        ("store_layers", json!("all"), "not a list of lists"),
        ("store_layers", json!([[1]]), "not a list of lists"),
        ("store_layers", json!([vec![path("one"); 100_001]]), "exceeds a limit"),
        ("store_layers", json!(vec![[path("one")]; 501]), "more than 500 layers"),
        ("store_dir", json!("/gnu/store"), "this store is"),
        ("store_dir", Value::Null, "no \"store_dir\""),
        ("architecture", Value::Null, "no \"architecture\""),
        ("created", json!("yesterday"), "neither ISO 8601 nor now"),
        ("created", Value::Null, "no \"created\""),
        ("uid", json!("root"), "\"uid\" is not a number"),
        ("customisation_layer", json!(path("gone")), "which it does not contain"),
        ("customisation_layer", json!(path("no-layer")), "layer.tar"),
        ("customisation_layer", json!(path("wrong")), "the checksum beside it says sha256:0000"),
        ("customisation_layer", json!(path("odd")), "no SHA-256"),
        ("customisation_layer", json!(path("text")), "not a plain tar archive"),
        ("customisation_layer", json!(path("out-layer")), "not in the store"),
        ("customisation_layer", json!("/etc"), "not in the store"),
        ("customisation_layer", json!(["/etc"]), "not a string"),
        ("from_image", json!("/etc/passwd"), "not in the store"),
        ("from_image", json!(path("leads-out")), "not in the store"),
        ("from_image", json!(path("gone")), "which it does not contain"),
        ("from_image", json!(path("text.txt")), "a text file"),
        ("from_image", json!(7), "not a string"),
    ];
    for (key, value, expected) in cases {
        let mut conf = good.clone();
        conf[key] = value;
        let said = refused(&host, &conf);
        assert!(
            said.contains(expected),
            "{key}: {expected:?} is missing in: {}",
            &said[..said.len().min(500)]
        );
        assert!(said.len() < 1500, "{key}: {} bytes", said.len());
    }
    // A link in a layer is an entry; what it leads to is not looked at.
    let mut conf = good.clone();
    conf["store_layers"] = json!([[path("leads-out")]]);
    let image = host.read(&write(&host, &conf)).unwrap();
    let (bytes, _) = &host.layers(&image)[0];
    // /nix, /nix/store and the link, whose name fits or takes an extended header.
    assert_eq!(bytes.len(), 10_240);
}

#[test]
fn a_script_leads_nowhere_outside_the_store() {
    let host = Host::new();
    let secret = host.dir.path().join("secret.json");
    let good = newer(&host);
    fs::write(&secret, good.to_string()).unwrap();
    write(&host, &good);
    let conf = host.path("hello-conf.json");
    symlink(&secret, host.path("out-conf.json")).unwrap();
    symlink(&secret, host.path("stream")).unwrap();
    let store = host.store.as_path().join("..").join("secret.json");
    for (program, conf, expected) in [
        (host.path("one"), host.path("out-conf.json"), "not in the store"),
        (host.path("stream"), conf, "not in the store"),
        // Of these nothing is looked at, so they are scripts like any other.
        (host.path("one"), secret, "a script"),
        (host.path("one"), store, "a script"),
    ] {
        let said = refused_object(&host, &script(&host, &program, &conf));
        assert!(said.contains(expected), "{expected:?} is missing in: {said}");
    }
}

#[test]
fn a_layer_of_more_files_than_may_be_is_refused() {
    let mut host = Host::new();
    let conf = conf(&host);
    // Of the larger layer: /nix and /nix/store, `one` with two folders and three files, `two` with two folders and a file.
    host.reader.limits.max_layer_files = 11;
    let said = refused(&host, &conf);
    assert!(
        said.contains("more than 11 files, folders and links") && said.contains("MAX_LAYER_FILES"),
        "{said}"
    );
    host.reader.limits.max_layer_files = 12;
    host.read(&write(&host, &conf)).unwrap();
}

#[test]
fn a_million_paths_are_refused_before_anything_is_made_of_them() {
    let host = Host::new();
    let mut conf = newer(&host);
    conf["store_layers"] = json!([vec![host.path("one").to_str().unwrap(); 1_000_000]]);
    let said = refused(&host, &conf);
    assert!(said.contains("exceeds a limit") && said.contains("the configuration"), "{said}");
}

#[test]
fn scripts_and_json_that_are_no_image_are_told_as_what_they_are() {
    let host = Host::new();
    let named = format!("#!/bin/sh\nexec {} \"$@\"\n", host.path("gone-conf.json").display());
    for (text, expected) in [
        ("{\"name\": \"x\"}", "a JSON file"),
        ("{\"store_layers\": ", "a JSON file"),
        ("#!/bin/sh\necho\n", "a script"),
        ("#!/bin/sh\nexec /nix/store/../../etc/x.json\n", "a script"),
        (&named, "gone-conf.json"),
    ] {
        let said = host.refused(text.as_bytes());
        assert!(said.contains(expected), "{expected:?} is missing in: {said}");
    }
}
