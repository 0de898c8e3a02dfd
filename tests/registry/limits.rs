//! What a client can drive has a bound.

use crate::support::{Flake, Registry};
use std::{
    io::{self, Write},
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

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
        ("PULL_WAIT", "1"),
    ];
    let registry = Registry::start(&flake, &settings);
    // One after the other: evaluations go on when the client has been told to come back.
    for (name, part) in [
        ("first", "still being evaluated"),
        ("second", "waits for its turn to be evaluated"),
        ("third", "1 evaluations wait already"),
    ] {
        let answer = registry.manifest(name, "latest");
        let message = answer.is_error(429, "TOOMANYREQUESTS");
        assert!(message.contains(part), "{name}: {message}");
        assert_ne!(answer.header("retry-after"), "");
    }
    // The same name waits with those who asked for it before, and takes no place.
    let message = registry.manifest("first", "latest").is_error(429, "TOOMANYREQUESTS");
    assert!(message.contains("still being evaluated"), "{message}");
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

#[test]
fn no_more_unknown_names_are_remembered_than_the_setting_says() {
    let flake = Flake::new("");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    // An evaluator that knows no name, and counts how often it is asked.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            io::copy(&mut stream, &mut io::sink()).unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let missing = r#"{"forgeRegistry":{"revision":null,"nixVersion":"0","missing":{"names":[],"packageExists":false}}}"#;
            stream.write_all(missing.as_bytes()).unwrap();
        }
    });
    let socket = socket.to_str().unwrap();
    let settings = [("EVALUATOR_SOCKET", socket), ("MAX_REMEMBERED", "2"), ("UNKNOWN_TTL", "1h")];
    let registry = Registry::start(&flake, &settings);
    // The name in the middle of three is asked for while it is remembered, so the one before it has to go.
    for (name, times) in [("a", 1), ("b", 2), ("a", 2), ("b", 2), ("c", 3), ("b", 3), ("a", 4), ("a", 4)] {
        registry.manifest(name, "latest").is_error(404, "NAME_UNKNOWN");
        assert_eq!(asked.load(Ordering::SeqCst), times, "after {name}");
    }
}
