//! What every client must be able to do.

use super::{Client, proxy::Proxy};
use crate::support::{Flake, Registry, eventually, layers};
use serde_json::Value;

const GREETING: &str = "Hello from forge-registry";

/// Pulls an image and runs it.
fn pull_and_run(client: &dyn Client, image: &str, command: &[&str]) -> String {
    client.pull(image).expect();
    client.run(image, command).expect().to_owned()
}

pub fn an_image_of_every_format_runs(client: &dyn Client) {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    for (name, prints) in [
        ("packages/hello", GREETING),
        ("packages/hello-plain", GREETING),
        ("packages/hello-zstd", GREETING),
        ("packages/hello-xz", GREETING),
        ("packages/hello-flat", GREETING),
        ("packages/hello-oci", GREETING),
        ("packages/hello-oci-plain", GREETING),
        ("packages/hello-oci-archive-gzip", GREETING),
        ("packages/hello-nix2container", "Hello from nix2container as 1000 in /home/me"),
        ("packages/python3.12", "Hello from python3.12"),
        ("packages/nested.inner.tool", "Hello from tool"),
        ("hello", GREETING),
    ] {
        let printed = pull_and_run(client, &format!("{}/{name}:latest", registry.address), &[]);
        assert!(printed.contains(prints), "{name}: {printed}");
    }
}

/// What a client does with layers that are kept compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compressed {
    Run,
    /// What runs the images here cannot unpack them.
    Pulled,
    /// It cannot unpack them, so it gets the form of the image that has plain ones.
    PlainInstead,
}

/// Images whose layers are kept compressed are pulled by a client that has nothing yet.
pub fn compressed_layers(client: &dyn Client, compression: &str, expected: Compressed) {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("LAYER_COMPRESSION", compression), ("TAG_TTL", "1h")]);
    for (name, prints) in [
        ("packages/hello-plain", GREETING),
        ("packages/hello", GREETING),
        ("packages/hello-streamed", "Hello from the package greeter"),
        ("packages/greet", "Hello, world from greet"),
    ] {
        let image = format!("{}/{name}:latest", registry.address);
        client.pull(&image).expect();
        if expected != Compressed::Pulled {
            let printed = client.run(&image, &[]).expect().to_owned();
            assert!(printed.contains(prints), "{name}: {printed}");
        }
        let docker = [("accept", "application/vnd.docker.distribution.manifest.v2+json")];
        let (accept, media_type) = match expected {
            Compressed::PlainInstead => {
                (&docker[..], "application/vnd.docker.image.rootfs.diff.tar".to_owned())
            }
            _ => (&[][..], format!("application/vnd.oci.image.layer.v1.tar+{compression}")),
        };
        let manifest = registry.request("GET", &format!("/v2/{name}/manifests/latest"), accept);
        let types = manifest.json()["layers"].as_array().unwrap().clone();
        assert!(types.iter().all(|layer| layer["mediaType"] == *media_type), "{types:?}");
        // Stopped, it has logged every request that it answered. The second image has the layers of the first.
        registry.stop();
        for layer in layers(&manifest).iter().filter(|_| name == "packages/hello-plain") {
            let line = format!("reference=\"{layer}\"");
            assert!(requests(&registry, &["method=GET", &line, "status=200"]) > 0, "{}", registry.log());
        }
        registry.run();
    }
}

pub fn packages_without_an_image_run(client: &dyn Client) {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("NIX_SNAPSHOTTER", "1"), ("TAG_TTL", "1h")]);
    for (name, prints) in [
        ("greet", "Hello, world from greet"),
        ("count-words", "2"),
        ("outputs", "42 from the output lib"),
        ("fetch", "-----BEGIN CERTIFICATE-----"),
        ("no-image", "Hello from the package no-image"),
        // With what the flake states of it: the variables, the user, the folder, and a package that these mention.
        ("configured", "Hello from 65534 in /var/lib/configured: -----BEGIN CERTIFICATE-----"),
    ] {
        let printed = pull_and_run(client, &format!("{}/packages/{name}:latest", registry.address), &[]);
        assert!(printed.contains(prints), "{name}: {printed}");
        registry.kill();
        registry.run();
    }
    // By a link in /bin.
    let image = format!("{}/packages/greet:latest", registry.address);
    let printed = pull_and_run(client, &image, &["/bin/greet-loudly"]);
    assert!(printed.contains("HELLO, WORLD FROM GREET"), "{printed}");
}

pub fn only_changed_layers_of_a_package_are_fetched_again(client: &dyn Client) {
    let flake = Flake::new("");
    let settings = [("TAG_TTL", "0"), ("TAG_STALE", "0"), ("LAYER_STRATEGY", "nixpkgs")];
    let mut registry = Registry::start(&flake, &settings);
    let layers = |registry: &Registry| layers(&registry.manifest("packages/greet", "latest"));
    let image = format!("{}/packages/greet:latest", registry.address);
    client.pull(&image).expect();
    let before = layers(&registry);
    // Another nonce: everything is built anew, but for busybox.
    flake.write("");
    eventually("the change is seen", || layers(&registry) != before);
    client.pull(&image).expect();
    let after = layers(&registry);
    let printed = client.run(&image, &[]).expect().to_owned();
    assert!(printed.contains("Hello, world from greet"), "{printed}");
    registry.stop();
    let fetched = |layer: &String| {
        let line = format!("reference=\"{layer}\"");
        requests(&registry, &["method=GET", &line, "status=200"])
    };
    let same: Vec<&String> = after.iter().filter(|layer| before.contains(layer)).collect();
    assert_eq!((before.len(), after.len(), same.len()), (4, 4, 1));
    assert!(before.iter().chain(&after).all(|layer| fetched(layer) == 1), "{}", registry.log());
}

pub fn a_container_of_an_application_runs(client: &dyn Client) {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let image = |name: &str| format!("{}/applications/demo/{name}:latest", registry.address);
    let printed = pull_and_run(client, &image("web"), &["/bin/busybox", "cat", "/www/index.html"]);
    assert!(printed.contains("Hello from the demo"), "{printed}");
    let printed = pull_and_run(client, &image("db"), &["/bin/busybox", "sh", "-c", "echo $DATA of $(id -u)"]);
    assert!(printed.contains("/var/lib/db of 1000"), "{printed}");
}

pub fn the_same_image_by_digest_and_by_version(client: &dyn Client) {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let name = format!("{}/packages/hello", registry.address);
    let digest = registry.manifest("packages/hello", "latest").header("docker-content-digest").to_owned();
    let builds = registry.logged("building");
    // The package's version, the archive's own tag, and the digest.
    for image in [format!("{name}:1.0.0"), format!("{name}:stable"), format!("{name}@{digest}")] {
        let printed = pull_and_run(client, &image, &[]);
        assert!(printed.contains(GREETING), "{image}: {printed}");
    }
    assert_eq!(registry.logged("building"), builds);
}

pub fn no_layer_is_fetched_by_a_second_pull(client: &dyn Client) {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    let image = format!("{}/packages/hello-links:latest", registry.address);
    client.pull(&image).expect();
    let manifest = registry.manifest("packages/hello-links", "latest").json();
    let layers = manifest["layers"].as_array().unwrap();
    let fetched = |registry: &Registry| -> Vec<usize> {
        let line = |layer: &Value| format!("reference={}", layer["digest"]);
        layers.iter().map(|layer| requests(registry, &["method=GET", &line(layer)])).collect()
    };
    // Stopped, it has logged every request that it answered.
    registry.stop();
    let (once, builds) = (fetched(&registry), registry.logged("building"));
    assert!(once.len() == 3 && once.iter().all(|times| *times > 0), "{once:?}\n{}", registry.log());

    registry.run();
    client.pull(&image).expect();
    client.pull(&image).expect();
    registry.stop();
    assert_eq!((fetched(&registry), registry.logged("building")), (once, builds), "{}", registry.log());
}

/// How many requests were logged in whose line all of these stand.
pub fn requests(registry: &Registry, parts: &[&str]) -> usize {
    let log = registry.log();
    let requests = log.lines().filter(|line| line.contains(" request request="));
    requests.filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

pub fn the_end_of_the_log_of_a_failed_build_is_printed(client: &dyn Client) {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let outcome = client.pull(&format!("{}/packages/failing:latest", registry.address));
    let printed = outcome.expect_failure();
    for line in
        ["hello.c:3:5: error: expected expression before return", "make: *** [Makefile:7: hello.o] Error 1"]
    {
        assert!(printed.contains(line), "{printed}");
    }
    assert_eq!(registry.logged("building"), 1, "{}", registry.log());
}

/// What is printed for a name that is nearly one.
pub fn misspelt(client: &dyn Client) -> String {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let outcome = client.pull(&format!("{}/packages/helo:latest", registry.address));
    assert_eq!(registry.logged("building"), 0, "{}", registry.log());
    outcome.expect_failure().to_owned()
}

pub fn near_misses_are_printed(client: &dyn Client) {
    let printed = misspelt(client);
    assert!(printed.contains("near misses: hello"), "{printed}");
}

/// Pulls through a network that breaks in the middle of a layer. Gives how often the client asked for all of that layer,
/// and how often for the rest of it.
fn pull_through_a_break(client: &dyn Client, attempts: usize) -> (usize, usize) {
    let flake = Flake::new("largeMiB = 16;");
    let mut registry = Registry::start(&flake, &[]);
    let layer = registry.manifest("packages/large", "latest").json()["layers"][1].clone();
    let size = layer["size"].as_u64().unwrap();
    let proxy = Proxy::breaking_after(&registry.address, size / 2);
    let image = format!("{}/packages/large:latest", proxy.address);
    let mut pulls = (0..attempts).map(|_| client.pull(&image));
    assert!(pulls.any(|pull| pull.success), "{}", client.pull(&image).text);
    assert!(proxy.has_broken());
    let printed = client.run(&image, &[]).expect().to_owned();
    assert!(printed.contains("16777216"), "{printed}");
    registry.stop();
    let line = format!("reference={}", layer["digest"]);
    let answered = |status| requests(&registry, &["method=GET", &line, status]);
    (answered("status=200"), answered("status=206"))
}

pub fn a_broken_download_goes_on_where_it_broke(client: &dyn Client) {
    assert_eq!(pull_through_a_break(client, 1), (1, 1));
}

/// For skopeo before 1.11 and podman before 4.4, which do not resume: the next pull is whole.
pub fn a_broken_download_is_completed_in_two_attempts_at_most(client: &dyn Client) {
    let (whole, rest) = pull_through_a_break(client, 2);
    assert!((whole, rest) == (1, 1) || (whole, rest) == (2, 0), "{whole} {rest}");
}
