//! `LAYER_COMPRESSION`: layers that are kept compressed.

use crate::support::{COMPRESSIONS, Host, Tar, config_of, docker_archive, gzip, layer, manifest_json};
use forge_registry::{
    blob::Source,
    image::{self, Image, ImageError, LayerCompression, Options, Selection},
    nix::StorePath,
    oci::{Digest, Manifest, media_type},
};
use std::{
    fs::{self, File},
    io::Read,
    num::NonZeroUsize,
    time::UNIX_EPOCH,
};

const KINDS: [(LayerCompression, &str); 2] =
    [(LayerCompression::Gzip, "tar+gzip"), (LayerCompression::Zstd, "tar+zstd")];

fn read(host: &Host, object: &StorePath, compression: LayerCompression) -> Result<Image, ImageError> {
    let options = Options { compression, ..Default::default() };
    image::read(&host.reader(object), object, &Selection::Only, &options)
}

fn decompressed(kind: &str, bytes: &[u8]) -> Vec<u8> {
    match kind {
        "tar+gzip" => {
            let mut out = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap();
            out
        }
        "tar+zstd" => zstd::decode_all(bytes).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn docker_layers(image: &Image) -> Vec<(Digest, String)> {
    let manifest: Manifest = serde_json::from_slice(&image.docker.bytes).unwrap();
    manifest.layers.into_iter().map(|layer| (layer.digest, layer.media_type)).collect()
}

/// A layer of several blocks, the last of which is not full.
fn large() -> Vec<u8> {
    let mut state = 1u64;
    let text: String = (0..900_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ["lorem ", "ipsum ", "dolor sit ", "amet, ", "consectetur "][(state >> 40) as usize % 5]
        })
        .collect();
    let tar = layer(&text);
    assert!(tar.len() > 5 << 20 && !tar.len().is_multiple_of(4 << 20));
    tar
}

#[test]
fn plain_layers_are_compressed_and_everything_is_labelled_as_what_it_is() {
    let layers = vec![layer("base"), layer("application")];
    let archive = docker_archive(&layers);
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    for (name, compress) in COMPRESSIONS {
        for (compression, kind) in KINDS {
            let host = Host::new();
            let object = host.file("image", &compress(&archive));
            let image = read(&host, &object, compression).unwrap();
            let found = host.layers(&image);
            let found: Vec<_> =
                found.iter().map(|(b, kind)| (decompressed(kind, b), kind.as_str())).collect();
            assert_eq!(found, layers.iter().map(|l| (l.clone(), kind)).collect::<Vec<_>>(), "{name}");
            // The configuration, and so the image's ID, is what it always was.
            let plain = host.read(&object).unwrap();
            let config = |image: &Image| serde_json::from_slice::<Manifest>(&image.oci.bytes).unwrap().config;
            assert_eq!(config(&image), config(&plain));
            assert_ne!(image.oci.digest, plain.oci.digest);
            // Docker's form has a name for gzip and none for zstd.
            match compression {
                LayerCompression::Zstd => assert_eq!(
                    docker_layers(&image),
                    diff_ids.iter().map(|d| (*d, media_type::DOCKER_LAYER_TAR.into())).collect::<Vec<_>>()
                ),
                _ => assert!(docker_layers(&image).iter().all(|(_, t)| t == media_type::DOCKER_LAYER_GZIP)),
            }
            for (digest, _) in docker_layers(&image) {
                assert!(image.blobs.iter().any(|blob| blob.digest == digest));
            }
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_how_many_threads_there_are() {
    let layers = vec![large(), layer("small"), layer("smaller")];
    let archive = docker_archive(&layers);
    for (compression, kind) in KINDS {
        let digests: Vec<Digest> = [1, 2, 3, 8]
            .map(|threads| {
                let mut host = Host::new();
                host.reader.threads = NonZeroUsize::new(threads).unwrap();
                let image = read(&host, &host.file("image", &archive), compression).unwrap();
                let (bytes, found) = host.layers(&image).swap_remove(0);
                assert_eq!(found, kind);
                assert!(bytes.len() < layers[0].len() / 2);
                assert!(decompressed(kind, &bytes) == layers[0], "{threads} threads");
                image.oci.digest
            })
            .to_vec();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }
}

#[test]
fn layers_that_are_compressed_already_stay_what_they_are() {
    let host = Host::new();
    let (plain, zipped) = (layer("plain"), gzip(&layer("zipped")));
    let (config_name, config) = config_of(&[plain.clone(), layer("zipped")]);
    let archive = Tar::new()
        .file("0.tar", &plain)
        .file("1.tar", &zipped)
        .file(&config_name, &config)
        .file("manifest.json", &manifest_json(&config_name, &["0.tar", "1.tar"]))
        .done();
    let image = read(&host, &host.file("image", &archive), LayerCompression::Zstd).unwrap();
    let found = host.layers(&image);
    assert_eq!((found[0].1.as_str(), &found[1]), ("tar+zstd", &(zipped, "tar+gzip".to_owned())));
}

#[test]
fn an_evicted_layer_is_the_same_again_and_one_that_is_there_is_not_made_again() {
    for (compression, _) in KINDS {
        let host = Host::new();
        let object = host.file("image", &docker_archive(&[layer("one"), layer("two")]));
        let first = read(&host, &object, compression).unwrap();
        let compressed: Vec<_> =
            first.blobs.iter().filter(|blob| matches!(blob.source, Source::Compressed { .. })).collect();
        assert_eq!(compressed.len(), 2);
        let lists = |host: &Host| host.reader.lists.digests().len();
        assert_eq!(lists(&host), 2, "a note of each");

        let bytes = host.bytes(compressed[0]);
        host.reader.cache.remove(&compressed[0].digest).unwrap();
        assert_eq!(read(&host, &object, compression).unwrap().oci, first.oci);
        assert_eq!(host.bytes(compressed[0]), bytes);

        // Whatever is made is first written to a file of another name, which would be seen in the folders' times.
        let folders = [host.reader.cache.dir(), host.reader.lists.dir()];
        for folder in folders {
            File::open(folder).unwrap().set_modified(UNIX_EPOCH).unwrap();
        }
        assert_eq!(read(&host, &object, compression).unwrap().oci, first.oci);
        for folder in folders {
            assert_eq!(fs::metadata(folder).unwrap().modified().unwrap(), UNIX_EPOCH, "{folder:?}");
        }

        // A note is believed only if it is whole.
        let Source::Compressed { note } = compressed[1].source else { unreachable!() };
        let path = host.reader.lists.path(&note);
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, text.replace("\"size\":", "\"size\":1")).unwrap();
        assert_eq!(read(&host, &object, compression).unwrap().oci, first.oci);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn what_was_unpacked_only_to_be_compressed_does_not_stay() {
    let host = Host::new();
    let layers = [layer("one"), layer("two")];
    let object = host.file("image", &gzip(&docker_archive(&layers)));
    let image = read(&host, &object, LayerCompression::Gzip).unwrap();
    let mut left = host.reader.cache.digests();
    let mut expected: Vec<Digest> = docker_layers(&image).into_iter().map(|(digest, _)| digest).collect();
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    // It can be had all the same.
    host.recreate(&object, Digest::of(&layers[0]), layers[0].len() as u64).unwrap();
}

#[test]
fn a_layer_that_the_cache_cannot_take_is_an_error_that_leaves_nothing_behind() {
    let mut state = 1u64;
    let noise: Vec<u8> = (0..100_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .collect();
    let host = Host::with_cache(50_000);
    let tar = Tar::new().file("noise", &noise).done();
    let object = host.file("image", &docker_archive(&[tar]));
    let error = read(&host, &object, LayerCompression::Gzip).unwrap_err();
    assert!(error.to_string().contains("CACHE_MAX_BYTES"), "{error}");
    host.assert_cache_is_empty();
    assert!(host.reader.lists.digests().is_empty());
}
