//! What is understood.

use super::support::*;
use forge_registry::{
    blob::Source,
    image::{self, ImageError},
    oci::{Digest, media_type},
};
use tar::EntryType;

#[test]
fn a_docker_archive_of_any_compression_is_the_same_image() {
    let layers = vec![layer("base"), layer("application")];
    let archive = docker_archive(&layers);
    let mut digests = Vec::new();
    for (name, compress) in COMPRESSIONS {
        let host = Host::new();
        let image = host.read(&host.file("image", &compress(&archive))).unwrap();
        let found = host.layers(&image);
        assert_eq!(found, layers.iter().map(|l| (l.clone(), "tar".to_owned())).collect::<Vec<_>>(), "{name}");
        assert_eq!(image.tags, ["1.0"]);
        assert_eq!(image.oci.media_type, media_type::OCI_MANIFEST);
        assert_eq!(image.docker.media_type, media_type::DOCKER_MANIFEST);
        let stored = image.blobs.iter().filter(|b| matches!(b.source, Source::Store { .. })).count();
        assert_eq!(stored, if name == "plain" { 2 } else { 0 });
        digests.push((image.oci.digest, image.docker.digest));
        if name == "plain" {
            host.assert_cache_is_empty();
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "one image has one canonical manifest");
}

#[test]
fn an_archive_compressed_in_several_streams_is_read_to_its_end() {
    let layers = vec![layer("one"), layer("two")];
    let archive = docker_archive(&layers);
    for (name, compress) in COMPRESSIONS {
        let host = Host::new();
        let parts: Vec<u8> = archive.chunks(1000).flat_map(compress).collect();
        let image = host.read(&host.file("image", &parts)).unwrap();
        assert_eq!(host.layers(&image).len(), 2, "{name}");
    }
}

#[test]
fn layers_that_are_compressed_themselves_are_served_as_they_are() {
    let layers = vec![layer("gzip"), layer("zstd"), layer("xz"), layer("plain")];
    let members = [gzip(&layers[0]), zstd(&layers[1]), xz(&layers[2]), layers[3].clone()];
    let (config_name, config) = config_of(&layers);
    let archive = Tar::new()
        .file("0.tar", &members[0])
        .file("1.tar", &members[1])
        .file("2.tar", &members[2])
        .file("3.tar", &members[3])
        .file(&config_name, &config)
        .file("manifest.json", &manifest_json(&config_name, &["0.tar", "1.tar", "2.tar", "3.tar"]))
        .done();
    for (name, compress) in COMPRESSIONS {
        let host = Host::new();
        let object = host.file("image", &compress(&archive));
        let image = host.read(&object).unwrap();
        let expected = [
            (members[0].clone(), "tar+gzip"),
            (members[1].clone(), "tar+zstd"),
            (layers[2].clone(), "tar"),
            (members[3].clone(), "tar"),
        ];
        assert_eq!(host.layers(&image), expected.map(|(bytes, kind)| (bytes, kind.to_owned())), "{name}");
        for blob in image.blobs.iter().filter(|blob| blob.source == Source::Cache) {
            host.reader.cache.remove(&blob.digest).unwrap();
            host.recreate(&object, blob.digest, blob.size).unwrap();
            host.bytes(blob);
        }
    }
}

#[test]
fn an_evicted_layer_is_recreated_alone() {
    let layers: Vec<_> = ["a", "b", "c"].map(layer).to_vec();
    let host = Host::new();
    let object = host.file("image", &gzip(&docker_archive(&layers)));
    let image = host.read(&object).unwrap();
    for blob in &image.blobs {
        host.reader.cache.remove(&blob.digest).unwrap();
    }
    let wanted = Digest::of(&layers[1]);
    let blob = image.blobs.iter().find(|blob| blob.digest == wanted).unwrap();
    host.recreate(&object, wanted, blob.size).unwrap();
    assert_eq!(host.bytes(blob), layers[1]);
    assert_eq!(host.reader.cache.total_bytes(), blob.size);
    let absent = Digest::of(b"never there");
    let error = host.recreate(&object, absent, blob.size).unwrap_err();
    assert!(matches!(error, ImageError::Changed { .. }), "{error}");
    assert_eq!(host.reader.cache.total_bytes(), blob.size);
}

#[test]
fn a_layer_may_be_a_link_to_an_earlier_one() {
    let layers = vec![layer("same"), layer("same"), layer("same")];
    let (config_name, config) = config_of(&layers);
    let archive = Tar::new()
        .entry(EntryType::Directory, "./a/", "")
        .file("./a/layer.tar", &layers[0])
        .entry(EntryType::Symlink, "./b/layer.tar", "../a/layer.tar")
        .entry(EntryType::Link, "./c/layer.tar", "./a/layer.tar")
        .file(&format!("./{config_name}"), &config)
        .file("./manifest.json", &manifest_json(&config_name, &["a/layer.tar", "b/layer.tar", "c/layer.tar"]))
        .done();
    for (name, compress) in COMPRESSIONS {
        let host = Host::new();
        let image = host.read(&host.file("image", &compress(&archive))).unwrap();
        assert_eq!(host.layers(&image).len(), 3, "{name}");
        assert_eq!(image.blobs.len(), 2, "each digest once, and the configuration");
    }
}

#[test]
fn long_names_are_understood_as_gnu_and_as_pax() {
    let layers = vec![layer("far away")];
    let (config_name, config) = config_of(&layers);
    let long = format!("{}/layer.tar", "x".repeat(180));
    let rest = |tar: Tar| {
        tar.file(&config_name, &config).file("manifest.json", &manifest_json(&config_name, &[&long])).done()
    };
    let record = format!(" path={long}\n");
    let record = format!("{}{record}", record.len() + 3);
    let pax = Tar::new()
        .raw(&header(EntryType::XHeader, record.len() as u64), record.as_bytes())
        .file("short", &layers[0]);
    for archive in [rest(Tar::new().file(&long, &layers[0])), rest(pax)] {
        let host = Host::new();
        let image = host.read(&host.file("image", &archive)).unwrap();
        assert_eq!(host.layers(&image)[0].0, layers[0]);
    }
}

#[test]
fn a_folder_of_links_into_the_store_has_members() {
    let host = Host::new();
    let names = ["db", "web", "worker"];
    let archives = names.map(|name| docker_archive(&[layer(name)]));
    host.file("db.tar.gz", &gzip(&archives[0]));
    host.file("web.tar", &archives[1]);
    host.file("worker", &zstd(&archives[2]));
    let link = |name: &str| format!("-> {}", host.path(name).display());
    let folder = host.folder(
        "containers",
        &[
            ("db.tar.gz", link("db.tar.gz").as_bytes()),
            ("web.tar", link("web.tar").as_bytes()),
            ("worker.tar.zst", link("worker").as_bytes()),
            ("compose.yaml", b"services: {}\n"),
        ],
    );
    for name in names {
        let image = host.member(&folder, name).unwrap();
        assert_eq!(host.layers(&image)[0].0, layer(name));
        assert!(host.member(&folder, &format!("{name}.tar")).is_ok() == (name == "web"));
    }
    let web = host.member(&folder, "web").unwrap();
    let Source::Store { object: at, file, .. } = &web.blobs[0].source else { panic!("not in the store") };
    assert_eq!((at, file.as_os_str().len()), (&object("web.tar"), 0), "where it is, not where the link is");
    assert_eq!(image::members(&host.reader(&folder), &folder).unwrap(), names);
    let error = host.member(&folder, "foo").unwrap_err().to_string();
    assert!(error.contains("\"foo\"") && error.contains("it has: db, web, worker"), "{error}");
    let error = host.read(&folder).unwrap_err();
    assert!(matches!(error, ImageError::MemberNeeded { .. }), "{error}");
    for name in ["../web", "", ".", "..", "web\0", "/etc/passwd"] {
        let error = host.member(&folder, name).unwrap_err();
        assert!(matches!(error, ImageError::MemberUnknown { .. }), "{name:?}: {error}");
    }
}

#[test]
fn a_folder_with_one_archive_is_that_image() {
    let host = Host::new();
    let layers = [layer("only")];
    let folder = host.folder("one", &[("image.tar", &docker_archive(&layers)), ("README", b"text")]);
    let image = host.read(&folder).unwrap();
    assert_eq!(host.layers(&image)[0].0, layers[0]);
    let Source::Store { file, .. } = &image.blobs[0].source else { panic!("not in the store") };
    assert_eq!(file.to_str(), Some("image.tar"));
}
