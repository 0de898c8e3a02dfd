//! Compression, on the wire and in the cache.

use crate::support::{Flake, Registry, layers, sha256};
use std::{
    fs::{self, File},
    io::Read,
    time::UNIX_EPOCH,
};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER: &[(&str, &str)] = &[("accept", "application/vnd.docker.distribution.manifest.v2+json")];

/// Images of every kind that layers are compressed of: from archives, plain and compressed; computed; of a package.
const IMAGES: [&str; 5] = ["hello", "hello-plain", "hello-streamed", "hello-streamed-base", "packages/greet"];

fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => drop(flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        "zstd" => zstd::stream::copy_decode(bytes, &mut out).unwrap(),
        other => panic!("{other:?}"),
    }
    out
}

fn diff_ids(registry: &Registry, name: &str, manifest: &serde_json::Value) -> Vec<String> {
    let config = registry.blob(name, manifest["config"]["digest"].as_str().unwrap()).json();
    let ids = config["rootfs"]["diff_ids"].as_array().unwrap().iter();
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[test]
fn layers_of_every_kind_are_encoded_for_whoever_accepts_it_and_are_what_their_digests_say() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[("ENCODING_MIN_RATE", "0")]);
    for name in IMAGES {
        for layer in layers(&registry.manifest(name, "latest")) {
            let path = format!("/v2/{name}/blobs/{layer}");
            let plain = registry.get(&path).body;
            for coding in ["gzip", "zstd"] {
                let answer = registry.request("GET", &path, &[("accept-encoding", coding)]);
                assert_eq!((answer.status, answer.header("content-encoding")), (200, coding));
                assert_eq!(answer.header("docker-content-digest"), layer);
                assert_eq!(answer.header("vary"), "Accept-Encoding");
                assert!(answer.body.len() < plain.len() / 4 * 3, "{name}");
                assert_eq!(sha256(&decoded(coding, &answer.body)), layer);
                let range = [("accept-encoding", coding), ("range", "bytes=512-1023")];
                let answer = registry.request("GET", &path, &range);
                assert_eq!((answer.status, answer.header("content-encoding")), (206, ""));
                assert_eq!(answer.body, plain[512..1024]);
            }
        }
    }
}

#[test]
fn compressed_layers_decode_to_their_diff_ids_and_are_the_same_again_after_a_crash_and_an_eviction() {
    let flake = Flake::new("");
    for (compression, coding, media_type) in [("gzip", "gzip", GZIP), ("zstd", "zstd", ZSTD)] {
        let mut registry = Registry::start(&flake, &[("LAYER_COMPRESSION", compression), ("TAG_TTL", "1h")]);
        let digests = IMAGES.map(|name| registry.pull(name, "latest"));
        let manifests = IMAGES.map(|name| registry.manifest(name, "latest").json());
        for (name, manifest) in IMAGES.iter().zip(&manifests) {
            let layers = manifest["layers"].as_array().unwrap();
            assert_eq!(layers.len(), diff_ids(&registry, name, manifest).len());
            for (layer, diff_id) in layers.iter().zip(diff_ids(&registry, name, manifest)) {
                assert_eq!(layer["mediaType"], media_type, "{name}");
                let digest = layer["digest"].as_str().unwrap();
                // What is compressed is not compressed once more.
                let path = format!("/v2/{name}/blobs/{digest}");
                let answer = registry.request("GET", &path, &[("accept-encoding", "gzip, zstd")]);
                assert_eq!(answer.header("content-encoding"), "");
                assert_eq!(sha256(&decoded(coding, &answer.body)), diff_id, "{name}");
                // The plain layer is there as well, for the other form and for whoever knows its digest.
                assert_eq!(sha256(&registry.blob(name, &diff_id).body), diff_id, "{name}");
            }
            let docker = registry.request("GET", &format!("/v2/{name}/manifests/latest"), DOCKER);
            let by_digest = registry.pull(name, docker.header("docker-content-digest"));
            assert_eq!(by_digest, docker.header("docker-content-digest"));
        }

        registry.kill();
        for file in fs::read_dir(registry.state.join("blobs")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        registry.run();
        for (name, digest) in IMAGES.iter().zip(&digests) {
            assert_eq!(registry.pull(name, digest), *digest);
        }
    }
}

#[test]
fn another_setting_is_another_image_and_the_former_one_stays_what_it_was() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    let plain = IMAGES.map(|name| registry.pull(name, "latest"));
    registry.stop();
    registry.set("LAYER_COMPRESSION", "zstd");
    registry.run();
    // Nothing has changed but the setting, and the tag's answer would still be fresh.
    let zstd = IMAGES.map(|name| registry.pull(name, "latest"));
    assert!(plain.iter().zip(&zstd).all(|(plain, zstd)| plain != zstd));
    registry.stop();
    registry.set("LAYER_COMPRESSION", "none");
    registry.run();
    assert_eq!(IMAGES.map(|name| registry.pull(name, "latest")), plain);
    // What is not there any more is made again as it was, whatever the setting says now.
    registry.stop();
    for folder in ["blobs", "layers"] {
        for file in fs::read_dir(registry.state.join(folder)).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
    registry.run();
    for (name, digest) in IMAGES.iter().zip(&zstd) {
        assert_eq!(registry.pull(name, digest), *digest);
    }
    assert_eq!(IMAGES.map(|name| registry.pull(name, "latest")), plain);
}

#[test]
fn images_share_compressed_layers_and_what_both_have_is_compressed_once() {
    let flake = Flake::new("");
    // Two images of the same layers, that differ in their configuration.
    flake.write_text(
        r#"{ outputs = _: let
            busybox = import <examples/busybox.nix>;
            make = name: text: derivation {
              inherit name text;
              passAsFile = [ "text" ];
              system = "x86_64-linux";
              builder = "${busybox}/busybox";
              args = [ "sh" "-c" "${busybox}/busybox cat $textPath >$out" ];
            };
            image = version: make "shared-conf.json" (builtins.toJSON {
              inherit version;
              architecture = "amd64";
              config.Labels = { inherit version; };
              created = "1970-01-01T00:00:01+00:00";
              store_dir = builtins.storeDir;
              store_layers = [ [ "${busybox}" ] [ "${make "text" "text"}" ] ];
            });
            package = version: { type = "derivation"; image = image version; };
          in { packages.x86_64-linux = { one = package "1"; two = package "2"; }; }; }"#,
    );
    for compression in ["gzip", "zstd"] {
        let registry = Registry::start(&flake, &[("LAYER_COMPRESSION", compression)]);
        let one = registry.pull("one", "latest");
        let first = layers(&registry.manifest("one", "latest"));
        assert_eq!(first.len(), 2);
        // Whatever is compressed is first written to a file of another name, which would be seen in the folder's time.
        let folder = registry.state.join("blobs");
        File::open(&folder).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert_ne!(registry.pull("two", "latest"), one);
        assert_eq!(layers(&registry.manifest("two", "latest")), first);
        assert_eq!(fs::metadata(&folder).unwrap().modified().unwrap(), UNIX_EPOCH);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }
}
