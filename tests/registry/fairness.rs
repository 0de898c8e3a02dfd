//! Nobody starves others: clients take turns, and none can use up what all need.

use crate::{
    freshness::GitFlake,
    scrape::{LISTEN, comes_to_have},
    socket::{Socket, never_answers},
    support::{Answer, Flake, PATIENCE, Registry, eventually, testbed},
};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Addresses of clients are told by the header of a proxy on this machine.
const PROXY: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1");
const GREEDY: &str = "127.0.0.2";
const OTHER: &str = "127.0.0.3";
/// Names of which no flake has any.
const STRANGE: &str = "strange";

fn manifest(registry: &Registry, client: &str, name: &str, tag: &str) -> Answer {
    registry.request("GET", &format!("/v2/{name}/manifests/{tag}"), &[("x-forwarded-for", client)])
}

/// Requests of one client that are sent, and whose answers nobody takes.
fn send(registry: &Registry, client: &str, names: impl Iterator<Item = String>) -> Vec<TcpStream> {
    let send = |name: String| {
        let mut stream = TcpStream::connect(&registry.address).unwrap();
        let head = format!(
            "GET /v2/{name}/manifests/latest HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    names.map(send).collect()
}

fn strange(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("{STRANGE}{n}"))
}

/// Asks the testbed's evaluator.
fn evaluate(query: &str, client: &mut UnixStream) -> io::Result<()> {
    let mut evaluator = UnixStream::connect(testbed("EVALUATOR_SOCKET"))?;
    evaluator.write_all(query.as_bytes())?;
    evaluator.shutdown(Shutdown::Write)?;
    io::copy(&mut evaluator, client).map(drop)
}

#[test]
fn a_place_is_left_for_others_while_hundreds_of_evaluations_of_one_client_hang() {
    let flake = Flake::new("");
    let socket = Socket::of("EVALUATOR_SOCKET");
    socket.serve("hanging", |mut client| {
        let mut query = String::new();
        client.read_to_string(&mut query)?;
        if query.contains(STRANGE) { never_answers(client) } else { evaluate(&query, &mut client) }
    });
    let path = socket.path();
    let settings = [
        LISTEN,
        PROXY,
        ("EVALUATOR_SOCKET", path.to_str().unwrap()),
        ("EVALUATION_TIMEOUT", "1h"),
        ("PULL_WAIT", "1h"),
        ("MAX_EVALUATIONS", "3"),
    ];
    let registry = Registry::start(&flake, &settings);
    let _requests = send(&registry, GREEDY, strange(300));
    comes_to_have(&registry, &[("evaluations_running", 2.0), ("evaluations_queued", 298.0)]);
    let answer = manifest(&registry, OTHER, "hello", "latest");
    assert_eq!(answer.status, 200, "{}", answer.text());
    comes_to_have(&registry, &[("evaluations_running", 2.0), ("evaluations_queued", 298.0)]);
}

#[test]
fn a_newcomer_is_next_after_hundreds_of_names_of_another_client() {
    let flake = Flake::new("");
    let socket = Socket::of("EVALUATOR_SOCKET");
    // What is evaluated in which order; nothing is before the gate is opened.
    let (asked, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new((Mutex::new(false), Condvar::new())));
    let (order, opening) = (asked.clone(), gate.clone());
    socket.serve("held", move |mut client| {
        let mut query = String::new();
        client.read_to_string(&mut query)?;
        order.lock().unwrap().push(query.contains(STRANGE));
        let (open, changed) = &*opening;
        drop(changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open).unwrap());
        evaluate(&query, &mut client)
    });
    let path = socket.path();
    let settings = [
        LISTEN,
        PROXY,
        ("EVALUATOR_SOCKET", path.to_str().unwrap()),
        ("PULL_WAIT", "1h"),
        ("MAX_EVALUATIONS", "1"),
        ("MAX_QUEUED_EVALUATIONS", "300"),
        ("MAX_CLIENT_UNKNOWN", "0"),
    ];
    let registry = Registry::start(&flake, &settings);
    let _requests = send(&registry, GREEDY, strange(400));
    // The queue is full, of what one client has asked for.
    let refused = "evaluations_total{outcome=\"refused\"}";
    comes_to_have(&registry, &[("evaluations_running", 1.0), ("evaluations_queued", 300.0), (refused, 99.0)]);
    let answer = thread::scope(|scope| {
        let other = scope.spawn(|| manifest(&registry, OTHER, "hello", "latest"));
        comes_to_have(&registry, &[("evaluations_queued", 300.0), (refused, 100.0)]);
        let (open, changed) = &*gate;
        *open.lock().unwrap() = true;
        changed.notify_all();
        other.join().unwrap()
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(asked.lock().unwrap()[..2], [true, false], "the one that ran, and then the other client's");
}

#[test]
fn a_build_of_another_client_does_not_wait_for_builds_without_end() {
    const ENDLESS: &str = "echo it has begun >&2; sleep 100000; cp $hello $out";
    let scripts = ["a", "b", "c", "d"].map(|name| (name, ENDLESS));
    let flake = Flake::of_scripts(&[&scripts[..], &[("quick", "cp $hello $out")]].concat());
    let registry = Registry::start(&flake, &[LISTEN, PROXY, ("MAX_BUILDS", "3"), ("PULL_WAIT", "1h")]);
    let _requests = send(&registry, GREEDY, scripts.iter().map(|(name, _)| (*name).to_owned()));
    comes_to_have(&registry, &[("builds_running", 2.0), ("builds_queued", 2.0)]);
    let answer = manifest(&registry, OTHER, "quick", "latest");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn two_hundred_cold_names_of_one_address_all_complete() {
    let names: Vec<String> = (0..200).map(|n| format!("image{n}")).collect();
    let scripts: Vec<_> = names.iter().map(|name| (name.as_str(), "cp $hello $out; : $name")).collect();
    let flake = Flake::of_scripts(&scripts);
    let registry = Registry::start(&flake, &[("PULL_WAIT", "1h")]);
    thread::scope(|scope| {
        for name in &names {
            let registry = &registry;
            scope.spawn(move || {
                let answer = registry.manifest(name, "latest");
                assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            });
        }
    });
}

#[test]
fn what_does_not_exist_is_looked_up_only_so_often_for_one_client() {
    let flake = Flake::of_scripts(&["known", "listed", "new"].map(|name| (name, "cp $hello $out; : $name")));
    let socket = Socket::of("EVALUATOR_SOCKET");
    let evaluations = socket.counted("counted");
    let path = socket.path();
    let settings = [
        LISTEN,
        PROXY,
        ("EVALUATOR_SOCKET", path.to_str().unwrap()),
        ("MAX_CLIENT_UNKNOWN", "2"),
        ("UNKNOWN_TTL", "1h"),
        ("PULL_WAIT", "1h"),
        ("TAG_TTL", "0"),
        ("TAG_STALE", "0"),
    ];
    let registry = Registry::start(&flake, &settings);
    assert_eq!(manifest(&registry, GREEDY, "known", "latest").status, 200);
    for _ in 0..3 {
        // The second time it is remembered, and does not count.
        for name in ["strange1", "strange2"] {
            manifest(&registry, GREEDY, name, "latest").is_error(404, "NAME_UNKNOWN");
        }
    }
    let before = evaluations.all.load(Ordering::SeqCst);
    for (name, tag) in [("strange3", "latest"), ("new", "latest"), ("known", "strange"), ("new", "strange")] {
        let answer = manifest(&registry, GREEDY, name, tag);
        let message = answer.is_error(429, "TOOMANYREQUESTS");
        assert!(
            message.contains("2 names and tags a minute") && message.contains("MAX_CLIENT_UNKNOWN"),
            "{message}"
        );
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    let tags = registry.request("GET", "/v2/strange3/tags/list", &[("x-forwarded-for", GREEDY)]);
    tags.is_error(429, "TOOMANYREQUESTS");
    // At most what `known` means now is asked, since the tag may be one of its own.
    assert!(evaluations.all.load(Ordering::SeqCst) - before <= 1);
    // What was served goes on, also when it has to be looked at again; and what a list has is known.
    assert_eq!(manifest(&registry, GREEDY, "known", "latest").status, 200);
    manifest(&registry, GREEDY, "strange1", "latest").is_error(404, "NAME_UNKNOWN");
    assert_eq!(registry.get("/v2/_catalog").status, 200);
    assert_eq!(manifest(&registry, GREEDY, "packages/listed", "latest").status, 200);
    // Others have their own. A wrong name counts once, also with a tag that is wrong.
    manifest(&registry, OTHER, "strange3", "v1").is_error(404, "NAME_UNKNOWN");
    assert_eq!(manifest(&registry, OTHER, "new", "latest").status, 200);
    // A response, and no full queue.
    comes_to_have(&registry, &[("evaluations_total{outcome=\"refused\"}", 0.0), ("evaluations_queued", 0.0)]);
}

#[test]
fn no_more_unknown_names_are_evaluated_than_may_be_however_many_are_asked_for_at_once() {
    let flake = Flake::new("");
    let socket = Socket::of("EVALUATOR_SOCKET");
    let evaluations = socket.counted("counted");
    let path = socket.path();
    let settings = [
        PROXY,
        ("EVALUATOR_SOCKET", path.to_str().unwrap()),
        ("MAX_CLIENT_UNKNOWN", "5"),
        ("MAX_EVALUATIONS", "2"),
        ("PULL_WAIT", "1h"),
    ];
    let registry = Registry::start(&flake, &settings);
    let answers = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for name in strange(100) {
            let (registry, answers) = (&registry, answers.clone());
            scope.spawn(move || {
                let answer = manifest(registry, GREEDY, &name, "latest");
                assert!([404, 429].contains(&answer.status), "{}", answer.text());
                answers.fetch_add(usize::from(answer.status == 404), Ordering::SeqCst);
            });
        }
    });
    // One of two places is this client's, so nothing else is under way when the last of five ends.
    assert_eq!(answers.load(Ordering::SeqCst), 5);
    assert_eq!(evaluations.all.load(Ordering::SeqCst), 5);
}

#[test]
fn look_ups_of_revisions_leave_some_for_others_and_for_the_source_as_it_is() {
    let text = |name: &str| {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        format!(
            "{{ outputs = _: {{ packages.x86_64-linux.image = (import {examples} {{ system = \"x86_64-linux\"; \
             nonce = \"{}\"; }}).packages.{name}.image; }}; }}",
            crate::support::nonce()
        )
    };
    let flake = GitFlake::new();
    flake.commit(&text("hello-plain"));
    for tag in ["v1", "v2", "v3"] {
        flake.git(&["tag", tag]);
    }
    let settings = [
        ("FLAKE", &*flake.reference()),
        PROXY,
        ("MAX_REVISIONS", "4"),
        ("UNKNOWN_TTL", "1"),
        ("TAG_TTL", "0"),
        ("TAG_STALE", "0"),
        ("PULL_WAIT", "1h"),
    ];
    let mut registry = Registry::start_with(&settings);
    let get = |client, tag| manifest(&registry, client, "image", tag);
    for tag in ["v1", "latest", "v2", "v1", "latest"] {
        assert_eq!(get(GREEDY, tag).status, 200, "{tag}");
    }
    // Half of them are for one client; what others have found is found.
    let answer = get(GREEDY, "v3");
    let message = answer.is_error(429, "TOOMANYREQUESTS");
    assert!(message.contains("2 tags were looked up as revisions for one client"), "{message}");
    assert!(message.contains("MAX_REVISIONS") && message.contains("60 min"), "{message}");
    assert_eq!(answer.header("retry-after"), "60", "no client sleeps for an hour");
    assert_eq!(get(OTHER, "v3").status, 200);
    assert_eq!(get(GREEDY, "v3").status, 200);
    // One that is missing is asked for again, later each time, until all are used up.
    get(OTHER, "v4").is_error(404, "MANIFEST_UNKNOWN");
    eventually("it is looked up again", || get(OTHER, "v4").status == 429);
    let message = get("127.0.0.4", "v5").is_error(429, "TOOMANYREQUESTS");
    assert!(message.contains("4 tags were looked up as revisions within an hour"), "{message}");
    assert_eq!(get("127.0.0.4", "latest").status, 200);
    assert_eq!(get("127.0.0.4", "v1").status, 200);

    // What has been served is served as it was rather than not at all.
    registry.stop();
    registry.set("MAX_REVISIONS", "1");
    registry.run();
    assert_eq!(manifest(&registry, GREEDY, "image", "v2").status, 200);
    let looked_up = registry.logged("ref=v1");
    for _ in 0..3 {
        assert_eq!(manifest(&registry, GREEDY, "image", "v1").status, 200);
    }
    assert_eq!(registry.logged("ref=v1"), looked_up);
    assert_eq!(registry.logged("what it led to before is served"), 1, "once, and not for each request");
    manifest(&registry, GREEDY, "image", "v5").is_error(429, "TOOMANYREQUESTS");
}

#[test]
fn a_source_that_cannot_be_fetched_is_not_asked_for_each_name() {
    let socket = Socket::of("FETCHER_SOCKET");
    let attempts = socket.counted("counted");
    let path = socket.path();
    let settings = [
        ("FLAKE", "git+https://127.0.0.1:1/images.git"),
        // What is no client's doing does not count.
        ("MAX_CLIENT_UNKNOWN", "1"),
        ("FETCHER_SOCKET", path.to_str().unwrap()),
        ("FAILURE_TTL", "1h"),
        ("PULL_WAIT", "1h"),
    ];
    let registry = Registry::start_with(&settings);
    let made = || attempts.all.load(Ordering::SeqCst);
    thread::scope(|scope| {
        for name in strange(20) {
            let registry = &registry;
            scope.spawn(move || registry.manifest(&name, "latest").is_error(503, "UNAVAILABLE"));
        }
    });
    registry.manifest("another", "latest").is_error(503, "UNAVAILABLE");
    assert_eq!(made(), 1);
    // Unless the operator says that it is worth another try.
    registry.signal(1);
    eventually("it is tried again", || {
        registry.manifest("another", "latest").is_error(503, "UNAVAILABLE");
        made() == 2
    });
}
