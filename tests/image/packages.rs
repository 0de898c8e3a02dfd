//! Images that are made of packages.

use crate::support::{Host, docker_archive, layer, object};
use forge_registry::{
    image::{self, Image, ImageError, Layers, Options, Package, Settings},
    nix::StorePath,
    oci::{Digest, Manifest},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    os::unix::fs::{PermissionsExt, symlink},
};

fn package(count: usize) -> Package {
    Package {
        count: NonZeroUsize::new(count).unwrap(),
        platform: image::platform("x86_64-linux").unwrap(),
        main_program: None,
        settings: None,
    }
}

fn with(settings: Value) -> Package {
    Package { settings: Some(Settings::parse(settings).unwrap()), ..package(1) }
}

/// An image of these packages; each of their store paths, and each of `others`, is a layer.
fn make(
    host: &Host,
    package: &Package,
    packages: &[&StorePath],
    others: &[&StorePath],
) -> Result<Image, ImageError> {
    let layering = packages.iter().chain(others).map(|path| vec![(*path).clone()]).collect();
    let packages: Vec<StorePath> = packages.iter().copied().cloned().collect();
    image::of_packages(&host.reader(&packages[0]), &packages, package, layering, &Options::default())
}

fn config(host: &Host, image: &Image) -> Value {
    let manifest: Manifest = serde_json::from_slice(&image.oci.bytes).unwrap();
    let blob = image.blobs.iter().find(|blob| blob.digest == manifest.config.digest).unwrap();
    serde_json::from_slice(&host.bytes(blob)).unwrap()
}

/// What is in the last layer: the target of a link, the text of a file, the mode of a folder.
fn root(host: &Host, image: &Image) -> BTreeMap<String, String> {
    let (last, _) = host.layers(image).pop().unwrap();
    let mut archive = tar::Archive::new(&last[..]);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 1));
        let what = if let Some(target) = entry.link_name().unwrap() {
            target.display().to_string()
        } else if name.ends_with('/') {
            format!("{:o}", header.mode().unwrap())
        } else {
            std::io::read_to_string(&mut entry).unwrap()
        };
        found.insert(name, what);
    }
    found
}

/// A package with programs.
fn programs(host: &Host, name: &str, programs: &[&str]) -> StorePath {
    let files: Vec<(String, &[u8])> =
        programs.iter().map(|program| (format!("bin/{program}"), &b"#!"[..])).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(file, text)| (file.as_str(), *text)).collect();
    let package = host.folder(name, &files);
    for program in programs {
        let path = host.path(name).join("bin").join(program);
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    package
}

#[test]
fn the_root_leads_to_the_package_and_has_what_programs_expect_anywhere() {
    let host = Host::new();
    let folder = host.folder(
        "app",
        &[
            ("bin/app", b"#!"),
            ("etc/app/conf", b"c"),
            ("share/man/man1/app.1", b"m"),
            ("LICENSE", b"l"),
            ("nix-support/propagated-build-inputs", b"x"),
            ("nix/store/app", b"never over the store"),
        ],
    );
    let image = make(&host, &package(1), &[&folder], &[]).unwrap();
    let app = host.path("app").display().to_string();
    let expected = [
        ("/LICENSE", format!("{app}/LICENSE")),
        ("/bin/", "755".into()),
        ("/bin/app", format!("{app}/bin/app")),
        ("/etc/", "755".into()),
        ("/etc/app", format!("{app}/etc/app")),
        ("/etc/group", "root:x:0:\nnobody:x:65534:\n".into()),
        ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".into()),
        ("/root/", "700".into()),
        ("/share/", "755".into()),
        ("/share/man", format!("{app}/share/man")),
        ("/tmp/", "1777".into()),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(name, what)| (name.into(), what)).into();
    assert_eq!(root(&host, &image), expected);
}

#[test]
fn of_two_packages_the_first_wins_and_folders_that_both_have_become_one() {
    let host = Host::new();
    let one = host.folder(
        "one",
        &[
            ("bin/a", b"1"),
            ("share/doc/one", b""),
            ("share/doc/same", b"1"),
            ("lib/one/x", b""),
            ("etc/conf", b"1"),
        ],
    );
    let two = host.folder(
        "two",
        &[
            ("bin/a", b"2"),
            ("bin/b", b"2"),
            ("share/doc/two", b""),
            ("share/doc/same", b"2"),
            ("lib/two/x", b""),
            ("etc/conf/file", b"a folder here, a file there"),
        ],
    );
    let [first, second] = ["one", "two"].map(|name| host.path(name).display().to_string());
    let image = make(&host, &package(2), &[&one, &two], &[]).unwrap();
    let found = root(&host, &image);
    for (name, target) in [
        ("/bin/a", format!("{first}/bin/a")),
        ("/bin/b", format!("{second}/bin/b")),
        ("/share/doc/", "755".into()),
        ("/share/doc/one", format!("{first}/share/doc/one")),
        ("/share/doc/two", format!("{second}/share/doc/two")),
        ("/share/doc/same", format!("{first}/share/doc/same")),
        ("/lib/one", format!("{first}/lib/one")),
        ("/lib/two", format!("{second}/lib/two")),
        ("/etc/conf", format!("{first}/etc/conf")),
    ] {
        assert_eq!(found.get(name), Some(&target), "{name} in {found:#?}");
    }
    // What is only mentioned is not linked to.
    let image = make(&host, &package(1), &[&one, &two], &[]).unwrap();
    assert_eq!(root(&host, &image).get("/bin/b"), None);
}

#[test]
fn a_packages_own_files_in_etc_stay_beside_ours() {
    let host = Host::new();
    let own =
        host.folder("own", &[("etc/passwd", b"app:x:1000:1000::/:/bin/sh\n"), ("etc/ssl/openssl.cnf", b"")]);
    let certificates = host.folder("certificates", &[("etc/ssl/certs/ca-bundle.crt", b"CERTIFICATE")]);
    let image = make(&host, &package(1), &[&own], &[&certificates]).unwrap();
    let [own, bundle] = [
        host.path("own").display().to_string(),
        host.path("certificates").join("etc/ssl/certs/ca-bundle.crt").display().to_string(),
    ];
    let found = root(&host, &image);
    for (name, target) in [
        ("/etc/passwd", format!("{own}/etc/passwd")),
        ("/etc/group", "root:x:0:\nnobody:x:65534:\n".into()),
        ("/etc/ssl/", "755".into()),
        ("/etc/ssl/openssl.cnf", format!("{own}/etc/ssl/openssl.cnf")),
        ("/etc/ssl/certs/ca-bundle.crt", bundle.clone()),
        ("/etc/ssl/certs/ca-certificates.crt", bundle),
    ] {
        assert_eq!(found.get(name), Some(&target), "{name} in {found:#?}");
    }
    let variables = &config(&host, &image)["config"]["Env"];
    assert_eq!(*variables, json!(["PATH=/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"]));
}

#[test]
fn links_in_a_package_are_followed_within_the_store_only() {
    let host = Host::new();
    let outside = host.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    let real = programs(&host, "real", &["tool"]);
    let joined = host.folder("joined", &[("share/x", b"")]);
    let at = host.path("joined");
    symlink(host.path("real").join("bin"), at.join("bin")).unwrap();
    symlink("bin", at.join("sbin")).unwrap();
    symlink(&outside, at.join("opt")).unwrap();
    symlink("nowhere", at.join("dangling")).unwrap();
    let image = make(&host, &package(1), &[&joined], &[&real]).unwrap();
    let found = root(&host, &image);
    let at = at.display();
    for (name, target) in [
        ("/bin/tool", format!("{at}/bin/tool")),
        ("/sbin/tool", format!("{at}/sbin/tool")),
        ("/opt", format!("{at}/opt")),
        ("/dangling", format!("{at}/dangling")),
    ] {
        assert_eq!(found.get(name), Some(&target), "{name} in {found:#?}");
    }
    assert!(!found.keys().any(|name| name.contains("secret")), "{found:#?}");
    let settings = &config(&host, &image)["config"];
    assert_eq!(settings["Env"], json!(["PATH=/bin:/sbin"]));
    assert_eq!(settings["Entrypoint"], json!([format!("{at}/bin/tool")]));
}

#[test]
fn the_program_to_run_is_the_stated_one_else_the_main_one_else_the_only_one() {
    let host = Host::new();
    let entrypoint = |package: &Package, path: &StorePath| {
        let image = make(&host, package, &[path], &[]).unwrap();
        config(&host, &image)["config"].get("Entrypoint").cloned()
    };
    let program = |path: &StorePath, name: &str| Some(json!([host.store.join(path).join("bin").join(name)]));
    // What nixpkgs' wrappers hide is no program of its own.
    let one = programs(&host, "one", &["one", ".one-wrapped"]);
    let two = programs(&host, "two", &["a", "b"]);
    fs::write(host.path("two").join("bin/README"), "no program").unwrap();
    assert_eq!(entrypoint(&package(1), &one), program(&one, "one"));
    assert_eq!(entrypoint(&package(1), &two), None);
    let main = Package { main_program: Some("b".into()), ..package(1) };
    assert_eq!(entrypoint(&main, &two), program(&two, "b"));
    let stated = Package { main_program: Some("b".into()), ..with(json!({ "Entrypoint": ["/x", "y"] })) };
    assert_eq!(entrypoint(&stated, &two), Some(json!(["/x", "y"])));
    assert_eq!(entrypoint(&with(json!({ "Entrypoint": [] })), &one), None);

    let wrong = Package { main_program: Some("c".into()), ..package(1) };
    let error = make(&host, &wrong, &[&two], &[]).unwrap_err().to_string();
    assert!(error.contains("meta.mainProgram is \"c\", but there is no program bin/c"), "{error}");

    let script = host.file("script", b"#!/bin/sh");
    assert_eq!(entrypoint(&package(1), &script), None);
    fs::set_permissions(host.path("script"), fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(entrypoint(&package(1), &script), Some(json!([host.path("script")])));
}

#[test]
fn the_configuration_has_what_is_stated_and_the_rest_is_the_same_for_ever() {
    let host = Host::new();
    let app = programs(&host, "app", &["app"]);
    let stated = json!({
        "User": "1000", "Env": ["PATH=/opt/bin", "A=1"], "Cmd": ["serve"], "WorkingDir": "/data",
        "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/data": {} }, "Labels": { "a": "b" }, "StopSignal": "SIGINT",
    });
    let arm = Package { platform: image::platform("aarch64-linux").unwrap(), ..with(stated.clone()) };
    let image = make(&host, &arm, &[&app], &[]).unwrap();
    let mut expected = stated;
    expected["Entrypoint"] = json!([host.path("app").join("bin/app")]);
    let config = config(&host, &image);
    assert_eq!(config["config"], expected);
    let created = "1970-01-01T00:00:01Z";
    assert_eq!((&config["created"], &config["os"]), (&json!(created), &json!("linux")));
    assert_eq!((&config["architecture"], &config["variant"]), (&json!("arm64"), &json!("v8")));
    let history = config["history"].as_array().unwrap();
    assert_eq!(history.len(), config["rootfs"]["diff_ids"].as_array().unwrap().len());
    assert!(history.iter().all(|layer| layer["created"] == created), "{history:?}");
    assert_eq!(history[0]["comment"], format!("store paths: {}", object("app")));
}

#[test]
fn the_bytes_of_a_layer_depend_on_its_store_paths_alone() {
    let host = Host::new();
    let [app, lib, other] =
        ["app", "lib", "other"].map(|name| host.folder(name, &[("lib/x", name.as_bytes())]));
    let digests = |image: &Image| -> Vec<Digest> {
        let manifest: Manifest = serde_json::from_slice(&image.oci.bytes).unwrap();
        manifest.layers.iter().map(|layer| layer.digest).collect()
    };
    let image = digests(&make(&host, &package(1), &[&app], &[&lib]).unwrap());
    assert_eq!(image.len(), 3);
    // Another configuration, with other images made before, on another host.
    let stated = with(json!({ "User": "1000", "Labels": { "name": "another" } }));
    assert_eq!(digests(&make(&host, &stated, &[&app], &[&lib]).unwrap()), image);
    let another = digests(&make(&host, &package(1), &[&other], &[&lib]).unwrap());
    assert_eq!(another[1], image[1], "they share what both need");
    assert!(another[0] != image[0] && another[2] != image[2]);
    for list in fs::read_dir(host.reader.lists.dir()).unwrap() {
        fs::remove_file(list.unwrap().path()).unwrap();
    }
    assert_eq!(digests(&make(&host, &package(1), &[&app], &[&lib]).unwrap()), image);
}

#[test]
fn a_package_that_is_an_image_is_served_as_that() {
    let host = Host::new();
    let is_one = |path: &StorePath, has_settings: bool| {
        image::read_if_any(&host.reader(path), path, &Options::default(), has_settings)
    };
    let archive = host.file("archive.tar", &docker_archive(&[layer("a")]));
    assert!(is_one(&archive, false).unwrap().is_some());
    let error = is_one(&archive, true).unwrap_err().to_string();
    assert!(error.contains("imageConfig has no effect"), "{error}");
    // A package with an archive somewhere in it is a package all the same.
    let with_archive = host.folder("data", &[("data.tar", &docker_archive(&[layer("a")]))]);
    let sources = host.file("sources.tar", &layer("no image"));
    let text = host.file("text", b"text");
    for package in [with_archive, sources, text] {
        assert!(is_one(&package, true).unwrap().is_none(), "{package}");
    }
    host.assert_cache_is_empty();
    let cut = host.file("cut.tar", &docker_archive(&[layer("a")])[..2000]);
    assert!(is_one(&cut, false).is_err(), "a broken image is no package");
}

#[test]
fn layers_name_their_store_paths_for_nix_snapshotter_if_told_to() {
    let host = Host::new();
    let [app, lib, words] = ["app", "lib", "words"].map(|name| host.folder(name, &[("x", b"x")]));
    let layering = vec![vec![lib, words], vec![app.clone()]];
    let options = Options { nix_snapshotter: true, layers: Some(Layers::default()), ..Default::default() };
    let made = |options: &Options| {
        image::of_packages(
            &host.reader(&app),
            std::slice::from_ref(&app),
            &package(1),
            layering.clone(),
            options,
        )
        .unwrap()
    };
    let (image, plain) = (made(&options), made(&Options::default()));
    let manifest: Value = serde_json::from_slice(&image.oci.bytes).unwrap();
    let path = |name: &str| json!(host.path(name));
    let annotations: Vec<&Value> =
        manifest["layers"].as_array().unwrap().iter().map(|layer| &layer["annotations"]).collect();
    let (layer, first, second) = (
        "containerd.io/snapshot/nix-layer",
        "containerd.io/snapshot/nix-store-path.0",
        "containerd.io/snapshot/nix-store-path.1",
    );
    assert_eq!(
        annotations,
        [
            &json!({ layer: "true", first: path("lib"), second: path("words") }),
            &json!({ layer: "true", first: path("app") }),
            &json!({ layer: "true" }),
        ]
    );
    // Nothing else is different, and Docker's form has no annotations.
    assert_eq!(image.docker, plain.docker);
    assert_ne!(image.oci, plain.oci);
    assert_eq!(host.layers(&image), host.layers(&plain));
}

#[test]
fn too_many_files_are_refused() {
    let mut host = Host::new();
    let names: Vec<String> = (0..40).map(|n| format!("bin/{n}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let app = host.folder("app", &files);
    host.reader.limits.max_members = 30;
    let error = make(&host, &package(1), &[&app], &[]).unwrap_err();
    assert!(matches!(error, ImageError::LimitExceeded { .. }), "{error}");
    assert!(error.to_string().contains("more than 30 files"), "{error}");
}
