//! What a client can drive has a bound.

use crate::support::{Flake, Registry, eventually};
use std::{os::unix::net::UnixListener, thread};

#[test]
fn beyond_the_evaluations_that_may_run_and_wait_clients_are_sent_away() {
    let flake = Flake::new("");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    // Connections are taken by the kernel and never answered.
    let _evaluator = UnixListener::bind(&socket).unwrap();
    let settings = [
        ("EVALUATOR_SOCKET", socket.to_str().unwrap()),
        ("EVALUATION_TIMEOUT", "60"),
        ("MAX_EVALUATIONS", "1"),
        ("MAX_QUEUED_EVALUATIONS", "1"),
        ("PULL_WAIT", "2"),
    ];
    let registry = Registry::start(&flake, &settings);
    thread::scope(|scope| {
        for name in ["first", "second"] {
            let registry = &registry;
            scope.spawn(move || registry.manifest(name, "latest").is_error(429, "TOOMANYREQUESTS"));
        }
        eventually("both places are taken", || {
            let answer = registry.manifest("third", "latest");
            let message = answer.is_error(429, "TOOMANYREQUESTS");
            assert_ne!(answer.header("retry-after"), "");
            message.contains("1 evaluations wait already")
        });
    });
    // The same name waits with those who asked for it before, and takes no place.
    let message = registry.manifest("first", "latest").is_error(429, "TOOMANYREQUESTS");
    assert!(message.contains("still being built"), "{message}");
}

#[test]
fn images_are_served_from_more_files_than_may_be_mapped() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[("MAX_MAPPED_FILES", "1")]);
    for _ in 0..2 {
        for name in ["hello-plain", "hello-flat", "hello-oci-plain"] {
            registry.pull(name, "latest");
        }
    }
}
