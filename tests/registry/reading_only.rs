//! Users who may read what has been built, and have nothing built.

use crate::{
    access::{Files, LATEST, get},
    bed::Bed,
    freshness::GitFlake,
    socket::Socket,
    support::{Flake, sha256},
};
use std::{fs, path::Path, sync::atomic::Ordering};

#[test]
fn whoever_may_only_read_gets_what_exists_and_starts_nothing() {
    let files = Files::new(&["alice", "root"], "allow build root *\nallow read authenticated *\n");
    let flake = Flake::new("");
    let (evaluator, daemon) = (Socket::of("EVALUATOR_SOCKET"), Socket::of("NIX_DAEMON_SOCKET"));
    let (evaluations, calls) = (evaluator.counted("evaluations"), daemon.counted("calls"));
    let (evaluator, daemon) = (evaluator.path(), daemon.path());
    let settings = [
        ("EVALUATOR_SOCKET", evaluator.to_str().unwrap()),
        ("NIX_DAEMON_SOCKET", daemon.to_str().unwrap()),
        // Whatever is known is old at once.
        ("TAG_TTL", "0"),
        ("TAG_STALE", "0"),
    ];
    let registry = files.registry(&flake, &settings);
    let built = get(&registry, "root", LATEST);
    assert_eq!(built.status, 200, "{}", built.text());
    let count = || (evaluations.all.load(Ordering::SeqCst), calls.all.load(Ordering::SeqCst));
    let before = count();
    assert!(before.0 > 0 && before.1 > 0);

    let digest = built.header("docker-content-digest").to_owned();
    for reference in ["latest", &digest] {
        let read = get(&registry, "alice", &format!("/v2/hello/manifests/{reference}"));
        assert_eq!((read.status, read.body), (200, built.body.clone()));
    }
    for descriptor in built.json()["layers"].as_array().unwrap() {
        let layer = descriptor["digest"].as_str().unwrap();
        assert_eq!(get(&registry, "alice", &format!("/v2/hello/blobs/{layer}")).status, 200);
    }
    let tags = get(&registry, "alice", "/v2/hello/tags/list").json()["tags"].as_array().unwrap().clone();
    for tag in &tags {
        let path = format!("/v2/hello/manifests/{}", tag.as_str().unwrap());
        assert_eq!(get(&registry, "alice", &path).body, built.body, "{tag}");
    }
    assert_eq!(get(&registry, "alice", "/v2/_catalog").json()["repositories"], serde_json::json!(["hello"]));
    let other = sha256(b"something else");
    for path in [
        "/v2/hello/manifests/no-such-tag",
        "/v2/hello-plain/manifests/latest",
        "/v2/no-such-name/manifests/latest",
        "/v2/hello-plain/tags/list",
        "/v2/no-such-name/tags/list",
        &format!("/v2/hello-plain/manifests/{other}"),
    ] {
        let message = get(&registry, "alice", path).is_error(403, "DENIED");
        assert!(message.ends_with("been built, and user alice may not have it built"), "{path}: {message}");
    }
    get(&registry, "alice", &format!("/v2/hello/blobs/{other}")).is_error(404, "BLOB_UNKNOWN");
    assert_eq!(count(), before, "evaluator or nix-daemon were asked");
}

#[test]
fn another_name_of_an_image_leads_to_the_source_as_it_is_else_to_what_was_asked_for_last() {
    let files = Files::new(&["alice", "root"], "allow build root *\nallow read alice *\n");
    let flake = GitFlake::new();
    let text = |image: &str| {
        format!(
            "{{ outputs = _: let e = import <examples> {{ system = \"x86_64-linux\"; }}; p = {{ type = \"derivation\"; \
             version = \"1.0\"; image = e.packages.{image}.image; }}; in {{ packages.x86_64-linux = {{ one = p; two = p; \
             }}; }}; }}"
        )
    };
    for (image, branch) in [("hello-plain", "a"), ("hello-links-plain", "b")] {
        flake.commit(&text(image));
        flake.git(&["branch", branch]);
    }
    let registry = files.registry_of(&flake.reference(), &[]);
    let pull = |user: &str, name: &str, tag: &str| {
        let answer = get(&registry, user, &format!("/v2/packages/{name}/manifests/{tag}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("docker-content-digest").to_owned()
    };
    // The rows of the index are in the order of their tags.
    let [latest, branch] = ["latest", "a"].map(|tag| pull("root", "one", tag));
    assert_ne!(latest, branch);
    assert_eq!(pull("alice", "one", "1.0"), latest);
    let before = pull("root", "two", "a");
    // The index counts in seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let last = pull("root", "two", "b");
    assert_ne!(before, last);
    assert_eq!(pull("alice", "two", "1.0"), last);
}

#[test]
fn other_settings_for_images_take_nothing_from_whoever_may_only_read() {
    let files = Files::new(&["alice", "root"], "allow build root *\nallow read alice *\n");
    let flake = Flake::new("");
    let mut registry = files.registry(&flake, &[]);
    let before = get(&registry, "root", LATEST);
    assert_eq!(before.status, 200, "{}", before.text());
    registry.stop();
    registry.set("LAYER_COMPRESSION", "gzip");
    registry.run();
    // By an alias, too.
    for tag in ["latest", "1.0.0", "stable"] {
        let answer = get(&registry, "alice", &format!("/v2/hello/manifests/{tag}"));
        assert_eq!((answer.status, answer.text()), (200, before.text()), "{tag}");
    }
    let after = get(&registry, "root", LATEST);
    assert_eq!(after.status, 200, "{}", after.text());
    assert_ne!(after.body, before.body);
    assert_eq!(get(&registry, "alice", LATEST).body, after.body);
}

#[test]
fn what_was_collected_is_not_built_for_whoever_may_only_read() {
    let files = Files::new(&["alice", "root"], "allow build root *\nallow read alice *\n");
    let bed = Bed::up();
    let paths = files.settings();
    let paths: Vec<(&str, &str)> = paths.iter().map(|(name, path)| (*name, path.as_str())).collect();
    let flake = Flake::of_scripts(&[("image", "cp $hello $out")]);
    let registry = bed.registry(&flake, &paths);
    let manifest = get(&registry, "root", "/v2/image/manifests/latest");
    assert_eq!(manifest.status, 200, "{}", manifest.text());
    let layer = manifest.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    let path = format!("/v2/image/blobs/{layer}");
    fs::remove_dir_all(Path::new(&registry.state).join("gcroots")).unwrap();
    fs::create_dir(Path::new(&registry.state).join("gcroots")).unwrap();
    bed.collect_garbage();
    let builds = registry.logged("building");
    let message = get(&registry, "alice", &path).is_error(403, "DENIED");
    assert!(message.contains("is not in the Nix store any more, and user alice may not"), "{message}");
    assert_eq!(registry.logged("building"), builds);
    // It is no failure that others are told.
    assert_eq!(get(&registry, "root", &path).status, 200);
    assert!(registry.logged("building") > builds);
    assert_eq!(get(&registry, "alice", &path).status, 200);
}
