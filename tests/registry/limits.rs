//! What a client can drive has a bound.

use crate::{
    scrape::{LISTEN, comes_to_have},
    socket::{Socket, answer, never_answers},
    support::{Flake, Registry, eventually, nix},
};
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
fn a_computed_layer_has_no_more_files_than_the_setting_says() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[("MAX_LAYER_FILES", "4")]);
    // /nix, /nix/store, the package, its bin, and the program.
    let message = registry.manifest("hello-streamed", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("more than 4 files") && message.contains("MAX_LAYER_FILES"), "{message}");
    let registry = Registry::start(&flake, &[("MAX_LAYER_FILES", "5")]);
    registry.pull("hello-streamed", "latest");
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
            let expression = io::read_to_string(&mut stream).unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let missing = r#"{"missing":{"names":[],"packageExists":false,"broken":[]}}"#;
            stream.write_all(answer(&expression, missing).as_bytes()).unwrap();
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

/// Builds everything in a flake, without the registry.
fn build(flake: &Flake, names: &[String]) {
    let attributes: Vec<String> =
        names.iter().map(|name| format!("{}#{name}.image", flake.reference())).collect();
    let mut arguments = vec!["build", "--impure", "--no-link"];
    arguments.extend(attributes.iter().map(String::as_str));
    let output = nix("nix", &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn images_that_are_in_the_store_already_share_a_few_connections_to_nix_daemon() {
    let names: Vec<String> = (0..40).map(|n| format!("image{n}")).collect();
    let scripts: Vec<_> = names.iter().map(|name| (name.as_str(), "cp $hello $out; : $name")).collect();
    let flake = Flake::of_scripts(&scripts);
    build(&flake, &names);
    let socket = Socket::of("NIX_DAEMON_SOCKET");
    let connections = socket.counted("counted");
    let path = socket.path();
    let settings = [("NIX_DAEMON_SOCKET", path.to_str().unwrap()), ("MAX_BUILDS", "1")];
    let registry = Registry::start(&flake, &settings);
    thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| registry.pull(name, "latest"));
        }
    });
    assert_eq!(registry.logged("building derivation"), 0, "nothing was left to build");
    // One that is being read, and four for short questions; and what is counted has perhaps been closed already.
    let most = connections.most.load(Ordering::SeqCst);
    assert!((1..=10).contains(&most), "{most} connections at a time");
}

#[test]
fn beyond_the_images_that_may_wait_to_be_read_clients_are_sent_away() {
    let flake = Flake::of_scripts(&["a", "b", "c"].map(|name| (name, "cp $hello $out; : $name")));
    build(&flake, &["a", "b", "c"].map(str::to_owned));
    let socket = Socket::of("NIX_DAEMON_SOCKET");
    let path = socket.path();
    let settings = [
        LISTEN,
        ("NIX_DAEMON_SOCKET", path.to_str().unwrap()),
        ("MAX_BUILDS", "1"),
        ("MAX_QUEUED_READINGS", "1"),
        ("NIX_DAEMON_TIMEOUT", "120"),
        ("PULL_WAIT", "1"),
    ];
    let registry = Registry::start(&flake, &settings);
    // nix-daemon answers questions, and never realises anything: that begins with SetOptions.
    socket.silent_on("realising", 19);
    let states = [("a", "still being read"), ("b", "waits for its turn to be read"), ("c", "1 images wait")];
    for (name, part) in states {
        let message = registry.manifest(name, "latest").is_error(429, "TOOMANYREQUESTS");
        assert!(message.contains(part), "{name}: {message}");
    }
    // What nix-daemon is asked to hold is not being read yet.
    let refused = "readings_total{outcome=\"refused\"}";
    comes_to_have(&registry, &[("readings_running", 0.0), ("readings_queued", 2.0), (refused, 1.0)]);
}

#[test]
fn looks_at_readiness_are_short_and_shared() {
    let flake = Flake::new("");
    let socket = Socket::of("EVALUATOR_SOCKET");
    let path = socket.path();
    let settings =
        [("EVALUATOR_SOCKET", path.to_str().unwrap()), ("EVALUATION_TIMEOUT", "1h"), ("READY_TIMEOUT", "2")];
    let registry = Registry::start(&flake, &settings);
    socket.serve("silent", never_answers);
    let answer = registry.get("/readyz");
    let message = answer.is_error(503, "UNAVAILABLE");
    assert!(message.contains("evaluator: no answer within 2 s (READY_TIMEOUT)"), "{message}");

    let looks = socket.counted("counted");
    eventually("the evaluator answers in time", || registry.get("/readyz").status == 200);
    let before = looks.all.load(Ordering::SeqCst);
    for _ in 0..20 {
        registry.get("/readyz");
    }
    let asked = looks.all.load(Ordering::SeqCst) - before;
    assert!(asked < 20, "every request asked the evaluator");
}
