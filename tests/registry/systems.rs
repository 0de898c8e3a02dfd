//! Several systems: where a name is looked up first.

use crate::support::{Flake, Registry, nonce};

/// A flake for two systems, all of whose images this machine can build. What an attribute leads to is told by the title
/// of its image.
fn flake() -> Flake {
    let flake = Flake::new("");
    flake.write_text(&format!(
        r#"{{ outputs = _: let
            e = import <examples> {{ system = "x86_64-linux"; nonce = "{}"; }};
            images = {{ hello = e.packages.hello; app = e.packages.myApp; python = e.packages."python3.12";
                        tool = e.packages.nested.inner.tool; legacy = e.legacyPackages.legacy; top = e.topLevel; }};
          in {{
            packages.x86_64-linux = {{ both = images.hello; }};
            legacyPackages.x86_64-linux = {{ both = images.app; of-first = images.legacy; }};
            packages.aarch64-linux = {{ both = images.python; of-first = images.python; of-second = images.tool; }};
            legacyPackages.aarch64-linux = {{ of-second = images.app; last = images.python; }};
            of-second = images.top;
            nowhere-else = images.top;
          }}; }}"#,
        nonce()
    ));
    flake
}

/// The title of the image that is pulled under a name.
fn pulled(registry: &Registry, name: &str) -> String {
    let digest = registry.pull(name, "latest");
    let manifest = registry.manifest(name, &digest).json();
    let config = registry.blob(name, manifest["config"]["digest"].as_str().unwrap()).json();
    config["config"]["Labels"]["org.opencontainers.image.title"].as_str().unwrap().to_owned()
}

#[test]
fn a_name_is_looked_up_in_the_systems_in_their_order_and_in_packages_first() {
    let flake = flake();
    let settings = [("SYSTEMS", "x86_64-linux,aarch64-linux"), ("TAG_TTL", "0"), ("TAG_STALE", "0")];
    let mut registry = Registry::start(&flake, &settings);
    for (name, title) in [
        ("packages/both", "hello"),
        ("both", "hello"),
        ("packages/of-first", "legacy"),
        ("packages/of-second", "tool"),
        ("packages/last", "python3.12"),
        ("nowhere-else", "top-level"),
    ] {
        assert_eq!(pulled(&registry, name), title, "{name}");
    }
    let names = registry.get("/v2/_catalog").json()["repositories"].to_string();
    assert!(names.contains("\"packages/both\"") && names.contains("\"packages/of-second\""), "{names}");

    registry.stop();
    registry.set("SYSTEMS", "aarch64-linux,x86_64-linux");
    registry.run();
    for (name, title) in [("both", "python3.12"), ("of-first", "python3.12"), ("of-second", "tool")] {
        assert_eq!(pulled(&registry, name), title, "{name}");
    }

    // What only another system has is not there.
    registry.stop();
    registry.set("SYSTEMS", "x86_64-linux");
    registry.run();
    registry.manifest("packages/last", "latest").is_error(404, "NAME_UNKNOWN");
    assert_eq!(pulled(&registry, "of-second"), "top-level");
}
