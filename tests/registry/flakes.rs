//! Flakes of all shapes.

use crate::{
    socket::Socket,
    support::{Flake, Registry},
};
use std::sync::atomic::Ordering;

fn listed(registry: &Registry) -> Vec<String> {
    let answer = registry.get("/v2/_catalog");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_value(answer.json()["repositories"].clone()).unwrap()
}

#[test]
fn packages_that_cannot_be_evaluated_do_not_hide_the_others() {
    let flake = Flake::new("");
    let mut packages = String::new();
    for i in 0..20 {
        packages += &format!("good{i} = {{ image = 1; }}; ");
    }
    for (i, bad) in
        ["abort \"no\"", "let x = x; in x", "1 + \"x\"", "{ }.missing", "throw \"no\""].iter().enumerate()
    {
        packages += &format!("bad{i} = {bad}; ");
    }
    flake.write_text(&format!("{{ outputs = _: {{ packages.x86_64-linux = {{ {packages} }}; }}; }}"));
    let registry = Registry::start(&flake, &[]);
    let names = listed(&registry);
    assert_eq!(names.len(), 20, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("packages/good")), "{names:?}");
    let (report, _) = registry.run_to_its_end(&["check"]);
    assert!(report.contains("20 images") && report.contains("4 cannot be evaluated: "), "{report}");
    for bad in ["bad0", "bad1", "bad2", "bad3"] {
        assert!(report.contains(bad), "{report}");
    }
}

#[test]
fn a_flake_of_other_outputs_lists_nothing_and_is_looked_up_all_the_same() {
    let flake = Flake::new("");
    flake.write_text(
        "{ outputs = _: { plain = (import <examples> { system = \"x86_64-linux\"; }).packages.hello-plain; }; }"
    );
    let registry = Registry::start(&flake, &[]);
    assert!(listed(&registry).is_empty());
    registry.manifest("packages/hello", "latest").is_error(404, "NAME_UNKNOWN");
    registry.pull("plain", "latest");
}

#[test]
fn a_flake_that_cannot_be_listed_is_not_evaluated_for_each_who_asks() {
    let flake = Flake::new("");
    flake.write_text("{ outputs = _: { packages.x86_64-linux = abort \"not today\"; }; }");
    let registry = Registry::start(&flake, &[]);
    for _ in 0..3 {
        assert!(listed(&registry).is_empty());
    }
    assert_eq!(registry.logged("WARN the source cannot be listed"), 1);
    let message = registry.manifest("packages/hello", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("not today"), "{message}");
}

#[test]
fn a_name_that_cannot_be_evaluated_is_not_evaluated_again_under_other_tags() {
    let flake = Flake::new("");
    flake.write_text("{ outputs = _: throw \"it is broken\"; }");
    let socket = Socket::of("EVALUATOR_SOCKET");
    let evaluations = socket.counted("counted");
    let path = socket.path();
    let settings = [("EVALUATOR_SOCKET", path.to_str().unwrap()), ("FAILURE_TTL", "1h")];
    let registry = Registry::start(&flake, &settings);
    for tag in ["a", "b", "latest", "c", "a"] {
        let message = registry.manifest("packages/hello", tag).is_error(422, "MANIFEST_UNKNOWN");
        assert!(message.contains("it is broken"), "{message}");
    }
    registry.get("/v2/packages/hello/tags/list").is_error(422, "MANIFEST_UNKNOWN");
    assert_eq!(evaluations.all.load(Ordering::SeqCst), 1);
}

#[test]
fn a_set_of_packages_that_throws_hides_nothing_that_is_elsewhere() {
    let flake = Flake::new("");
    flake.write_text(
        r#"{ outputs = _: let e = import <examples> { system = "x86_64-linux"; }; in {
            packages.x86_64-linux = throw "not on a monday";
            packages.aarch64-linux = { inherit (e.packages) demo hello-flat; };
            legacyPackages.x86_64-linux = { inherit (e.packages) hello-plain; };
            top.image = e.packages.hello.image;
          }; }"#,
    );
    let registry = Registry::start(&flake, &[("SYSTEMS", "x86_64-linux,aarch64-linux")]);
    assert_eq!(listed(&registry), ["packages/demo", "packages/hello-flat"]);
    for name in ["packages/hello-plain", "packages/hello-flat", "top", "applications/demo/web"] {
        registry.pull(name, "latest");
    }
    assert_eq!(registry.logged("packages.x86_64-linux cannot be evaluated"), 1);
    // It may be in what throws.
    let message = registry.manifest("packages/hello-plai", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("packages.x86_64-linux cannot be evaluated"), "{message}");
    assert!(message.contains("not on a monday") && message.contains("near misses: hello-plain"), "{message}");
}

#[test]
fn near_misses_are_found_in_a_set_as_large_as_nixpkgs_without_evaluating_it() {
    let flake = Flake::new("");
    flake.write_text(
        "{ outputs = _: { legacyPackages.x86_64-linux = builtins.listToAttrs (builtins.genList (i: { name = \
         \"package-${toString i}\"; value = abort \"looked at\"; }) 30000); }; }",
    );
    let registry = Registry::start(&flake, &[]);
    let message = registry.manifest("packages/pakage-777", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(message.contains("near misses: package-777,"), "{message}");
}

#[test]
fn what_is_not_a_derivation_says_so() {
    let flake = Flake::new("");
    flake.write_text(
        "{ outputs = _: { packages.x86_64-linux = { set.image = { a = 1; }; text.image = \"/nix/store/x\"; path.image = \
         ./flake.nix; fake.image = { type = \"derivation\"; }; none = { }; }; }; }",
    );
    let registry = Registry::start(&flake, &[]);
    for (name, kind) in [("set", "set"), ("text", "string"), ("path", "path"), ("fake", "drvPath")] {
        let message =
            registry.manifest(&format!("packages/{name}"), "latest").is_error(422, "MANIFEST_UNKNOWN");
        assert!(message.contains(kind), "{message}");
    }
    let message = registry.manifest("packages/none", "latest").is_error(404, "NAME_UNKNOWN");
    assert!(message.contains("it has no attribute image"), "{message}");
}
