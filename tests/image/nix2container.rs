//! nix2container's `image.json`, beside what Go makes of the same paths.

use crate::{
    reference::go,
    support::{Compress, Host, gzip, layer, same, xz, zstd},
};
use forge_registry::{
    blob::Source,
    image::{Image, ImageError},
    nix::StorePath,
    oci::{Digest, Manifest},
};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt, fs::symlink},
};

/// Store paths to make layers from.
fn plant(host: &Host) -> [String; 4] {
    let (long, deep) = ("n".repeat(90), format!("{}/{}/{}", "d".repeat(80), "e".repeat(80), "f".repeat(101)));
    host.folder(
        "one",
        &[
            ("bin/one", b"one"),
            ("bin.d/later", b"sorted after what is in bin"),
            ("lib/\u{e9}", b"e"),
            ("lib/link", b"-> ../bin/one"),
            (&format!("share/{long}"), b"a name that takes a prefix"),
            (&deep, b"a name that takes an extended header"),
        ],
    );
    fs::write(host.path("one").join(OsString::from_vec(b"bytes\xff".to_vec())), "no text").unwrap();
    host.folder("two", &[("bin/two", &vec![2; 300_000]), ("empty/", b""), ("tmp/", b"")]);
    host.file("three", b"three");
    symlink(host.path("two"), host.path("four")).unwrap();
    ["one", "two", "three", "four"].map(|name| host.path(name).to_str().unwrap().to_owned())
}

/// A layer of these paths, as nix2container would state it.
fn computed(paths: Value) -> Value {
    let tar = go("layer", &paths);
    let digest = Digest::of(&tar);
    json!({
        "digest": digest,
        "size": tar.len(),
        "diff_ids": digest,
        "paths": paths,
        "mediatype": "application/vnd.oci.image.layer.v1.tar",
        "History": { "created_by": "nix2container" },
    })
}

fn image_json(layers: Vec<Value>) -> Value {
    json!({
        "version": 1,
        "image-config": { "Cmd": ["/bin/one"], "Env": ["X=1"] },
        "layers": layers,
        "arch": "amd64",
        "created": "0001-01-01T00:00:00Z",
    })
}

fn write(host: &Host, image: &Value) -> StorePath {
    host.file("image-hello.json", &serde_json::to_vec_pretty(image).unwrap())
}

/// Moves a store path to the root of the image, as `copyToRoot` does.
fn to_root(path: &str) -> Value {
    json!({ "regex": format!("^{path}"), "repl": "" })
}

fn digests(image: &Image) -> Vec<String> {
    let manifest: Manifest = serde_json::from_slice(&image.oci.bytes).unwrap();
    manifest.layers.iter().map(|layer| layer.digest.to_string()).collect()
}

#[test]
fn layers_are_what_go_writes_of_the_paths_and_their_options() {
    let host = Host::new();
    let [one, two, three, four] = plant(&host);
    let perms = json!([
        { "regex": ".*", "mode": "0644", "uid": 1000, "gid": 100, "uname": "me", "gname": "" },
        { "regex": r"^.*/tmp$", "mode": "1777", "uid": 0, "gid": 0, "uname": "", "gname": "" },
        { "regex": r"\.d/[[:alpha:]]+$", "mode": "", "uid": 2_097_152, "gid": -1, "uname": "", "gname": "g" },
        { "regex": "nothing", "mode": "0", "uid": 7, "gid": 7, "uname": "x", "gname": "x" },
    ]);
    let none = json!({ "regex": "", "repl": "" });
    let layers = [
        json!([{ "path": one }]),
        json!([{ "path": two, "options": null }, { "path": three }, { "path": one, "options": {} }, { "path": four }]),
        json!([{ "path": one, "options": { "rewrite": to_root(&one) } }]),
        // Two trees at the root share folders, which have the same mode.
        json!([
            { "path": one, "options": { "rewrite": to_root(&one), "perms": null } },
            { "path": two, "options": { "rewrite": to_root(&two), "perms": [] } },
            { "path": three },
        ]),
        json!([{ "path": one, "options": { "rewrite": none, "perms": perms } }, { "path": two }]),
        json!([{ "path": two, "options": { "rewrite": to_root(&two), "perms": perms } }]),
        json!([{ "path": one, "options": { "rewrite": { "regex": r"[a-z]+-one/(\w+)", "repl": "${1}/../$1//x" } } }]),
        json!([{ "path": one, "options": { "rewrite": { "regex": "^.*/", "repl": "flat/" } } }]),
        json!([{ "path": two, "options": { "rewrite": { "regex": "^/", "repl": "" } } }]),
        json!([{ "path": three, "options": { "rewrite": { "regex": "^.*$", "repl": "/" }, "perms": [] } }]),
    ];
    // A file cannot be called `/`: Go refuses that, and so do we.
    let (refused, layers) = layers.split_last().unwrap();
    let layers: Vec<Value> = layers.iter().map(|paths| computed(paths.clone())).collect();
    let object = write(&host, &image_json(layers.clone()));
    let image = host.read(&object).unwrap();
    let stated: Vec<&str> = layers.iter().map(|layer| layer["digest"].as_str().unwrap()).collect();
    assert_eq!(digests(&image), stated);
    for ((bytes, kind), layer) in host.layers(&image).iter().zip(&layers) {
        assert!(*bytes == go("layer", &layer["paths"]) && kind == "tar");
    }
    assert_eq!(host.reader.cache.total_bytes(), 0);

    let mut layer = layers[0].clone();
    layer["paths"] = refused.clone();
    let error = host.read(&write(&host, &image_json(vec![layer]))).unwrap_err().to_string();
    assert!(error.contains("no slash"), "{error}");
}

/// Paths whose layer and configuration are the same on every machine.
fn fixed(host: &Host) -> Value {
    host.folder(
        "root",
        &[("bin/hello", b"#!/bin/sh\necho hello\n"), ("etc/motd", b"hi\n"), ("sh", b"-> bin/hello")],
    );
    let root = host.path("root").to_str().unwrap().to_owned();
    let owned = json!({ "regex": "/etc", "mode": "0750", "uid": 5, "gid": 6, "uname": "u", "gname": "g" });
    let all = json!({ "regex": "", "mode": "0755", "uid": 0, "gid": 0, "uname": "", "gname": "" });
    json!([{ "path": root, "options": { "rewrite": to_root(&root), "perms": [all, owned] } }])
}

/// What Go 1.26 and nix2container's own `TarPaths` and `GetConfigBlob` made of the same description.
#[test]
fn a_fixed_image_has_the_digests_and_the_configuration_that_it_always_had() {
    let host = Host::new();
    let base = layer("base");
    host.file("base.tar", &base);
    let digest = "sha256:0baf7751845f857666fdc62c1f1eafdbf8be6a18d1b81634575d9bedb16a7af9";
    let layers = vec![
        json!({
            "digest": Digest::of(&base), "size": 0, "diff_ids": Digest::of(&base),
            "layer-path": host.path("base.tar"), "mediatype": "application/vnd.oci.image.layer.v1.tar", "History": {},
        }),
        json!({
            "digest": digest, "size": 5120, "diff_ids": digest, "paths": fixed(&host),
            "mediatype": "application/vnd.oci.image.layer.v1.tar",
            "History": {
                "created": "2024-02-29T12:00:00.5Z", "created_by": "<me> & you", "author": "a", "comment": "c",
                "empty_layer": true,
            },
        }),
    ];
    let mut image = image_json(layers);
    image["image-config"] = json!({
        "User": "me", "ExposedPorts": { "80/tcp": {}, "443/tcp": {} }, "Env": ["A=<b>&\u{2028}\u{e9}\u{7f}\"\t\u{8}\u{1}"],
        "Entrypoint": ["/bin/hello"], "Cmd": [], "Volumes": { "/v": {} }, "WorkingDir": "/w",
        "Labels": { "z": "1", "a": "2" }, "StopSignal": "SIGTERM", "ArgsEscaped": true,
    });
    let read = host.read(&write(&host, &image)).unwrap();
    let manifest: Manifest = serde_json::from_slice(&read.oci.bytes).unwrap();
    let config = read.blobs.iter().find(|blob| blob.digest == manifest.config.digest).unwrap();
    let expected = r#"{"created":"0001-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"User":"me","ExposedPorts":{"443/tcp":{},"80/tcp":{}},"Env":["A=\u003cb\u003e\u0026\u2028é<DEL>\"\t\b\u0001"],"Entrypoint":["/bin/hello"],"Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"a":"2","z":"1"},"StopSignal":"SIGTERM","ArgsEscaped":true},"rootfs":{"type":"layers","diff_ids":["sha256:a740c317638878343e107ad49dd103a14e573eac85d6f71a542e0be157f426db","sha256:0baf7751845f857666fdc62c1f1eafdbf8be6a18d1b81634575d9bedb16a7af9"]},"history":[{},{"created":"2024-02-29T12:00:00.5Z","created_by":"\u003cme\u003e \u0026 you","author":"a","comment":"c","empty_layer":true}]}"#.replace("<DEL>", "\u{7f}");
    assert_eq!(String::from_utf8(host.bytes(config)).unwrap(), expected);
    assert_eq!(host.layers(&read).len(), 2);

    // As it is without anything.
    let empty = json!({ "version": 1, "image-config": {}, "layers": null, "arch": "", "created": null });
    let read = host.read(&write(&host, &empty)).unwrap();
    let Source::Inline(config) = &read.blobs[0].source else { panic!("{read:?}") };
    let expected = r#"{"architecture":"","os":"linux","config":{},"rootfs":{"type":"","diff_ids":null}}"#;
    assert_eq!(String::from_utf8_lossy(config), expected);
}

#[test]
fn files_of_layers_are_served_as_they_are_and_labelled_as_what_they_are() {
    let host = Host::new();
    let [one, ..] = plant(&host);
    let (mut layers, mut stored) = (vec![], vec![]);
    let kinds: [(&str, Compress); 3] = [("tar", same), ("tar+gzip", gzip), ("tar+zstd", zstd)];
    for (kind, compress) in kinds {
        let plain = layer(kind);
        let bytes = compress(&plain);
        let folder = format!("pulled-{kind}");
        host.folder(&folder, &[("layer", &bytes)]);
        for (media_type, size) in
            [(format!("application/vnd.oci.image.layer.v1.{kind}"), bytes.len()), ("text/plain".into(), 0)]
        {
            layers.push(json!({
                "digest": Digest::of(&bytes), "size": size, "diff_ids": Digest::of(&plain),
                "layer-path": host.path(&folder).join("layer"), "mediatype": media_type, "History": {},
            }));
        }
        stored.extend([(bytes.clone(), kind.to_owned()), (bytes, kind.to_owned())]);
    }
    // A file beats the paths that it was made of, and may be anything that a computed layer may not.
    let mut both = layers[0].clone();
    both["paths"] = json!([{ "path": one }]);
    layers.push(both);
    stored.push(stored[0].clone());
    layers.push(computed(json!([{ "path": one }])));
    let object = write(&host, &image_json(layers));
    let image = host.read(&object).unwrap();
    let mut found = host.layers(&image);
    let (bytes, kind) = found.pop().unwrap();
    assert_eq!((kind.as_str(), bytes), ("tar", go("layer", &json!([{ "path": one }]))));
    for (found, expected) in found.iter().zip(&stored) {
        assert_eq!((&found.0, found.1.trim_start_matches("v1.")), (&expected.0, expected.1.as_str()));
    }
    assert_eq!(found.len(), stored.len());
    let sources =
        |wanted: fn(&Source) -> bool| image.blobs.iter().filter(|blob| wanted(&blob.source)).count();
    assert_eq!(sources(|source| matches!(source, Source::Store { .. })), 3);
    assert_eq!(sources(|source| matches!(source, Source::Virtual { .. })), 1);
    assert_eq!(host.reader.cache.total_bytes(), 0, "nothing is copied");

    host.folder("containers", &[]);
    symlink(host.path("image-hello.json"), host.path("containers").join("web")).unwrap();
    let containers = crate::support::object("containers");
    assert_eq!(host.member(&containers, "web").unwrap().oci.digest, image.oci.digest);
    assert_eq!(host.read(&containers).unwrap().oci.digest, image.oci.digest);
}

#[test]
fn all_fields_that_version_1_has_are_taken_and_others_of_a_layer_only_inform() {
    let host = Host::new();
    let [one, ..] = plant(&host);
    let perm = json!({ "regex": "", "mode": "", "uid": 0, "gid": 0, "uname": "", "gname": "" });
    let options = json!({ "rewrite": { "regex": "", "repl": "" }, "perms": [perm] });
    let mut layer = computed(json!([{ "path": one, "options": options }]));
    layer["layer-path"] = json!("");
    layer["History"] = json!({
        "created": "2024-02-29T12:00:00Z", "created_by": "", "author": "", "comment": "", "empty_layer": false,
    });
    let image = host.read(&write(&host, &image_json(vec![layer.clone()]))).unwrap();
    for (key, value) in [("comment", json!("x")), ("media-type", json!("x")), ("history", json!([]))] {
        layer[key] = value;
    }
    let mut more = image_json(vec![layer]);
    more["name"] = json!("hello");
    assert_eq!(host.read(&write(&host, &more)).unwrap().oci.digest, image.oci.digest);
}

#[test]
fn layers_that_are_known_are_not_read_again_and_every_option_makes_another_one() {
    let host = Host::new();
    let [one, ..] = plant(&host);
    let list = |options: Value| {
        let image = image_json(vec![computed(json!([{ "path": one, "options": options }]))]);
        let read = host.read(&write(&host, &image)).unwrap();
        let Some(Source::Virtual { list }) = read.blobs.first().map(|blob| blob.source.clone()) else {
            panic!("{read:?}")
        };
        list
    };
    let perm = |mode: &str| json!({ "perms": [{ "regex": "bin", "mode": mode, "uid": 1, "gid": 2 }] });
    let options = [json!({}), perm("0755"), perm("0700"), json!({ "rewrite": to_root(&one) })];
    let lists: Vec<Digest> = options.clone().map(list).into();
    let mut different = lists.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 4);
    let inode = |list: &Digest| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(host.reader.lists.path(list)).unwrap())
    };
    let inodes: Vec<u64> = lists.iter().map(inode).collect();
    assert_eq!(Vec::from(options.map(list)), lists);
    assert_eq!(lists.iter().map(inode).collect::<Vec<_>>(), inodes, "nothing was made again");
}

/// Reads what has to be refused, and leaves nothing behind.
fn refused(host: &Host, image: &Value) -> String {
    let object = write(host, image);
    let error = host.read(&object).unwrap_err();
    host.assert_cache_is_empty();
    assert_eq!(host.reader.lists.total_bytes(), 0);
    assert!(!matches!(error, ImageError::Io { .. }), "not the system's fault: {error}");
    let said = error.to_string();
    assert!(said.len() < 2000, "{} bytes", said.len());
    said
}

#[test]
fn what_is_not_as_stated_is_refused_naming_the_layer_and_both() {
    let host = Host::new();
    let [one, two, three, _] = plant(&host);
    let good = computed(json!([{ "path": one }, { "path": two }]));
    let compressed = gzip(&layer("x"));
    host.file("file.tar.gz", &compressed);
    let file = json!({
        "digest": Digest::of(&compressed), "size": compressed.len(), "diff_ids": Digest::of(&layer("x")),
        "layer-path": host.path("file.tar.gz"), "mediatype": "application/vnd.oci.image.layer.v1.tar+gzip",
    });
    let other = Digest::of(b"other").to_string();
    let three = computed(json!([{ "path": three }]));
    for (layer, is) in
        [(&good, format!("{one} and 1 more")), (&file, host.path("file.tar.gz").display().to_string())]
    {
        for (key, value) in [("digest", json!(other)), ("diff_ids", json!(other)), ("size", json!(7))] {
            let mut wrong = layer.clone();
            wrong[key] = value.clone();
            let said = refused(&host, &image_json(vec![three.clone(), wrong]));
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            for expected in [format!("layer 2 of 2 ({is})"), text(&value), text(&layer[key])] {
                assert!(said.contains(&expected), "{key}: {expected:?} is missing in: {said}");
            }
        }
    }
    // Neither is a store path that is not what it was when the digest was stated.
    fs::write(host.path("one").join("bin/one"), "two").unwrap();
    let said = refused(&host, &image_json(vec![good.clone()]));
    assert!(
        said.contains(good["digest"].as_str().unwrap()) && said.contains("but its bytes have sha256:"),
        "{said}"
    );
}

#[test]
fn hostile_descriptions_are_refused_in_clear_words_and_nothing_outside_the_store_is_read() {
    let host = Host::new();
    let [one, two, three, _] = plant(&host);
    let secret = host.dir.path().join("secret");
    fs::write(&secret, layer("secret")).unwrap();
    let store = host.store.as_path().to_str().unwrap().to_owned();
    symlink(&secret, host.path("leads-out")).unwrap();
    host.file("text.txt", b"text");
    host.file("layer.tar.xz", &xz(&layer("x")));
    host.folder("broken", &[("layer", &gzip(&layer("x"))[..30])]);
    let good = computed(json!([{ "path": one }]));
    let layer_path = |path: &str| {
        let mut layer = good.clone();
        layer["layer-path"] = path.into();
        layer
    };
    let paths = |paths: Value| {
        let mut layer = good.clone();
        layer["paths"] = paths;
        layer
    };
    let path = |path: &str| paths(json!([{ "path": path }]));
    let rewrite = |regex: &str, repl: &str| {
        paths(json!([{ "path": one, "options": { "rewrite": { "regex": regex, "repl": repl } } }]))
    };
    let perm = |perm: Value| paths(json!([{ "path": one, "options": { "perms": [perm] } }]));
    let with = |key: &str, value: Value| {
        let mut layer = good.clone();
        layer[key] = value;
        layer
    };
    let named = |name: &str| host.path(name).to_str().unwrap().to_owned();
    let cases = [
        (path("/etc/passwd"), "not in the Nix store"),
        (path(secret.to_str().unwrap()), "not in the Nix store"),
        (path(&format!("{store}/../secret")), "not in the Nix store"),
        (path(&format!("{one}/../../secret")), "not in the Nix store"),
        (path("/gnu/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello"), "not in the Nix store"),
        (path(&format!("{one}/bin")), "not the name of a store path"),
        (path(&store), "not in the Nix store"),
        (path(""), "not in the Nix store"),
        (path(&named("gone")), "which it does not contain"),
        (paths(json!([])), "neither a \"layer-path\" nor \"paths\""),
        (paths(json!("all")), "not what nix2container writes"),
        (paths(json!([1])), "not what nix2container writes"),
        (paths(json!(vec![json!({ "path": one }); 100_001])), "exceeds a limit"),
        (layer_path("/etc/passwd"), "not in the store"),
        (layer_path(secret.to_str().unwrap()), "not in the store"),
        (layer_path(&format!("{one}/../../secret")), "leads out of the store"),
        (layer_path(&named("leads-out")), "not in the store"),
        (layer_path(&named("gone")), "which it does not contain"),
        (layer_path(&named("one")), "a folder"),
        (layer_path(&named("text.txt")), "not a tar archive"),
        (layer_path(&named("layer.tar.xz")), "not a tar archive"),
        (layer_path(&format!("{}/layer", named("broken"))), "but its bytes have"),
        (rewrite("(", ""), "the regular expression \"(\""),
        (rewrite("(?=a)", ""), "the regular expression"),
        (rewrite(&"a".repeat(5000), ""), "longer than 4096"),
        (rewrite(r"((\pL{100}){100}){100}", ""), "too much memory"),
        (rewrite("^.*$", "../../etc/passwd"), "leads out of the image"),
        (rewrite("^.*$", "/same"), "both have this name"),
        (rewrite("$", &"x".repeat(5000)), "no name of at most"),
        (rewrite("$", "\0"), "no name of at most"),
        (rewrite("x*", &"a".repeat(1_000_000)), "far too long"),
        // Not refused as an expression: it takes linear time, and gives another digest.
        (rewrite("^(.*)*(.*)*(.*)*(.*)*$", "/x/$1$2$3$4"), "but its bytes have"),
        (perm(json!({ "regex": "[", "mode": "0755" })), "the regular expression \"[\""),
        (perm(json!({ "regex": "", "mode": "rwx" })), "\"rwx\" is no octal number"),
        (perm(json!({ "regex": "", "mode": "77777777" })), "77777777 are no permissions"),
        (perm(json!({ "regex": "", "uname": "x\0" })), "owner's name"),
        (perm(json!({ "regex": "", "uid": "root" })), "not what nix2container writes"),
        (perm(json!({ "regex": "", "orMode": "0200" })), "unknown field `orMode`"),
        (paths(json!([{ "path": one, "options": { "ignoreDestination": "" } }])), "`ignoreDestination`"),
        (paths(json!([{ "path": one, "options": { "rewrite": { "with": "" } } }])), "unknown field `with`"),
        (paths(json!([{ "path": one, "tar": "x.tar" }])), "unknown field `tar`"),
        (with("digest", json!("sha256:00")), "its digest \"sha256:00\" is no SHA-256 digest"),
        (with("diff_ids", json!("md5:00")), "its diff ID \"md5:00\" is no SHA-256 digest"),
        (with("size", json!(-1)), "not what nix2container writes"),
        (with("History", json!({ "created": "yesterday" })), "\"yesterday\" is no time"),
    ];
    for (layer, expected) in cases {
        let said = refused(&host, &image_json(vec![layer]));
        assert!(said.contains(expected), "{expected:?} is missing in: {said}");
    }
    let image = |key: &str, value: Value| {
        let mut image = image_json(vec![good.clone()]);
        image[key] = value;
        image
    };
    let many = json!({ "path": two, "options": { "perms": vec![json!({ "regex": "x" }); 10_001] } });
    for (image, expected) in [
        (image("version", json!(2)), "nix2container's version 2, and version 1 is understood"),
        (image("version", json!("1")), "nix2container's version \"1\""),
        (image("created", json!("now")), "\"now\" is no time"),
        (image("image-config", json!({ "Healthcheck": {} })), "unknown field `Healthcheck`"),
        (image("image-config", json!({ "Env": "X=1" })), "not what nix2container writes"),
        (image("layers", json!({})), "not what nix2container writes"),
        (image("layers", json!(vec![good.clone(); 501])), "more than 500 layers"),
        (image("layers", json!([paths(json!([many]))])), "more than 10000 \"perms\""),
    ] {
        let said = refused(&host, &image);
        assert!(said.contains(expected), "{expected:?} is missing in: {said}");
    }
    // Of two things of one name neither may be another than the other.
    let flat =
        |source: &str| json!({ "path": source, "options": { "rewrite": { "regex": "^.*$", "repl": "/x" } } });
    let said = refused(&host, &image_json(vec![paths(json!([flat(&named("text.txt")), flat(&three)]))]));
    assert!(
        said.contains("both have this name") && said.contains("text.txt") && said.contains(&three),
        "{said}"
    );
    // A link in a layer is an entry; what it leads to is not looked at.
    let link = image_json(vec![computed(json!([{ "path": named("leads-out") }]))]);
    let read = host.read(&write(&host, &link)).unwrap();
    assert!(!host.layers(&read)[0].0.windows(6).any(|window| window == b"secret\0"));
}

#[test]
fn a_million_paths_are_refused_before_anything_is_made_of_them() {
    let host = Host::new();
    let [one, ..] = plant(&host);
    let mut layer = computed(json!([{ "path": one }]));
    layer["paths"] = json!(vec![json!({ "path": one }); 1_000_000]);
    let said = refused(&host, &image_json(vec![layer]));
    assert!(said.contains("exceeds a limit") && said.contains("the configuration"), "{said}");
}

#[test]
fn other_json_is_no_image() {
    let host = Host::new();
    for text in [
        r#"{"version": 1, "layers": []}"#,
        r#"{"image-config": {}, "layers": []}"#,
        r#"[{"version": 1, "image-config": {}, "layers": []}]"#,
        r#"{"version": 1, "image-config": {}, "layers": []"#,
    ] {
        let said = host.refused(text.as_bytes());
        assert!(said.contains("a JSON file") && said.contains("nix2container's images"), "{said}");
    }
}
