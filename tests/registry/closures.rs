//! Store paths that a build does not refer to, named by what it makes: a guess, or a name that somebody has seen, is enough
//! to write one down, and Nix does not know it for a reference.

use crate::support::{Flake, Registry, nix, sha256, testbed};
use std::{fs, path::Path};

/// Builds what is not to be served: an archive with an image.
fn secret() -> String {
    let flake = Flake::of_scripts(&[("secret", "echo $nonce >note; cp $hello $out")]);
    let attribute = format!("{}#secret.image", flake.reference());
    let output = nix("nix", &["build", "--impure", "--no-link", "--print-out-paths", &attribute]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const CONF: &str = r#"{"architecture":"amd64","created":"now","config":{},"store_dir":"STORE""#;

#[test]
fn nothing_is_served_that_an_image_only_names() {
    let secret = secret();
    let store = Path::new(&secret).parent().unwrap().to_str().unwrap();
    let zeroes = format!("sha256:{}", "0".repeat(64));
    let image_json = |layer: &str| {
        format!(
            r#"{{"version":1,"image-config":{{}},"arch":"amd64","layers":[{{"digest":"{zeroes}","diff_ids":"{zeroes}",{layer}}}]}}"#
        )
    };
    let text = |text: &str| format!("cat >$out <<'END'\n{text}\nEND");
    let script =
        |name: &str, body: &str| (name.to_owned(), body.replace("SECRET", &secret).replace("STORE", store));
    let scripts = [
        script("link", "ln -s SECRET $out"),
        script("links", "mkdir $out; ln -s SECRET $out/app.tar"),
        script("layout", "mkdir -p $out/blobs; echo '{}' >$out/oci-layout; ln -s SECRET $out/index.json"),
        script("layers", &text(&format!(r#"{CONF},"store_layers":[["SECRET"]]}}"#))),
        script("base", &text(&format!(r#"{CONF},"store_layers":[],"from_image":"SECRET"}}"#))),
        script("custom", &text(&format!(r#"{CONF},"store_layers":[],"customisation_layer":"SECRET"}}"#))),
        script("script", &text("#! /bin/sh\nexec SECRET-conf.json")),
        script("n2c-paths", &text(&image_json(r#""paths":[{"path":"SECRET"}]"#))),
        script("n2c-file", &text(&image_json(r#""layer-path":"SECRET""#))),
    ];
    let scripts: Vec<_> = scripts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let flake = Flake::of_scripts(&scripts);
    let registry = Registry::start(&flake, &[]);
    for (name, _) in &scripts {
        let said = registry.manifest(name, "latest").is_error(422, "MANIFEST_UNKNOWN");
        assert!(said.contains(&secret) && said.contains("not in the runtime closure"), "{name}: {said}");
    }
    let digest = sha256(&fs::read(&secret).unwrap());
    for (name, _) in &scripts {
        assert_eq!(registry.blob(name, &digest).status, 404);
    }
    for folder in ["blobs", "layers", "gcroots"] {
        let left = fs::read_dir(registry.state.join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}

#[test]
fn what_a_build_refers_to_is_served() {
    let conf = CONF.replace("STORE", &testbed("NIX_STORE_DIR"));
    let base = format!(r#"printf '{conf},"store_layers":[["%s"]],"from_image":"%s"}}' $hello $hello >$out"#);
    let flake = Flake::of_scripts(&[
        ("plain", "cp $hello $out"),
        ("link", "ln -s $hello $out"),
        ("links", "mkdir $out; ln -s $hello $out/app.tar"),
        ("base", &base),
    ]);
    let registry = Registry::start(&flake, &[]);
    let digest = registry.pull("plain", "latest");
    assert_eq!(registry.pull("link", "latest"), digest);
    assert_eq!(registry.pull("links", "latest"), digest);
    registry.pull("base", "latest");
}

#[test]
fn a_closure_that_is_too_large_names_its_setting() {
    let flake = Flake::of_scripts(&[("link", "ln -s $hello $out")]);
    let registry = Registry::start(&flake, &[("MAX_CLOSURE_PATHS", "1")]);
    let said = registry.manifest("link", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(said.contains("MAX_CLOSURE_PATHS"), "{said}");
}
