//! What operators see: the text that Prometheus reads, before and after what it counts.

use crate::{
    scrape::{LISTEN, Scrape, address, comes_to_have, get},
    socket::{Socket, never_answers},
    support::{Flake, PATIENCE, Registry, eventually, layers},
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
};

#[test]
fn pulls_builds_and_failures_are_counted() {
    let flake = Flake::of_scripts(&[("fails", "echo last words; exit 1"), ("works", "cp $hello $out")]);
    // Nothing ends while this looks at it.
    let settings = [LISTEN, ("TAG_TTL", "1h"), ("FAILURE_TTL", "1h"), ("UNKNOWN_TTL", "1h")];
    let registry = Registry::start(&flake, &settings);
    let before = Scrape::of(&registry);
    assert!(before.has(&[
        ("index_images", 0.0),
        ("gc_roots", 0.0),
        ("builds_total{outcome=\"succeeded\"}", 0.0),
        ("builds_limit", 4.0),
        ("http_requests_total{route=\"manifest\",method=\"GET\",code=\"200\"}", 0.0),
    ]));
    assert!(before.value("index_size_bytes") > 0.0 && before.value("runtime_workers") >= 1.0);
    assert!(before.0["process_resident_memory_bytes"] > 1e6 && before.0["process_open_fds"] > 5.0);

    registry.pull("works", "latest");
    let manifest = registry.manifest("works", "latest");
    let layer = layers(&manifest)[0].clone();
    let path = format!("/v2/works/blobs/{layer}");
    let whole = registry.get(&path).body.len() as f64;
    let taken =
        Scrape::of(&registry).value("http_response_bytes_total{route=\"blob\",encoding=\"identity\"}");
    assert!(taken >= 2.0 * whole, "{taken}");
    assert_eq!(registry.request("HEAD", &path, &[]).status, 200);
    assert_eq!(registry.request("GET", &path, &[("range", "bytes=0-9")]).status, 206);
    assert_eq!(registry.request("GET", &path, &[("range", "bytes=999999999999-")]).status, 416);
    assert_eq!(
        registry.request("GET", &path, &[("accept-encoding", "gzip")]).header("content-encoding"),
        "gzip"
    );
    registry.manifest("fails", "latest").is_error(422, "MANIFEST_UNKNOWN");
    registry.manifest("nothing", "latest").is_error(404, "NAME_UNKNOWN");
    assert_eq!(registry.get("/v2/works/blobs/sha256:1").status, 400);
    assert_eq!(registry.request("DELETE", &path, &[]).status, 405);

    comes_to_have(
        &registry,
        &[
            ("http_requests_total{route=\"manifest\",method=\"GET\",code=\"200\"}", 2.0),
            ("http_requests_total{route=\"manifest\",method=\"GET\",code=\"422\"}", 1.0),
            ("http_requests_total{route=\"manifest\",method=\"GET\",code=\"404\"}", 1.0),
            ("http_requests_total{route=\"blob\",method=\"HEAD\",code=\"200\"}", 1.0),
            ("http_requests_total{route=\"blob\",method=\"GET\",code=\"206\"}", 1.0),
            ("http_requests_total{route=\"blob\",method=\"GET\",code=\"416\"}", 1.0),
            ("http_requests_total{route=\"none\",method=\"GET\",code=\"400\"}", 1.0),
            ("http_requests_total{route=\"none\",method=\"other\",code=\"405\"}", 1.0),
            ("http_responses_cut_total{route=\"blob\",by=\"client\"}", 0.0),
            ("http_responses_cut_total{route=\"blob\",by=\"registry\"}", 0.0),
            ("builds_total{outcome=\"succeeded\"}", 1.0),
            ("builds_total{outcome=\"failed\"}", 1.0),
            ("build_duration_seconds_count", 2.0),
            ("builds_running", 0.0),
            ("builds_queued", 0.0),
            ("readings_total{outcome=\"succeeded\"}", 1.0),
            ("readings_running", 0.0),
            ("readings_queued", 0.0),
            ("evaluations_total{outcome=\"succeeded\"}", 2.0),
            ("evaluations_total{outcome=\"unknown\"}", 1.0),
            ("evaluations_running", 0.0),
            ("evaluations_queued", 0.0),
            ("index_images", 1.0),
            ("index_tags", 1.0),
            ("gc_roots", 1.0),
            ("failures_remembered", 3.0),
            ("nix_daemon_connections_failed_total", 0.0),
            // This one.
            ("http_requests_in_flight", 1.0),
            ("http_connections{listener=\"metrics\"}", 1.0),
        ],
    );
    let after = Scrape::of(&registry);
    assert!(after.value("http_response_bytes_total{route=\"blob\",encoding=\"gzip\"}") > 0.0);
    assert!(
        after.value("encoded_chunks_compressed_total") + after.value("encoded_chunks_stored_total") > 0.0
    );
    assert!(after.value("nix_daemon_connections_opened_total") >= 2.0);
    assert!(after.value("retention_runs_total") >= 1.0);

    flake.write_text("{ outputs = _: throw \"no outputs today\"; }");
    registry.manifest("other", "latest").is_error(422, "MANIFEST_UNKNOWN");
    comes_to_have(&registry, &[("evaluations_total{outcome=\"failed\"}", 1.0)]);
}

#[test]
fn what_a_client_may_not_have_more_of_is_no_full_queue() {
    let flake = Flake::of_scripts(
        &["a", "b"].map(|name| (name, "echo it has begun >&2; sleep 100000; cp $hello $out")),
    );
    let settings = [LISTEN, ("MAX_CLIENT_BUILDS", "1"), ("PULL_WAIT", "1")];
    let registry = Registry::start(&flake, &settings);
    registry.manifest("a", "latest").is_error(429, "TOOMANYREQUESTS");
    eventually("the first is being built", || registry.logged("it has begun") == 1);
    let refused = registry.manifest("b", "latest").is_error(429, "TOOMANYREQUESTS");
    assert!(refused.contains("MAX_CLIENT_BUILDS"), "{refused}");
    let none = |work: &str| (format!("{work}_total{{outcome=\"refused\"}}"), format!("{work}_queued"));
    let (refused, queued) = none("builds");
    comes_to_have(&registry, &[("builds_running", 1.0), (&refused, 0.0), (&queued, 0.0)]);

    let evaluator = Socket::of("EVALUATOR_SOCKET");
    let path = evaluator.path();
    let settings = [
        LISTEN,
        ("EVALUATOR_SOCKET", path.to_str().unwrap()),
        ("EVALUATION_TIMEOUT", "1h"),
        ("MAX_CLIENT_EVALUATIONS", "1"),
        ("PULL_WAIT", "1"),
    ];
    let registry = Registry::start(&flake, &settings);
    evaluator.serve("silent", never_answers);
    for (name, part) in [("a", "still being evaluated"), ("b", "MAX_CLIENT_EVALUATIONS")] {
        let message = registry.manifest(name, "latest").is_error(429, "TOOMANYREQUESTS");
        assert!(message.contains(part), "{name}: {message}");
    }
    let (refused, queued) = none("evaluations");
    comes_to_have(&registry, &[("evaluations_running", 1.0), (&refused, 0.0), (&queued, 0.0)]);
}

#[test]
fn what_is_there_is_right_again_after_a_restart_and_what_happened_begins_anew() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[LISTEN, ("TAG_TTL", "1h")]);
    for name in ["hello", "hello-streamed"] {
        registry.pull(name, "latest");
    }
    comes_to_have(&registry, &[("index_images", 2.0), ("gc_roots", 2.0)]);
    let sizes = [
        "index_images",
        "index_tags",
        "index_contents",
        "gc_roots",
        "cache_files{cache=\"blobs\"}",
        "cache_size_bytes{cache=\"blobs\"}",
        "cache_files{cache=\"layers\"}",
        "cache_size_bytes{cache=\"layers\"}",
    ];
    let before = Scrape::of(&registry);
    assert!(sizes.iter().all(|series| before.value(series) > 0.0));
    registry.stop();
    registry.run();
    let after = Scrape::of(&registry);
    assert!(after.has(&sizes.map(|series| (series, before.value(series)))));
    assert_eq!(after.value("builds_total{outcome=\"succeeded\"}"), 0.0);
    registry.pull("hello", "latest");
    comes_to_have(&registry, &[("http_requests_total{route=\"manifest\",method=\"GET\",code=\"200\"}", 1.0)]);
    assert!(after.0["process_start_time_seconds"] > before.0["process_start_time_seconds"]);
}

#[test]
fn a_gc_root_that_is_missing_shows_however_many_others_an_image_has() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[LISTEN, ("TAG_TTL", "1h")]);
    registry.pull("packages/configured", "latest");
    comes_to_have(&registry, &[("index_images", 1.0), ("gc_roots", 3.0), ("gc_roots_missing", 0.0)]);
    let gcroots = registry.state.join("gcroots");
    let links = fs::read_dir(&gcroots).unwrap().map(|link| link.unwrap().path());
    let second = links.filter(|link| link.to_str().unwrap().ends_with("-1")).collect::<Vec<_>>();
    fs::remove_file(&second[0]).unwrap();
    registry.pull("hello", "latest");
    comes_to_have(&registry, &[("index_images", 2.0), ("gc_roots", 3.0), ("gc_roots_missing", 1.0)]);
    registry.stop();
    registry.run();
    comes_to_have(&registry, &[("index_images", 2.0), ("gc_roots", 4.0), ("gc_roots_missing", 0.0)]);
}

#[test]
fn a_response_that_is_cut_is_counted_with_who_cut_it() {
    let flake = Flake::new("largeMiB = \"64\";");
    let registry = Registry::start(&flake, &[LISTEN]);
    let layer = layers(&registry.manifest("large", "latest")).pop().unwrap();
    let mut stream = TcpStream::connect(&registry.address).unwrap();
    write!(stream, "GET /v2/large/blobs/{layer} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    comes_to_have(
        &registry,
        &[("http_requests_in_flight", 2.0), ("http_connections{listener=\"tcp\"}", 1.0)],
    );
    drop(stream);
    comes_to_have(
        &registry,
        &[
            ("http_responses_cut_total{route=\"blob\",by=\"client\"}", 1.0),
            ("http_responses_cut_total{route=\"blob\",by=\"registry\"}", 0.0),
            ("http_requests_in_flight", 1.0),
            ("http_connections{listener=\"tcp\"}", 0.0),
        ],
    );
}

#[test]
fn no_client_can_make_them_more() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = dir.path().join("catalog.json");
    fs::write(&catalog, "{}").unwrap();
    let registry =
        Registry::start_with(&[LISTEN, ("CATALOG", catalog.to_str().unwrap()), ("LOG_LEVEL", "INFO")]);
    let ask = |names: std::ops::Range<usize>| {
        let mut stream = TcpStream::connect(&registry.address).unwrap();
        let mut writing = stream.try_clone().unwrap();
        let count = names.len();
        let writer = thread::spawn(move || {
            for n in names {
                let path = ["manifests/a", "tags/list?n=", "blobs/sha256:", "referrers/x", "b/c", "d"][n % 6];
                let method = ["GET", "HEAD", "GET", "BREW", "GET"][n % 5];
                let agent = format!("agent-{n}");
                write!(
                    writing,
                    "{method} /v2/name{n}/{path}{n} HTTP/1.1\r\nhost: host{n}\r\nuser-agent: {agent}\r\n\
                     accept-encoding: coding{n}\r\n\r\n"
                )
                .unwrap();
            }
            write!(writing, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        });
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).unwrap();
        writer.join().unwrap();
        let answers = String::from_utf8_lossy(&answers).matches("HTTP/1.1 ").count();
        assert_eq!(answers, count + 1);
    };
    ask(0..30);
    let requests = |scrape: &Scrape| {
        let of_images =
            |series: &&String| series.contains("http_requests_total{") && !series.contains("metrics");
        scrape.0.keys().filter(of_images).map(|series| scrape.0[series]).sum::<f64>()
    };
    // All have ended, scrapes as well, so that these have their series.
    for _ in 0..2 {
        comes_to_have(
            &registry,
            &[("http_requests_in_flight", 1.0), ("http_connections{listener=\"tcp\"}", 0.0)],
        );
    }
    let before = Scrape::of(&registry);
    ask(30..10_030);
    eventually("all have been counted", || requests(&Scrape::of(&registry)) == requests(&before) + 10_001.0);
    let after = Scrape::of(&registry);
    let new: Vec<&String> = after.0.keys().filter(|series| !before.0.contains_key(*series)).collect();
    assert!(new.is_empty(), "{new:?}");
}

#[test]
fn operators_get_metrics_and_health_and_nothing_else() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[LISTEN]);
    let status = |method, path| get(&registry, method, path, &[]).status;
    assert_eq!(get(&registry, "GET", "/healthz", &[]).text(), "ok\n");
    assert_eq!(status("GET", "/readyz"), 200);
    for path in ["/", "/v2/", "/v2/_catalog", "/v2/hello/manifests/latest", "/metrics/", "/healthz/x"] {
        assert_eq!(status("GET", path), 404, "{path}");
    }
    assert_eq!(status("POST", "/metrics"), 405);
    let head = get(&registry, "HEAD", "/metrics", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    // Nor do clients get them.
    assert_eq!(registry.get("/metrics").status, 404);
    // What Prometheus sends.
    let accept = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                  text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let newer = get(&registry, "GET", "/metrics", &[("accept", accept)]);
    assert_eq!(newer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(newer.text().ends_with("# EOF\n"));
    // Off, unless it is asked for.
    let without = Registry::start(&flake, &[]);
    assert_eq!(without.logged("metrics are on"), 0);
}

#[test]
fn pulls_and_scrapes_do_not_wait_for_each_other() {
    let flake = Flake::new("largeMiB = \"64\";");
    let registry = Registry::start(&flake, &[LISTEN, ("MAX_CONNECTIONS", "1")]);
    let layer = layers(&registry.manifest("large", "latest")).pop().unwrap();
    // The one connection that there may be is taken by a pull that goes nowhere.
    let mut stream = TcpStream::connect(&registry.address).unwrap();
    write!(stream, "GET /v2/large/blobs/{layer} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    comes_to_have(&registry, &[("http_connections_limit", 1.0), ("http_connections{listener=\"tcp\"}", 1.0)]);
    drop(stream);
    // More idle connections than there may be to the metrics.
    let idle: Vec<_> = (0..40).map(|_| TcpStream::connect(address(&registry)).unwrap()).collect();
    registry.pull("large", "latest");
    comes_to_have(&registry, &[("http_connections_limit", 1.0)]);
    assert!(Scrape::of(&registry).value("http_connections{listener=\"metrics\"}") <= 16.0);
    drop(idle);
}

#[test]
fn promtool_finds_nothing_to_say() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[LISTEN]);
    registry.pull("hello", "latest");
    registry.manifest("nothing", "latest");
    let text = get(&registry, "GET", "/metrics", &[]).body;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool (Debian: prometheus): {error}"));
    promtool.stdin.take().unwrap().write_all(&text).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_unix_socket_that_was_left_behind_is_replaced() {
    let flake = Flake::new("");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics");
    let mut registry = Registry::start(&flake, &[("METRICS_LISTEN", path.to_str().unwrap())]);
    for _ in 0..2 {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("forge_registry_build_info{version="),
            "{answer}"
        );
        registry.kill();
        registry.run();
    }
    // What is not a socket is not in the way of anybody.
    registry.stop();
    assert!(!path.exists(), "it is not left behind by a registry that is stopped");
    fs::write(&path, "mine").unwrap();
    let (said, code) = registry.run_to_its_end(&[]);
    assert!(code == Some(1) && said.contains("METRICS_LISTEN: ") && said.contains("metrics"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}
