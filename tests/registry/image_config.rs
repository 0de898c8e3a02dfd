//! `imageConfig`: where it is looked for, and where it is not.

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
fn beside_an_image_it_is_the_flakes_own_business() {
    let flake = Flake::new("");
    flake.write_text(&derivations(
        r#"app = make "app" "mkdir $out" { };
           beside = app // { image = example.packages.hello-plain.image; imageConfig.User = "x"; };
           unset = app // { image = example.packages.hello-plain.image; };"#,
    ));
    let registry = Registry::start(&flake, &[]);
    let [beside, unset] =
        ["beside", "unset"].map(|name| registry.manifest(&format!("packages/{name}"), "latest"));
    assert_eq!((beside.status, &beside.body), (200, &unset.body), "{}", beside.text());
}
