//! nix2container's images, as clients see them.

use crate::{
    bed::Bed,
    support::{Flake, Registry, layers, nix, sha256},
};
use serde_json::Value;
use std::{fs, path::PathBuf, process::Command};

const NAME: &str = "hello-nix2container";

/// What the description states about its layers.
fn stated(flake: &Flake, key: &str) -> Vec<String> {
    let attribute = format!("{}#{NAME}.image", flake.reference());
    let output = nix("nix", &["build", "--impure", "--no-link", "--print-out-paths", &attribute]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    let image: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let layers = image["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn skopeo_pulls_the_digests_that_are_stated_and_a_restart_needs_no_hashing() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    let dir = tempfile::tempdir().unwrap();
    let source = format!("docker://{}/{NAME}:latest", registry.address);
    let copy = Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--preserve-digests", &source])
        .arg(format!("dir:{}", dir.path().display()))
        .output()
        .unwrap();
    assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stderr));
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
    let file = |digest: &Value| fs::read(dir.path().join(&digest.as_str().unwrap()[7..])).unwrap();
    let digests = stated(&flake, "digest");
    for (layer, digest) in manifest["layers"].as_array().unwrap().iter().zip(&digests) {
        assert_eq!(
            (layer["digest"].as_str(), sha256(&file(&layer["digest"]))),
            (Some(digest.as_str()), digest.clone())
        );
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
    }
    let config: Value = serde_json::from_slice(&file(&manifest["config"]["digest"])).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(stated(&flake, "diff_ids")));
    assert_eq!(config["history"], serde_json::json!([{ "created_by": "nix2container" }, {}]));
    assert_eq!((&config["config"]["User"], &config["architecture"]), (&"1000".into(), &"amd64".into()));
    assert!(fs::read_dir(registry.state.join("blobs")).unwrap().next().is_none(), "no layer is on the disk");

    let read = registry.logged("indexed");
    let first = registry.pull(NAME, "latest");
    for stop in [true, false] {
        if stop {
            assert!(registry.stop().success());
        } else {
            registry.kill();
        }
        registry.run();
        assert_eq!(registry.pull(NAME, "latest"), first);
    }
    assert_eq!(registry.logged("indexed"), read, "nothing was hashed again");

    // An entry list that is lost, or of another version's format, is made again.
    registry.kill();
    let list = fs::read_dir(registry.state.join("layers")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&list).unwrap();
    for change in [None, Some("forge-registry layer 1\n".as_bytes())] {
        fs::remove_file(&list).unwrap();
        if let Some(magic) = change {
            fs::write(&list, [magic, &bytes[magic.len()..]].concat()).unwrap();
        }
        registry.run();
        for digest in &digests {
            let blob = registry.blob(NAME, digest);
            assert_eq!((blob.status, sha256(&blob.body)), (200, digest.clone()));
        }
        registry.kill();
        assert_eq!(fs::read(&list).unwrap(), bytes);
    }
}

#[test]
fn store_paths_and_layer_files_that_were_collected_are_built_again() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, &[("TAG_TTL", "1h"), ("MAX_MAPPED_FILES", "1")]);
    let digest = registry.pull(NAME, "latest");
    // What is rooted stays, with all that the description names.
    bed.collect_garbage();
    assert!(bed.store_path("-root").is_some() && bed.store_path("-base.tar").is_some());
    assert_eq!(registry.pull(NAME, "latest"), digest);
    registry.kill();
    for link in fs::read_dir(registry.state.join("gcroots")).unwrap() {
        fs::remove_file(link.unwrap().path()).unwrap();
    }
    bed.collect_garbage();
    assert!(bed.store_path("-root").is_none() && bed.store_path("-base.tar").is_none());
    registry.run();
    for layer in layers(&registry.manifest(NAME, &digest)) {
        let blob = registry.blob(NAME, &layer);
        assert_eq!((blob.status, sha256(&blob.body)), (200, layer));
    }
    assert_eq!(registry.pull(NAME, "latest"), digest);
}

#[test]
fn a_digest_that_the_bytes_do_not_have_is_an_error_that_names_the_layer_and_both() {
    let zeroes = "0".repeat(64);
    let script = |source: &str| {
        format!(
            r#"printf '{{"version":1,"image-config":{{}},"arch":"amd64","layers":[{{"digest":"sha256:{zeroes}",
            "diff_ids":"sha256:{zeroes}",{source}}}]}}' "$hello" >$out"#
        )
    };
    let flake = Flake::of_scripts(&[
        ("computed", &script(r#""paths":[{"path":"%s"}]"#)),
        ("file", &script(r#""layer-path":"%s""#)),
    ]);
    let registry = Registry::start(&flake, &[]);
    for name in ["computed", "file"] {
        let message =
            registry.manifest(&format!("packages/{name}"), "latest").is_error(422, "MANIFEST_UNKNOWN");
        for part in [
            "layer 1 of 1 (",
            "-docker-image-hello.tar)",
            &format!("sha256:{zeroes}"),
            "but its bytes have sha256:",
        ] {
            assert!(message.contains(part), "{part:?} is missing in {message}");
        }
    }
    for folder in ["layers", "blobs"] {
        assert!(
            fs::read_dir(registry.state.join(folder)).unwrap().next().is_none(),
            "{folder}: nothing is left"
        );
    }
}
