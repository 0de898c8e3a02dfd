//! A catalog of images, without an evaluator.

use crate::support::{Flake, Registry, eventually, nix, testbed};
use std::{fs, io::Write, path::Path, process::Command, thread};

struct Catalog {
    dir: tempfile::TempDir,
}

impl Catalog {
    fn new(text: &str) -> Self {
        let catalog = Self { dir: tempfile::tempdir().unwrap() };
        catalog.write(text);
        catalog
    }

    fn path(&self) -> String {
        self.dir.path().join("catalog.json").display().to_string()
    }

    fn write(&self, text: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    /// A registry with this catalog and no evaluator.
    fn registry(&self) -> Registry {
        let path = self.path();
        Registry::start_with(&[
            ("CATALOG", &path),
            ("EVALUATOR_SOCKET", "/nowhere/socket"),
            ("UNKNOWN_TTL", "0"),
        ])
    }
}

/// The derivation of an attribute of the flake; nothing is built.
pub fn derivation(flake: &Flake, attribute: &str) -> String {
    let reference = format!("{}#{attribute}.drvPath", flake.reference());
    let output = nix("nix", &["eval", "--raw", "--impure", &reference]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn build(flake: &Flake, attribute: &str) -> String {
    let reference = format!("{}#{attribute}", flake.reference());
    let arguments = ["build", "--impure", "--no-link", "--print-out-paths", &reference];
    let output = nix("nix", &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn derivations_are_built_and_paths_served_with_no_evaluator() {
    let flake = Flake::new("");
    let (hello, demo) = (derivation(&flake, "hello.image"), build(&flake, "demo.containers"));
    let catalog = Catalog::new(&format!(
        r#"{{ "hello": {{ "drvPath": "{hello}", "output": "out" }},
              "shop/web": {{ "outPath": "{demo}", "image": "web" }},
              "shop/nothing": {{ "outPath": "{demo}", "image": "nothing" }},
              "shop/all": {{ "outPath": "{demo}" }} }}"#
    ));
    let registry = catalog.registry();
    registry.pull("hello", "latest");
    assert_eq!(registry.logged("building"), 1);
    registry.pull("shop/web", "latest");
    let known = registry.manifest("shop/nothing", "latest").is_error(404, "NAME_UNKNOWN");
    let needed = registry.manifest("shop/all", "latest").is_error(422, "MANIFEST_UNKNOWN");
    for message in [known, needed] {
        assert!(message.contains("db, web, worker"), "{message}");
    }
    let near = registry.manifest("shop/wep", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(near.contains("near misses: shop/web"), "{near}");
    registry.manifest("hello", "1.0").is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(registry.get("/readyz").status, 200, "no evaluator is waited for");
    let names = registry.get("/v2/_catalog").json()["repositories"].clone();
    assert_eq!(names, serde_json::json!(["hello", "shop/all", "shop/nothing", "shop/web"]));
}

#[test]
fn a_catalog_that_changes_is_read_again_and_a_broken_one_is_not_taken() {
    let flake = Flake::new("");
    let hello = derivation(&flake, "hello.image");
    let catalog = Catalog::new("{}");
    let registry = catalog.registry();
    registry.manifest("hello", "latest").is_error(404, "NAME_UNKNOWN");
    catalog.write(&format!(r#"{{ "hello": {{ "drvPath": "{hello}" }} }}"#));
    registry.pull("hello", "latest");
    catalog.write("{ broken");
    eventually("the broken one has been seen", || {
        registry.get("/v2/_catalog");
        registry.manifest("hello", "nothing");
        registry.logged("the last good one stays") == 1
    });
    registry.pull("hello", "latest");
}

#[test]
fn while_a_changed_catalog_is_being_read_other_requests_are_answered() {
    let flake = Flake::new("");
    let demo = build(&flake, "demo.containers");
    let text = format!(r#"{{ "web": {{ "outPath": "{demo}", "image": "web" }} }}"#);
    let catalog = Catalog::new("{}");
    let mut registry = catalog.registry();
    registry.stop();
    registry.set("TOKIO_WORKER_THREADS", "1");
    registry.run();
    // A file that takes for ever to read.
    let (slow, text) = (catalog.dir.path().join("slow"), &text);
    assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());
    fs::rename(&slow, catalog.path()).unwrap();
    thread::scope(|scope| {
        let pull = scope.spawn(|| registry.manifest("web", "latest").status);
        // Opened for writing as soon as somebody reads.
        let mut slow = fs::File::options().write(true).open(catalog.path()).unwrap();
        assert_eq!(registry.get("/healthz").status, 200);
        catalog.write(text);
        slow.write_all(text.as_bytes()).unwrap();
        drop(slow);
        assert_eq!(pull.join().unwrap(), 200);
    });
}

#[test]
fn a_path_that_is_not_in_the_store_is_a_clear_404() {
    let nowhere = Path::new(&testbed("NIX_STORE_DIR")).join("00000000000000000000000000000000-nothing");
    let catalog = Catalog::new(&format!(
        r#"{{ "path": {{ "outPath": "{0}" }}, "derivation": {{ "drvPath": "{0}.drv" }} }}"#,
        nowhere.display()
    ));
    let registry = catalog.registry();
    for name in ["path", "derivation"] {
        let message = registry.manifest(name, "latest").is_error(404, "MANIFEST_UNKNOWN");
        assert!(message.contains("00000000000000000000000000000000-nothing"), "{message}");
    }
}

#[test]
fn a_catalog_that_is_broken_from_the_start_stops_it_with_one_line() {
    let catalog = Catalog::new("{}");
    let mut registry = catalog.registry();
    registry.stop();
    catalog.write(r#"{ "hello": { "outPath": "/etc/passwd" } }"#);
    let (text, code) = registry.run_to_its_end(&[]);
    assert_eq!((text.lines().count(), code), (1, Some(1)), "{text}");
    assert!(text.contains("entry hello") && text.contains("/etc/passwd"), "{text}");
}
