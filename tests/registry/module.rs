//! The NixOS module, evaluated by a real Nix with stand-ins for nixpkgs (`tests/nix`). What its units do is for `dev/boot`.

use crate::support::{Registry, nix, nonce, testbed};
use std::{fs, path::Path, process::Output};

fn repository(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file).display().to_string()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn options_become_units_and_contradictions_say_what_to_change() {
    let cases =
        text(nix("nix", &["eval", "--json", "--impure", "--file", &repository("tests/nix/cases.nix")]));
    let cases: Vec<serde_json::Value> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() > 15);
    for case in cases {
        let found = case["found"].as_str().unwrap();
        let parts =
            |name: &str| case[name].as_array().unwrap().iter().map(|part| part.as_str().unwrap().to_owned());
        for part in parts("parts") {
            assert!(found.contains(&part), "{}: {part:?} is not in\n{found}", case["what"]);
        }
        for part in parts("absent") {
            assert!(!found.contains(&part), "{}: {part:?} is in\n{found}", case["what"]);
        }
    }
}

#[test]
fn the_system_contains_the_derivations_of_images_and_a_pull_builds_them() {
    let argument = nonce();
    let file = repository("tests/nix/catalog.nix");
    let examples = repository("examples");
    let common =
        ["--impure", "--file", &file, "--arg", "examples", &examples, "--argstr", "nonce", &argument];
    let run =
        |before: &[&str], attribute: &str| text(nix("nix", &[before, &common[..], &[attribute]].concat()));

    let system = run(&["build", "--no-link", "--print-out-paths"], "catalog");
    let catalog = fs::read_to_string(&system).unwrap();
    let (image, derivation) =
        (run(&["eval", "--raw"], "image.outPath"), run(&["eval", "--raw"], "image.drvPath"));
    assert!(!Path::new(&image).exists(), "the system needed the image itself");
    let closure = text(nix("nix-store", &["--query", "--requisites", &system]));
    let outputs: Vec<&str> =
        closure.lines().filter(|path| path.contains("image") && !path.ends_with(".drv")).collect();
    assert!(closure.lines().any(|path| path == derivation), "{closure}");
    assert!(!outputs.contains(&image.as_str()), "{closure}");

    let registry = Registry::start_with(&[("CATALOG", &catalog), ("EVALUATOR_SOCKET", "/nowhere")]);
    registry.pull("shop/hello", "latest");
    assert!(Path::new(&image).exists());
    assert!(image.starts_with(&testbed("NIX_STORE_DIR")));
}
