//! Plain packages: images that nobody defined.

use crate::{
    bed::Bed,
    support::{Answer, Flake, Registry, eventually, layers, sha256},
};
use serde_json::{Value, json};
use std::fs;

const PACKAGES: [&str; 6] = ["greet", "count-words", "configured", "outputs", "fetch", "no-image"];

pub fn config(registry: &Registry, name: &str) -> Value {
    let manifest = registry.manifest(name, "latest").json();
    registry.blob(name, manifest["config"]["digest"].as_str().unwrap()).json()
}

fn pull_all(registry: &Registry) -> Vec<String> {
    PACKAGES.iter().map(|name| registry.pull(&format!("packages/{name}"), "latest")).collect()
}

/// The store paths of an image's layers, by name, as its history has them.
fn store_paths(registry: &Registry, name: &str) -> Vec<Vec<String>> {
    let config = config(registry, name);
    let history = config["history"].as_array().unwrap().iter();
    let comments = history.map(|layer| layer["comment"].as_str().unwrap().to_owned());
    let paths = comments.filter_map(|comment| comment.strip_prefix("store paths: ").map(str::to_owned));
    paths.map(|paths| paths.split(' ').map(|path| path[33..].to_owned()).collect()).collect()
}

/// A flake of these packages. `make` takes the name, the script and further attributes of a raw derivation.
pub fn derivations(packages: &str) -> String {
    let text = r#"{ outputs = _: let
        busybox = import <examples/busybox.nix>;
        example = import <examples> { system = "x86_64-linux"; };
        make = name: script: attributes: derivation ({
          inherit name;
          system = "x86_64-linux";
          builder = "${busybox}/busybox";
          args = [ "sh" "-c" "${busybox}/busybox --install -s $PWD; PATH=$PWD; ${script}" ];
        } // attributes);
      in { packages.x86_64-linux = rec { PACKAGES }; }; }"#;
    text.replace("PACKAGES", packages)
}

#[test]
fn any_package_can_be_pulled_and_a_restart_needs_neither_evaluation_nor_hashing() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    let first = pull_all(&registry);
    assert!(fs::read_dir(registry.state.join("blobs")).unwrap().next().is_none(), "no layer is on the disk");
    let done = |registry: &Registry| {
        ["resolved", "building", "indexed"].map(|what| registry.logged(&format!("INFO {what}")))
    };
    let before = done(&registry);
    assert_eq!(before[0], PACKAGES.len());
    for stop in [true, false] {
        if stop {
            assert!(registry.stop().success());
        } else {
            registry.kill();
        }
        registry.run();
        assert_eq!(pull_all(&registry), first);
    }
    assert_eq!(done(&registry), before);
    let tags = registry.get("/v2/packages/greet/tags/list").json()["tags"].clone();
    assert_eq!(tags, json!(["1.0.0", "latest"]));
    assert_eq!(registry.pull("packages/greet", "1.0.0"), first[0]);
}

#[test]
fn an_image_has_what_the_flake_states_and_what_that_mentions() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    registry.pull("packages/configured", "latest");
    let config = config(&registry, "packages/configured");
    let settings = &config["config"];
    assert_eq!(
        (&settings["User"], &settings["WorkingDir"], &settings["StopSignal"]),
        (&json!("nobody"), &json!("/var/lib/configured"), &json!("SIGINT"))
    );
    assert_eq!(settings["ExposedPorts"], json!({ "8080/tcp": {} }));
    let variables: Vec<&str> =
        settings["Env"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(variables[..3], ["PATH=/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt", "GREETING=Hello"]);
    assert!(variables[3].starts_with("DATA=/") && variables[3].ends_with("/etc/ssl/certs/ca-bundle.crt"));
    let mut paths = store_paths(&registry, "packages/configured").concat();
    paths.sort();
    assert_eq!(paths, ["busybox", "certificates-1.0.0", "configured-1.0.0"]);
    assert_eq!(
        (&config["created"], &config["architecture"]),
        (&json!("1970-01-01T00:00:01Z"), &json!("amd64"))
    );
}

#[test]
fn the_output_with_the_programs_is_taken_and_what_it_needs_of_the_others() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    registry.pull("packages/outputs", "latest");
    let mut paths = store_paths(&registry, "packages/outputs").concat();
    paths.sort();
    assert_eq!(paths, ["busybox", "outputs-1.0.0-bin", "outputs-1.0.0-lib"]);
}

#[test]
fn packages_share_the_layers_of_what_both_need() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    for name in ["packages/greet", "packages/count-words"] {
        registry.pull(name, "latest");
    }
    let (one, two) =
        (registry.manifest("packages/greet", "latest"), registry.manifest("packages/count-words", "latest"));
    let (one, two) = (layers(&one), layers(&two));
    assert_eq!((one.len(), two.len()), (4, 4));
    let shared: Vec<&String> = one.iter().filter(|layer| two.contains(layer)).collect();
    assert_eq!(shared.len(), 2, "busybox and the words: {one:?} {two:?}");
    let lists = fs::read_dir(registry.state.join("layers")).unwrap().count();
    assert_eq!(lists, 6, "one for each different layer");
}

#[test]
fn there_are_no_more_layers_than_allowed() {
    let flake = Flake::new("");
    for (max, expected) in [("2", 2), ("3", 3), ("125", 4)] {
        let registry = Registry::start(&flake, &[("MAX_LAYERS", max)]);
        registry.pull("packages/greet", "latest");
        assert_eq!(layers(&registry.manifest("packages/greet", "latest")).len(), expected, "{max}");
    }
}

#[test]
fn everything_that_an_image_needs_is_rooted_and_is_let_go_with_it() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let registry = bed.registry(&flake, &[("TAG_TTL", "1h"), ("CACHE_SIZE", "1")]);
    let digest = registry.pull("packages/configured", "latest");
    bed.collect_garbage();
    // Only the image's configuration mentions it.
    assert!(bed.store_path("-certificates-1.0.0").is_some());
    assert_eq!(registry.pull("packages/configured", "latest"), digest);
    registry.pull("packages/count-words", "latest");
    let roots = || fs::read_dir(registry.state.join("gcroots")).unwrap().count();
    eventually("the first image is dropped with all its roots", || roots() == 1);
    bed.collect_garbage();
    assert_eq!(bed.store_path("-certificates-1.0.0"), None);
    assert!(bed.store_path("-count-words-1.0.0").is_some());
}

#[test]
fn an_image_whose_store_paths_were_collected_is_made_again_as_it_was() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, &[("TAG_TTL", "1h"), ("MAX_MAPPED_FILES", "1")]);
    for name in ["packages/configured", "packages/greet"] {
        let digest = registry.pull(name, "latest");
        registry.kill();
        for link in fs::read_dir(registry.state.join("gcroots")).unwrap() {
            fs::remove_file(link.unwrap().path()).unwrap();
        }
        bed.collect_garbage();
        assert_eq!(bed.store_path(&format!("-{}-1.0.0", name.trim_start_matches("packages/"))), None);
        registry.run();
        for layer in layers(&registry.manifest(name, &digest)) {
            let blob = registry.blob(name, &layer);
            assert_eq!((blob.status, sha256(&blob.body)), (200, layer), "{name}\n{}", blob.text());
        }
        assert_eq!(registry.pull(name, "latest"), digest);
    }
    let digest = registry.pull("packages/configured", "latest");
    let roots = fs::read_dir(registry.state.join("gcroots")).unwrap().count();
    assert_eq!(roots, 4, "configured with two that it mentions, and greet");
    bed.collect_garbage();
    let read = registry.logged("INFO indexed");
    assert_eq!(registry.pull("packages/configured", "latest"), digest);
    assert_eq!(registry.logged("INFO indexed"), read);
}

#[test]
fn what_was_served_stays_what_it_was_when_packages_become_layers_by_other_rules() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    let name = "packages/greet";
    let before = registry.pull(name, "latest");
    registry.stop();
    registry.set("MAX_LAYERS", "2");
    for list in fs::read_dir(registry.state.join("layers")).unwrap() {
        fs::remove_file(list.unwrap().path()).unwrap();
    }
    registry.run();
    let now = registry.pull(name, "latest");
    assert_ne!(now, before);
    assert_eq!(layers(&registry.manifest(name, &now)).len(), 2);
    let old = layers(&registry.manifest(name, &before));
    assert_eq!(old.len(), 4);
    for layer in old {
        let blob = registry.blob(name, &layer);
        assert_eq!((blob.status, sha256(&blob.body)), (200, layer), "{}", blob.text());
    }
    assert_eq!(registry.pull(name, "latest"), now);

    // Popularity counts as well; archives do not depend on any of these, and are not read again.
    registry.pull("packages/hello-plain", "latest");
    let archives = registry.logged("docker-image-hello.tar digest");
    registry.stop();
    let popularity = registry.state.join("popularity.json");
    fs::write(&popularity, "{\"words-1.0.0\": 100}").unwrap();
    registry.set("POPULARITY", popularity.to_str().unwrap());
    registry.set("MAX_LAYERS", "94");
    registry.set("LAYER_STRATEGY", "nixery");
    registry.run();
    registry.pull("packages/hello-plain", "latest");
    assert_eq!(registry.logged("docker-image-hello.tar digest"), archives);
    registry.pull(name, "latest");
    let words = [["words-1.0.0".to_owned()].to_vec()];
    assert!(store_paths(&registry, name).windows(1).any(|layer| layer == words), "it is popular");
}

#[test]
fn a_changed_package_changes_the_layers_that_have_it_and_no_others() {
    let flake = Flake::new("");
    let text = |version: u32| {
        derivations(&format!(
            r#"app = let
                base = make "base" "mkdir $out; echo base >$out/x" {{ }};
                lib = make "lib" "mkdir $out; echo ${{base}} {version} >$out/x" {{ }};
              in make "app" "mkdir -p $out/bin; echo ${{lib}} >$out/bin/app; chmod 555 $out/bin/app" {{ }};"#
        ))
    };
    flake.write_text(&text(1));
    let registry = Registry::start(&flake, &[("TAG_TTL", "0"), ("TAG_STALE", "0")]);
    let name = "packages/app";
    registry.pull(name, "latest");
    let before = layers(&registry.manifest(name, "latest"));
    assert_eq!(store_paths(&registry, name).len(), 3);
    flake.write_text(&text(2));
    eventually("the change is seen", || layers(&registry.manifest(name, "latest")) != before);
    registry.pull(name, "latest");
    let after = layers(&registry.manifest(name, "latest"));
    let same: Vec<&String> = after.iter().filter(|layer| before.contains(layer)).collect();
    assert_eq!((before.len(), after.len(), same.len()), (4, 4, 1), "{before:?} {after:?}");
}

#[test]
fn what_cannot_become_an_image_is_an_error_that_says_what_to_change() {
    let flake = Flake::new("");
    flake.write_text(&derivations(
        r#"app = make "app" "mkdir $out" { };
           field = app // { imageConfig.Entrypont = [ ]; };
           value = app // { passthru.imageConfig.Env = { A = "1"; }; };
           set = app // { imageConfig = [ ]; };
           function = app // { imageConfig.Cmd = x: x; };
           throws = app // { imageConfig.Cmd = throw "not before noon"; };
           main = app // { meta.mainProgram = "app"; };
           main-type = app // { meta.mainProgram = 7; };
           itself = app // { imageConfig.Labels.from = app.drvPath; };
           darwin = derivation { name = "darwin"; system = "x86_64-darwin"; builder = "/bin/sh"; };
           archive = example.packages.hello-plain.image // { imageConfig.User = "x"; };
           none = { };"#,
    ));
    let registry = Registry::start(&flake, &[]);
    let origin = |name: &str| format!("{}#packages.x86_64-linux.{name}", flake.reference());
    for (name, parts) in [
        (
            "field",
            vec![
                origin("field"),
                ".imageConfig cannot be used: it has the unknown field \"Entrypont\"".into(),
                "accepted are Entrypoint (a list of strings), Cmd".into(),
            ],
        ),
        (
            "value",
            vec![
                origin("value"),
                "its Env is a set; accepted is a list of strings such as \"NAME=value\"".into(),
            ],
        ),
        ("set", vec![origin("set"), "it is a list, not a set of fields".into()]),
        ("function", vec!["the evaluation failed".into(), "function".into()]),
        ("throws", vec!["the evaluation failed".into(), "not before noon".into()]),
        ("main", vec!["meta.mainProgram is \"app\", but there is no program bin/app".into()]),
        ("main-type", vec!["packages.x86_64-linux.main-type.meta.mainProgram is of type int".into()]),
        ("itself", vec![origin("itself"), "mentions the derivation".into(), "-app.drv itself".into()]),
        ("darwin", vec![origin("darwin"), "x86_64-darwin cannot run in a container of Linux".into()]),
        ("archive", vec!["it is an image already".into(), "imageConfig has no effect".into()]),
    ] {
        let message =
            registry.manifest(&format!("packages/{name}"), "latest").is_error(422, "MANIFEST_UNKNOWN");
        for part in parts {
            assert!(message.contains(&part), "{part:?} is missing in: {message}");
        }
    }
    let message = registry.manifest("packages/none", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(message.contains("it has no attribute image and is no derivation"), "{message}");
}

#[test]
fn a_package_that_is_an_image_itself_is_served_as_it_is() {
    let flake = Flake::new("");
    flake.write_text(&derivations(
        "plain = example.packages.hello-plain.image; streamed = example.packages.hello-streamed.image; \
         layout = example.packages.hello-oci.image;",
    ));
    let registry = Registry::start(&flake, &[]);
    for name in ["plain", "streamed", "layout"] {
        assert_eq!(
            registry.pull(&format!("packages/{name}"), "latest"),
            registry.pull(name, "latest"),
            "{name}"
        );
    }
}

#[test]
fn a_closure_may_have_so_many_store_paths_and_no_more() {
    let flake = Flake::new("");
    let allowed = |count| Registry::start(&flake, &[("MAX_CLOSURE_PATHS", count)]);
    let message = allowed("2").manifest("packages/greet", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("greet-1.0.0 has more than 2 store paths"), "{message}");
    assert!(message.contains("MAX_CLOSURE_PATHS"), "{message}");
    allowed("3").pull("packages/greet", "latest");
}

fn catalog(registry: &Registry) -> Vec<String> {
    let answer: Answer = registry.get("/v2/_catalog");
    serde_json::from_value(answer.json()["repositories"].clone()).unwrap()
}

#[test]
fn packages_are_listed_and_found_unless_that_is_switched_off() {
    let flake = Flake::new("");
    let on = Registry::start(&flake, &[]);
    let names = catalog(&on);
    for name in ["packages/greet", "packages/no-image", "packages/hello", "packages/misconfigured"] {
        assert!(names.iter().any(|listed| listed == name), "{name} in {names:?}");
    }
    assert!(
        !names.iter().any(|name| name.contains("not-a-derivation") || name.contains("nested")),
        "{names:?}"
    );
    let near = on.manifest("packages/gret", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(near.contains("near misses: greet"), "{near}");
    // A bare name is an output as it is, which here is no image.
    let message = on.manifest("greet", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("is not a container image: it is a folder with: bin"), "{message}");
    assert!(message.ends_with("to make an image of a package, ask for packages/greet"), "{message}");
    let message = on.manifest("text", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(!message.contains("packages/text"), "it has an image, which is none: {message}");

    let off = Registry::start(&flake, &[("IMPLICIT_IMAGES", "0")]);
    let names = catalog(&off);
    assert!(!names.iter().any(|name| name == "packages/greet" || name == "packages/no-image"), "{names:?}");
    assert!(names.iter().any(|name| name == "packages/hello"));
    for name in ["greet", "no-image"] {
        let message = off.manifest(&format!("packages/{name}"), "latest").is_error(404, "NAME_UNKNOWN");
        assert!(message.ends_with("but it has no attribute image"), "{message}");
    }
    let message = off.manifest("greet", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(!message.contains("packages/greet"), "{message}");
    assert_eq!(off.logged("building"), 0, "the other registry has built it");
}

#[test]
fn layers_name_their_store_paths_for_nix_snapshotter_if_told_to() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    let names = ["packages/greet", "packages/hello-streamed"];
    let plain = names.map(|name| registry.pull(name, "latest"));
    registry.stop();
    registry.set("NIX_SNAPSHOTTER", "1");
    registry.run();
    // Its one layer of a store path has that in another place.
    let moved = "packages/hello-nix2container";
    registry.pull(moved, "latest");
    for layer in registry.manifest(moved, "latest").json()["layers"].as_array().unwrap() {
        assert_eq!(layer["annotations"], json!({ "containerd.io/snapshot/nix-layer": "true" }));
    }
    for (name, plain) in names.into_iter().zip(plain) {
        assert_ne!(registry.pull(name, "latest"), plain);
        let (annotated, plain) = (registry.manifest(name, "latest"), registry.manifest(name, &plain));
        assert_eq!(layers(&annotated), layers(&plain));
        assert_eq!(annotated.json()["config"], plain.json()["config"]);
        let manifest = annotated.json();
        let (last, others) = manifest["layers"].as_array().unwrap().split_last().unwrap();
        for layer in others {
            let annotations = layer["annotations"].as_object().unwrap();
            assert_eq!(annotations["containerd.io/snapshot/nix-layer"], "true");
            let path = annotations["containerd.io/snapshot/nix-store-path.0"].as_str().unwrap();
            assert!(fs::exists(path).unwrap(), "{path}");
            assert_eq!(annotations.len(), 2);
        }
        assert_eq!(last["annotations"], json!({ "containerd.io/snapshot/nix-layer": "true" }));
    }
}
