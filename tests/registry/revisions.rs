//! Which revisions of a source a tag may choose (`REVISIONS`).

use crate::{
    freshness::GitFlake,
    socket::Socket,
    support::{Registry, nonce},
};
use std::sync::atomic::Ordering;

/// A flake whose package `hello` is an image.
fn served() -> String {
    format!(
        "{{ outputs = _: {{ packages.x86_64-linux.hello = (import <examples> {{ system = \"x86_64-linux\"; nonce = \"{}\"; \
         }}).packages.hello-plain; }}; }}",
        nonce()
    )
}

/// One that says so if it is evaluated.
const ATTACK: &str = "{ outputs = _: throw \"somebody else's code was evaluated\"; }";

/// Commits something that no branch and no tag has, as forges keep what others propose.
fn propose(flake: &GitFlake, number: u32) -> String {
    flake.git(&["checkout", "-q", "--detach"]);
    let commit = flake.commit(ATTACK);
    flake.git(&["update-ref", &format!("refs/pull/{number}/head"), "HEAD"]);
    flake.git(&["checkout", "-q", "main"]);
    commit
}

#[test]
fn commits_that_no_branch_or_tag_leads_to_are_not_evaluated() {
    let flake = GitFlake::new();
    let first = flake.commit(&served());
    flake.git(&["tag", "v1"]);
    let second = flake.commit(&served());
    flake.commit(&served());
    let proposed = propose(&flake, 1);
    // A hash by which a branch could be taken for a commit.
    flake.git(&["branch", "0123456"]);

    let reference = flake.reference();
    let mut registry = Registry::start_with(&[("FLAKE", &reference)]);
    let refused = |registry: &Registry, tag: &str| {
        let message = registry.manifest("packages/hello", tag).is_error(404, "MANIFEST_UNKNOWN");
        assert!(!message.contains("evaluated"), "{tag}: {message}");
        message
    };
    // git resolves what `git describe` prints by the hash alone, of refs/heads/… as well.
    let described =
        [format!("x-1-g{}", &proposed[..8]), format!("v1-g{proposed}"), format!("main..{proposed}")];
    let described = described.iter().map(String::as_str);
    for tag in [&proposed, &proposed[..7], &*proposed.to_uppercase()].into_iter().chain(described) {
        refused(&registry, tag);
    }
    assert!(refused(&registry, &proposed).contains("REVISIONS=refs"));
    // Nor is one of the branch itself, as long as nothing has led to it.
    assert!(refused(&registry, &second).contains("it looks like a commit"));
    let tagged = registry.pull("packages/hello", "v1");
    registry.pull("packages/hello", "main");
    registry.pull("packages/hello", "0123456");
    for commit in [&first[..], &first[..9]] {
        assert_eq!(registry.pull("packages/hello", commit), tagged, "the tag led to it");
    }

    // What a branch was at stays known, also when it has moved on.
    let latest = flake.git(&["rev-parse", "HEAD"]);
    let pulled = registry.pull("packages/hello", "latest");
    flake.commit(&served());
    registry.stop();
    registry.run();
    assert_eq!(registry.pull("packages/hello", &latest), pulled);
    refused(&registry, &second);
    refused(&registry, &proposed);
    assert_eq!(registry.logged("somebody else's code"), 0);
}

#[test]
fn the_commit_that_the_operator_pins_may_be_asked_for_and_all_or_none_if_he_says_so() {
    let flake = GitFlake::new();
    let pinned = flake.commit(&served());
    let other = flake.commit(&served());
    flake.git(&["tag", "v2"]);
    let proposed = propose(&flake, 1);
    let reference = format!("{}?rev={pinned}", flake.reference());
    let registry = Registry::start_with(&[("FLAKE", &reference)]);
    registry.pull("packages/hello", &pinned);
    registry.manifest("packages/hello", &other).is_error(404, "MANIFEST_UNKNOWN");

    let registry = Registry::start_with(&[("FLAKE", &flake.reference()), ("REVISIONS", "none")]);
    let pulled = registry.pull("packages/hello", "latest");
    assert_eq!(registry.pull("packages/hello", "1.0.0"), pulled, "a version is no revision");
    for tag in ["v2", "main", &other] {
        let message = registry.manifest("packages/hello", tag).is_error(404, "MANIFEST_UNKNOWN");
        assert!(message.contains("REVISIONS=none") && message.contains("it has: "), "{message}");
    }

    let registry = Registry::start_with(&[("FLAKE", &flake.reference()), ("REVISIONS", "commits")]);
    registry.pull("packages/hello", &pinned);
    let message = registry.manifest("packages/hello", &proposed).is_error(422, "MANIFEST_UNKNOWN");
    assert!(
        message.contains("somebody else's code was evaluated"),
        "what the setting is documented for: {message}"
    );
}

#[test]
fn a_tag_that_is_none_costs_no_evaluation_of_its_own_and_no_names_latest() {
    let flake = GitFlake::new();
    flake.commit(&served());
    let socket = Socket::of("EVALUATOR_SOCKET");
    let evaluations = socket.counted("counted");
    let path = socket.path();
    let settings = [
        ("FLAKE", &*flake.reference()),
        ("EVALUATOR_SOCKET", path.to_str().unwrap()),
        ("MAX_REMEMBERED", "4"),
        ("TAG_TTL", "1h"),
        ("MAX_CLIENT_UNKNOWN", "0"),
    ];
    let registry = Registry::start_with(&settings);
    let message = registry.manifest("packages/hello", "v0").is_error(404, "MANIFEST_UNKNOWN");
    assert!(message.contains("; looked up again in "), "{message}");
    // What the name means: the tag could be its version.
    assert_eq!(evaluations.all.load(Ordering::SeqCst), 1);
    for n in 1..10 {
        registry.manifest("packages/hello", &format!("v{n}")).is_error(404, "MANIFEST_UNKNOWN");
    }
    registry.pull("packages/hello", "latest");
    assert_eq!(evaluations.all.load(Ordering::SeqCst), 1);
}
