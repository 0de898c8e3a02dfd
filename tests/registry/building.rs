//! Builds: shared, bounded, followed, and reported when they fail.

use crate::support::{Flake, Registry, eventually, nonce};
use std::{fs, io::Write, net::TcpStream, path::Path, thread};

/// A build that has to be ended from outside.
const ENDLESS: &str = "echo it has begun >&2; sleep 100000; cp $hello $out";

/// Whether a process with `text` in its command line or environment is alive.
fn alive(text: &str) -> bool {
    fs::read_dir("/proc").unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let holds = |file: &str| {
            let bytes = fs::read(path.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(text)
        };
        path.file_name().unwrap().to_str().unwrap().parse::<u32>().is_ok()
            && path != Path::new(&format!("/proc/{}", std::process::id()))
            && holds("cmdline")
    })
}

#[test]
fn fifty_requests_for_one_image_are_one_evaluation_and_one_build() {
    let flake = Flake::new("slowSeconds = \"2\";");
    let registry = Registry::start(&flake, &[]);
    let digests: Vec<String> = thread::scope(|scope| {
        let requests: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    let answer = registry.manifest("packages/slow", "latest");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answer.header("docker-content-digest").to_owned()
                })
            })
            .collect();
        requests.into_iter().map(|request| request.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    let image = "derivation=\"docker-image-slow.tar.gz\"";
    let counts = ["resolved", "building", "indexed"].map(|line| registry.logged(line));
    assert_eq!(counts, [1, 1, 1], "evaluations, builds and readings of {image}");
}

#[test]
fn names_of_the_same_derivation_share_its_build() {
    let flake = Flake::new("slowSeconds = \"2\";");
    let registry = Registry::start(&flake, &[]);
    thread::scope(|scope| {
        for name in ["slow", "packages/slow"] {
            let registry = &registry;
            scope.spawn(move || assert_eq!(registry.manifest(name, "latest").status, 200));
        }
    });
    assert_eq!(registry.logged("building"), 1);
}

#[test]
fn a_build_that_outlasts_the_wait_goes_on_and_the_next_request_joins_it() {
    let flake = Flake::new("slowSeconds = \"4\";");
    let registry = Registry::start(&flake, &[("PULL_WAIT", "1")]);
    let answer = registry.manifest("slow", "latest");
    let message = answer.is_error(429, "TOOMANYREQUESTS");
    assert!(message.contains("the build goes on"), "{message}");
    assert!((1..=60).contains(&answer.header("retry-after").parse::<u32>().unwrap()));
    // Nobody asks any more, and still it is built.
    eventually("the image is there", || registry.logged("indexed") == 1);
    assert_eq!(registry.manifest("slow", "latest").status, 200);
    assert_eq!(registry.logged("building"), 1);
}

#[test]
fn a_client_that_breaks_off_does_not_stop_the_build() {
    let flake = Flake::of_scripts(&[("image", "echo it has begun >&2; sleep 3; cp $hello $out")]);
    let registry = Registry::start(&flake, &[]);
    let mut client = TcpStream::connect(&registry.address).unwrap();
    client.write_all(b"GET /v2/image/manifests/latest HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    eventually("the build has begun", || registry.logged("it has begun") == 1);
    drop(client);
    eventually("the image is there", || registry.logged("indexed") == 1);
    assert_eq!(registry.manifest("image", "latest").status, 200);
    assert_eq!(registry.logged("building"), 1);
}

#[test]
fn beyond_the_builds_that_may_run_and_wait_clients_are_sent_away() {
    let flake = Flake::of_scripts(&[("a", ENDLESS), ("b", ENDLESS), ("c", ENDLESS)]);
    let limits =
        [("MAX_BUILDS", "1"), ("MAX_QUEUED_BUILDS", "1"), ("PULL_WAIT", "1"), ("NIX_BUILD_TIMEOUT", "20")];
    let registry = Registry::start(&flake, &limits);
    for (name, state) in [("a", "still being built"), ("b", "waits for its turn to be built")] {
        eventually("it has been evaluated, and is to be built", || {
            registry.manifest(name, "latest").is_error(429, "TOOMANYREQUESTS").contains(state)
        });
        eventually("the first one is being built", || registry.logged("building derivation=\"a\"") == 1);
    }
    eventually("the third is sent away, once it has been evaluated", || {
        let answer = registry.manifest("c", "latest");
        let message = answer.is_error(429, "TOOMANYREQUESTS");
        assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
        message.contains("1 builds wait already")
    });
    for name in ["b", "c"] {
        assert_eq!(registry.logged(&format!("building derivation={name:?}")), 0);
    }
    // Whoever was sent away may come back: nothing is remembered against them.
    eventually("the first build runs into its limit", || registry.logged("derivation=\"b\"") > 1);
    let message = registry.manifest("c", "latest").is_error(429, "TOOMANYREQUESTS");
    assert!(message.contains("waits for its turn"), "{message}");
}

#[test]
fn a_build_beyond_its_time_limit_is_reported_and_its_builder_is_dead() {
    let mark = format!("mark-{}", nonce());
    let script = format!("echo busy >&2; sleep 31415 & sh -c 'sleep 100000; : {mark}'");
    let flake = Flake::of_scripts(&[("endless", &script)]);
    let registry = Registry::start(&flake, &[("NIX_BUILD_TIMEOUT", "2")]);
    let message = thread::scope(|scope| {
        let request = scope.spawn(|| registry.manifest("endless", "latest").is_error(504, "UNKNOWN"));
        eventually("the builder runs", || alive(&mark));
        request.join().unwrap()
    });
    for part in ["endless", "time limit of 2 s", "NIX_BUILD_TIMEOUT", "busy"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    eventually("the builder is dead", || !alive(&mark));
}

#[test]
fn a_failed_build_tells_its_last_lines_and_is_remembered_for_a_while() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[("FAILURE_TTL", "3")]);
    for _ in 0..3 {
        let answer = registry.manifest("packages/failing", "latest");
        let message = answer.is_error(422, "MANIFEST_UNKNOWN");
        assert!(
            message.contains("docker-image-failing") && message.contains("hello.c:3:5: error: expected"),
            "{message}"
        );
        assert!(!message.contains('\x1b'), "{message:?}");
    }
    assert_eq!(registry.logged("building"), 1);
    eventually("the failure is forgotten and the build tried again", || {
        registry.manifest("packages/failing", "latest").is_error(422, "MANIFEST_UNKNOWN");
        registry.logged("building") == 2
    });
}

#[test]
fn log_lines_appear_while_the_build_runs_with_the_derivations_name() {
    // It never ends by itself, so whatever is seen of it is seen while it runs.
    let flake = Flake::of_scripts(&[("talkative", "echo first words >&2; sleep 100000")]);
    let registry = Registry::start(&flake, &[("PULL_WAIT", "1")]);
    registry.manifest("talkative", "latest").is_error(429, "TOOMANYREQUESTS");
    eventually("its words are in the log", || registry.logged("first words") == 1);
    let log = registry.log();
    let line = log.lines().find(|line| line.contains("first words")).unwrap();
    assert!(line.contains("DEBUG") && line.contains("derivation=\"talkative\""), "{line}");
}

#[test]
fn a_log_of_any_bytes_and_any_length_does_no_harm() {
    let flake = Flake::of_scripts(&[
        ("binary", r"printf 'caf\351 \377\376\000\001 \033[31mred\033[0m\n'; echo done; exit 1"),
        ("one-line", "head -c 3000000 /dev/zero | tr '\\000' x; echo; exit 1"),
        ("no-newline", "head -c 3000000 /dev/zero | tr '\\000' y; exit 1"),
        ("fine", "cp $hello $out"),
        ("many-lines", "yes 'a line of a log that does not end' | head -c 10000000; exit 1"),
    ]);
    let registry = Registry::start(&flake, &[("LOG_LEVEL", "INFO")]);
    for name in ["binary", "one-line", "no-newline", "many-lines"] {
        let answer = registry.manifest(name, "latest");
        let message = answer.is_error(422, "MANIFEST_UNKNOWN");
        assert!(message.contains(name), "{name}: {message:.300}");
        assert!(answer.body.len() < 100_000, "{name}: {} bytes", answer.body.len());
        assert!(message.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'), "{name}: {message:?}");
    }
    assert!(registry.log().len() < 200_000, "{} bytes of log", registry.log().len());
    assert_eq!(registry.manifest("fine", "latest").status, 200);
}

#[test]
fn every_kind_of_failure_is_a_client_error_with_its_reason() {
    let fixed = "outputHashMode = \"flat\"; outputHashAlgo = \"sha256\"; \
                 outputHash = \"0000000000000000000000000000000000000000000000000000000000000000\";";
    let depends = r#"dependency = derivation { name = "dependency"; system = "x86_64-linux"; inherit nonce;
                     builder = "${busybox}/busybox"; args = [ "sh" "-c" "echo it broke >&2; exit 7" ]; };"#;
    let flake = Flake::of_derivations(&[
        ("mismatch", "echo content > $out", fixed),
        ("dependent", "cp $hello $out", depends),
        ("silent", "exit 1", ""),
        ("fine", "cp $hello $out", ""),
        ("no-output", "echo I forgot >&2", ""),
        ("foreign", "cp $hello $out", "system = \"riscv128-plan9\";"),
        ("no-builder", "", "builder = \"/nothing/here\";"),
        ("wrong-reference", "echo $hello > $out", "allowedReferences = [ ];"),
    ]);
    let registry = Registry::start(&flake, &[]);
    for (name, reasons) in [
        ("mismatch", &["hash mismatch"][..]),
        ("dependent", &["dependency", "dependent"]),
        ("silent", &["exit code 1", "exit status 1"]),
        ("no-output", &["failed to produce output"]),
        ("foreign", &["riscv128-plan9"]),
        ("no-builder", &["/nothing/here"]),
        ("wrong-reference", &["not allowed to refer"]),
    ] {
        let message = registry.manifest(name, "latest").is_error(422, "MANIFEST_UNKNOWN");
        assert!(message.contains(name), "{name}: {message}");
        assert!(reasons.iter().any(|reason| message.contains(reason)), "{name}: {message}");
    }
    // Every one of them was a failure, none broke anything.
    assert_eq!(registry.manifest("fine", "latest").status, 200);
}

#[test]
fn a_log_beyond_nix_daemons_limit_fails_the_build_with_that_reason() {
    let bed = crate::bed::Bed::up_with(&[("TESTBED_NIX_CONF", "max-build-log-size = 10000")]);
    let flake = Flake::of_scripts(&[("chatty", "yes | head -c 1000000; cp $hello $out")]);
    let registry = bed.registry(&flake, &[]);
    let message = registry.manifest("chatty", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("chatty") && message.contains("10000 bytes"), "{message}");
}
