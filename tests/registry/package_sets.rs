//! Names that are packages of a package set: `git/htop`, `shell/git`.

use crate::{
    bed::Bed,
    support::{Flake, Registry, layers, nonce},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

/// A package set in a folder, as nixpkgs is one: a function of the system, and attributes with dots, capitals and digits.
/// A package's program prints the package's name.
fn package_set(folder: &Path, version: &str) {
    let text = r#"
      { system ? "none", config ? { } }:
      let
        busybox = import <examples/busybox.nix>;
        make = name: programs: derivation {
          inherit system;
          name = "${name}-VERSION";
          builder = "${busybox}/busybox";
          args = [ "sh" "-euc" ''
            ${busybox}/busybox mkdir -p $out/bin $out/etc/ssl/certs
            ${if name == "cacert" then "echo certificates >$out/etc/ssl/certs/ca-bundle.crt" else ""}
            for program in ${programs}; do
              printf '#!${busybox}/busybox sh\necho ${name}\n' >$out/bin/$program
              ${busybox}/busybox chmod +x $out/bin/$program
            done
          '' ];
        } // { version = "VERSION"; meta.mainProgram = "not-there"; };
        # what the image can be tried with
        bash = derivation {
          inherit system;
          name = "bash-VERSION";
          builder = "${busybox}/busybox";
          args = [ "sh" "-euc" ''
            ${busybox}/busybox mkdir -p $out/bin
            ${busybox}/busybox ln -s ${busybox}/busybox $out/bin/sh
            printf '#!${busybox}/busybox sh\nexec ${busybox}/busybox sh "$@"\n' >$out/bin/bash
            ${busybox}/busybox chmod +x $out/bin/bash
          '' ];
        };
      in
      {
        hello = make "hello" "hello";
        tools.count = make "count" "count count-all";
        CamelCase = make "camel" "camel";
        _1st = make "first" "first";
        bashInteractive = bash;
        coreutils = make "coreutils" "env ls";
        moreutils = make "moreutils" "sponge";
        nano = make "nano" "nano";
        cacert = make "cacert" "";
        broken = throw "it is broken on purpose";
        lib.id = x: x;
      }"#;
    let text = text.replace("VERSION", version);
    fs::write(folder.join("default.nix"), text).unwrap();
}

pub fn registry(settings: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    package_set(folder.path(), "1.0");
    let reference = format!("path:{}", folder.path().display());
    let registry = Registry::start_with(&[&[("PACKAGE_SET", reference.as_str())], settings].concat());
    (folder, registry)
}

fn config(registry: &Registry, name: &str) -> Value {
    let manifest = registry.manifest(name, "latest").json();
    registry.blob(name, manifest["config"]["digest"].as_str().unwrap()).json()
}

/// The names of the store paths in an image, sorted.
fn contents(registry: &Registry, name: &str) -> Vec<String> {
    let config = config(registry, name);
    let comments =
        config["history"].as_array().unwrap().iter().map(|layer| layer["comment"].as_str().unwrap());
    let paths =
        comments.filter_map(|comment| comment.strip_prefix("store paths: ")).flat_map(|p| p.split(' '));
    let mut names: Vec<String> = paths.map(|path| path[33..].trim_end_matches("-1.0").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_image_has_the_packages_that_its_name_lists_in_any_order() {
    let (_folder, registry) = registry(&[]);
    let digest = registry.pull("hello/tools.count", "latest");
    assert_eq!(registry.pull("tools.count/hello/hello", "latest"), digest);
    assert_eq!(contents(&registry, "hello/tools.count"), ["busybox", "cacert", "count", "hello"]);
    let settings = config(&registry, "hello/tools.count")["config"].clone();
    assert_eq!(settings["Entrypoint"], Value::Null, "clients name the program");
    assert_eq!(settings["Cmd"], Value::Null);
    assert_eq!(settings["Env"], json!(["PATH=/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"]));
}

#[test]
fn packages_are_found_by_names_that_clients_accept() {
    let (_folder, registry) = registry(&[]);
    for (name, package) in [("camelcase", "camel"), ("1st", "first")] {
        registry.pull(name, "latest");
        assert_eq!(contents(&registry, name), ["busybox", "cacert", package]);
    }
    let tags = registry.get("/v2/hello/tags/list").json();
    registry.pull("hello", "latest");
    registry.pull("hello", "1.0");
    let after = registry.get("/v2/hello/tags/list").json();
    assert_eq!(after["tags"], json!(["1.0", "latest"]), "before: {tags}");
    assert!(layers(&registry.manifest("hello", "latest")).len() >= 3);
}

#[test]
fn shell_and_arm64_stand_for_more() {
    let (_folder, registry) = registry(&[]);
    registry.pull("shell/hello", "latest");
    let expected = ["bash", "busybox", "cacert", "coreutils", "hello", "moreutils", "nano"];
    assert_eq!(contents(&registry, "shell/hello"), expected);
    let config = config(&registry, "shell/hello");
    assert_eq!((&config["config"]["Cmd"], &config["architecture"]), (&json!(["bash"]), &json!("amd64")));
    assert_eq!(config["config"]["Env"][0], "PATH=/bin:/usr/bin", "/usr/bin/env is there");
    // Nothing here can build for it: nix-daemon's answer shows what was asked of it.
    let answer = registry.manifest("arm64/hello", "latest");
    let message = answer.is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("aarch64-linux"), "{message}");
}

#[test]
fn what_is_not_there_is_named_with_what_is_near() {
    let (_folder, registry) = registry(&[]);
    let message = registry.manifest("hello/helo", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(message.contains("there is no package helo in path:/") && message.contains("hello"), "{message}");
    let message = registry.manifest("arm64", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(message.contains("names no package"), "{message}");
    let message = registry.manifest("broken", "latest").error().1;
    assert!(message.contains("it is broken on purpose"), "{message}");
    let message = registry.manifest("lib", "latest").error().1;
    assert!(message.contains("not a derivation"), "{message}");
    let message = registry.manifest("hello", "no-such-tag").is_error(404, "MANIFEST_UNKNOWN");
    assert!(message.contains("no-such-tag"), "{message}");
    assert_eq!(registry.logged("building"), 0, "nothing of it is built");
}

#[test]
fn a_tag_is_a_revision_of_a_package_set_in_git() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@t", "-C"]).arg(folder.path()).args(arguments);
        assert!(command.output().unwrap().status.success(), "git {arguments:?}");
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    let system = if cfg!(target_arch = "aarch64") { "aarch64-linux" } else { "x86_64-linux" };
    let flake = format!(
        "{{ outputs = _: {{ legacyPackages.{system} = import ./packages.nix {{ system = \"{system}\"; }}; }}; }}"
    );
    for version in ["1.0", "2.0"] {
        package_set(folder.path(), version);
        fs::rename(folder.path().join("default.nix"), folder.path().join("packages.nix")).unwrap();
        fs::write(folder.path().join("flake.nix"), &flake).unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", version]);
        git(&["tag", &format!("v{version}")]);
    }
    let reference = format!("git+file://{}", folder.path().display());
    let registry = Registry::start_with(&[("PACKAGE_SET", &reference)]);
    let (latest, old) = (registry.pull("hello", "latest"), registry.pull("hello", "v1.0"));
    assert_ne!(latest, old);
    assert_eq!(registry.pull("hello", "v2.0"), latest);
    assert_eq!(registry.pull("hello", "main"), latest);
}

#[test]
fn a_flake_goes_first_and_its_forms_are_its_own() {
    let folder = tempfile::tempdir().unwrap();
    package_set(folder.path(), "1.0");
    let reference = format!("path:{}", folder.path().display());
    let name = format!("mine-{}", nonce());
    let flake = Flake::of_scripts(&[(&name, "echo mine >$out/file")]);
    let registry = Registry::start(&flake, &[("PACKAGE_SET", &reference)]);
    registry.pull("hello", "latest");
    registry.pull("hello/nano", "latest");
    let message = registry.manifest("helloo", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(message.contains("; and there is no package helloo in"), "{message}");
    let message = registry.manifest("packages/nano", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(!message.contains("package nano"), "{message}");
}

#[test]
fn an_entry_of_the_evaluators_search_path_is_used_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    package_set(folder.path(), "1.0");
    let bed = Bed::up_with(&[("TESTBED_NIX_PATH", &format!("ours={}", folder.path().display()))]);
    let registry = bed.registry(&Flake::new(""), &[("FLAKE", ""), ("PACKAGE_SET", "<ours>")]);
    registry.pull("hello", "latest");
    assert!(bed.store_path("-source").is_none(), "the set was copied to the store");
    let message = registry.manifest("hello", "v1").is_error(404, "MANIFEST_UNKNOWN");
    assert!(message.contains("has no tag v1"), "{message}");
    // One that it has not.
    let registry = bed.registry(&Flake::new(""), &[("FLAKE", ""), ("PACKAGE_SET", "<theirs>")]);
    let message = registry.manifest("hello", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("file 'theirs' was not found"), "{message}");
}

#[test]
fn check_and_readiness_look_at_the_package_set() {
    let (folder, registry) = registry(&[]);
    assert_eq!(registry.get("/readyz").status, 200);
    let (output, code) = registry.run_to_its_end(&["check"]);
    let line = format!("ok  PACKAGE_SET: path:{}: can be evaluated", folder.path().display());
    assert!(output.contains(&line) && code == Some(0), "{output}");
    fs::write(folder.path().join("default.nix"), "throw ''nothing to see''").unwrap();
    let (output, code) = registry.run_to_its_end(&["check"]);
    assert!(
        output.contains("BAD PACKAGE_SET") && output.contains("nothing to see") && code == Some(1),
        "{output}"
    );
}
