//! `imageConfig`: where it is looked for, and where it is in the way.

use crate::{
    packages::{config, derivations},
    support::{Flake, Registry},
};
use serde_json::json;

#[test]
fn it_is_taken_from_passthru_unless_it_is_beside_that() {
    let flake = Flake::new("");
    flake.write_text(&derivations(
        r#"app = make "app" "mkdir $out" { };
           through = app // { passthru.imageConfig = { User = "through"; Cmd = [ "${app}/x" ]; }; };
           both = through // { imageConfig.User = "beside"; };"#,
    ));
    let registry = Registry::start(&flake, &[]);
    registry.pull("packages/through", "latest");
    let settings = config(&registry, "packages/through")["config"].clone();
    assert_eq!(settings["User"], json!("through"));
    assert!(settings["Cmd"][0].as_str().unwrap().ends_with("-app/x"), "{settings}");
    let settings = config(&registry, "packages/both")["config"].clone();
    assert_eq!((&settings["User"], &settings["Cmd"]), (&json!("beside"), &json!(null)));
}

#[test]
fn beside_an_image_it_is_an_error_that_names_both() {
    let flake = Flake::new("");
    flake.write_text(&derivations(
        r#"app = make "app" "mkdir $out" { };
           beside = app // { image = example.packages.hello-plain.image; imageConfig.User = "x"; };
           through = app // { image = example.packages.hello-plain.image; passthru.imageConfig = { }; };
           unset = app // { image = example.packages.hello-plain.image; imageConfig = null; };"#,
    ));
    for settings in [&[][..], &[("IMPLICIT_IMAGES", "0")]] {
        let registry = Registry::start(&flake, settings);
        for name in ["beside", "through"] {
            for path in [format!("packages/{name}"), name.to_owned()] {
                let message = registry.manifest(&path, "latest").is_error(422, "MANIFEST_UNKNOWN");
                let origin = format!("packages.x86_64-linux.{name}");
                let expected = format!(
                    "{origin}.image is an image already, on which {origin}.imageConfig has no effect"
                );
                assert!(message.contains(&expected), "{expected:?} is missing in: {message}");
            }
        }
        registry.pull("packages/unset", "latest");
    }
}
