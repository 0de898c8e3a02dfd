//! Look-ups of signatures: the tags that clients derive from a manifest's digest, which mean nothing to a flake.

use crate::{
    access::{Files, LATEST, get, head},
    freshness::GitFlake,
    socket::{Socket, never_answers},
    support::{Flake, Registry, sha256},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Who may build, and who may only read.
const RULES: &str = "allow build root *\nallow read alice hello\nallow read alice no-such-name\n";

/// What podman, cosign, Kyverno, oras and regctl look for.
fn derived(digest: &str) -> Vec<String> {
    let tag = digest.replace(':', "-");
    let sha512 = tag.replace("sha256", "sha512");
    ["", ".sig", ".att", ".sbom"].map(|suffix| format!("{tag}{suffix}")).into_iter().chain([sha512]).collect()
}

#[test]
fn signatures_are_looked_for_in_the_index_alone() {
    let files = Files::new(&["alice", "root"], RULES);
    let (evaluator, daemon) = (Socket::of("EVALUATOR_SOCKET"), Socket::of("NIX_DAEMON_SOCKET"));
    let (evaluator_path, daemon_path) = (evaluator.path(), daemon.path());
    let settings = [
        ("EVALUATOR_SOCKET", evaluator_path.to_str().unwrap()),
        ("NIX_DAEMON_SOCKET", daemon_path.to_str().unwrap()),
        ("EVALUATION_TIMEOUT", "1h"),
        // Shorter than what clients look for.
        ("MAX_TAG_LENGTH", "10"),
    ];
    let flake = Flake::new("");
    let mut registry = files.registry(&flake, &settings);
    let built = get(&registry, "root", LATEST);
    assert_eq!(built.status, 200, "{}", built.text());
    let digest = built.header("docker-content-digest").to_owned();

    let asked = Arc::new(AtomicUsize::new(0));
    for socket in [&evaluator, &daemon] {
        let counter = asked.clone();
        socket.serve("silent", move |stream| {
            counter.fetch_add(1, Ordering::SeqCst);
            never_answers(stream)
        });
    }
    let nothing_is_done_for_them = |registry: &Registry| {
        for user in ["alice", "root"] {
            for name in ["hello", "no-such-name"] {
                for tag in derived(&digest) {
                    let path = format!("/v2/{name}/manifests/{tag}");
                    get(registry, user, &path).is_error(404, "MANIFEST_UNKNOWN");
                    assert_eq!(head(registry, user, &path).status, 404);
                }
            }
            // And what is in the index can be pulled meanwhile.
            assert_eq!(get(registry, user, LATEST).body, built.body);
        }
        for tag in derived(&digest) {
            let path = format!("/v2/hello-plain/manifests/{tag}");
            get(registry, "alice", &path).is_error(403, "DENIED");
            registry.get(&path).is_error(401, "UNAUTHORIZED");
        }
    };
    nothing_is_done_for_them(&registry);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "evaluator or nix-daemon were asked");
    assert_eq!(registry.logged(" WARN "), 0, "{}", registry.log());

    registry.stop();
    registry.set("EVALUATOR_SOCKET", "/nowhere/evaluator");
    registry.set("NIX_DAEMON_SOCKET", "/nowhere/daemon");
    registry.run();
    nothing_is_done_for_them(&registry);
}

#[test]
fn an_image_that_has_such_a_tag_itself_is_served_by_it() {
    let (other, own) = (sha256(b"another manifest"), sha256(b"a manifest").replace(':', "-"));
    let flake = GitFlake::new();
    flake.commit(&format!(
        "{{ outputs = _: let e = import {}/examples {{ system = \"x86_64-linux\"; }}; in {{ packages.x86_64-linux.image = \
         {{ type = \"derivation\"; version = \"{own}\"; image = e.packages.hello-plain.image; }}; }}; }}",
        Path::new(env!("CARGO_MANIFEST_DIR")).display(),
    ));
    // Nor is it a branch, if there is one.
    flake.git(&["branch", &other.replace(':', "-")]);
    let registry = Registry::start_with(&[("FLAKE", &flake.reference())]);
    for tag in derived(&other) {
        registry.manifest("image", &tag).is_error(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(registry.logged("resolved"), 0, "{}", registry.log());
    let latest = registry.pull("image", "latest");
    assert_eq!(registry.pull("image", &own), latest);
    registry.manifest("image", &format!("{own}.sig")).is_error(404, "MANIFEST_UNKNOWN");
}
