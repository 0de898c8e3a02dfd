//! What fetching a source costs its server, and what follows if that server cannot be asked.

use crate::{
    bed::Bed,
    freshness::GitFlake,
    scrape::LISTEN,
    socket::Socket,
    strangers::Server,
    support::{Flake, PATIENCE, Registry, eventually, nonce},
};
use serde_json::json;
use std::{
    fs,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::Command,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

#[test]
fn a_missing_tag_costs_as_many_look_ups_with_inputs_as_without() {
    let server = Server::new();
    let ca = server.authority.setting("ca.pem");
    let bed = Bed::up_with(&[("NIX_SSL_CERT_FILE", &ca), ("GIT_SSL_CAINFO", &ca)]);
    let hash = server.tarball("leaf.tar.gz", "{ outputs = _: { name = \"leaf\"; }; }");
    let (flake, url) = (GitFlake::new(), format!("{}/leaf.tar.gz", server.url));
    let lock = json!({ "version": 7, "root": "root", "nodes": {
        "root": { "inputs": { "leaf": "leaf" } },
        "leaf": { "locked": { "type": "tarball", "url": url, "narHash": hash } },
    } });
    fs::write(flake.folder().join("flake.lock"), lock.to_string()).unwrap();
    flake.git(&["add", "flake.lock"]);
    let text = |input: &str| {
        format!(
            "{{ inputs.leaf.url = \"{url}\"; outputs = {{ self, leaf }}: {{ packages.x86_64-linux.t.image = throw \
             \"it is <${{{input}}}>\"; }}; }}"
        )
    };
    flake.commit(&text("leaf.name"));
    flake.git(&["tag", "v1"]);

    let fetcher = Socket::before(bed.variable("FETCHER_SOCKET"));
    let fetches = fetcher.counted("counted");
    let (path, reference) = (fetcher.path(), flake.reference());
    let settings = [
        ("FETCHER_SOCKET", path.to_str().unwrap()),
        ("FLAKE", &reference),
        ("FAILURE_TTL", "1h"),
        ("UNKNOWN_TTL", "0"),
    ];
    let registry = bed.registry(&Flake::new(""), &settings);
    let made = || fetches.all.swap(0, Ordering::SeqCst);
    let ask = |tag: &str, status, text: &str| {
        let message = registry.manifest("packages/t", tag).is_error(status, "MANIFEST_UNKNOWN");
        assert!(message.contains(text), "{tag}: {message}");
    };
    ask("latest", 422, "it is <leaf>");
    assert_eq!(made(), 2, "the source, and the input when it turned out to be needed");
    for tag in ["v8", "v9"] {
        // That latest is broken is remembered, and what is said of a tag that is missing as well.
        ask(tag, 422, "it is <leaf>");
        assert_eq!(made(), 2, "neither a branch nor a tag");
    }
    ask("v1", 422, "it is <leaf>");
    assert_eq!(made(), 3, "no branch, but a tag, and its inputs in one go");
}

#[test]
fn a_local_source_is_fetched_once_for_all_names_and_again_for_one_that_leads_nowhere() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let examples = format!("import <examples> {{ system = \"x86_64-linux\"; nonce = \"{}\"; }}", nonce());
    flake.write_text(&format!(
        "{{ outputs = _: {{ packages.x86_64-linux = {{ inherit (({examples}).packages) hello-plain hello-links-plain; }}; }}; }}"
    ));
    let fetcher = Socket::before(bed.variable("FETCHER_SOCKET"));
    let fetches = fetcher.counted("counted");
    let path = fetcher.path();
    let settings = [("FETCHER_SOCKET", path.to_str().unwrap()), ("TAG_TTL", "1h"), ("UNKNOWN_TTL", "0")];
    let registry = bed.registry(&flake, &settings);
    let made = || fetches.all.swap(0, Ordering::SeqCst);
    for name in ["packages/hello-plain", "packages/hello-links-plain"] {
        assert_eq!(registry.manifest(name, "latest").status, 200);
    }
    assert_eq!(made(), 1);
    flake.write_text("{ outputs = _: { packages.x86_64-linux.new.image = throw \"it is new\"; }; }");
    let message = registry.manifest("packages/new", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("it is new"), "{message}");
    assert_eq!(made(), 1, "the name leads nowhere in the source as it was");
}

#[test]
fn a_server_that_cannot_be_asked_says_nothing_of_tags() {
    let server = Server::new();
    let ca = server.authority.setting("ca.pem");
    let bed = Bed::up_with(&[("NIX_SSL_CERT_FILE", &ca), ("GIT_SSL_CAINFO", &ca)]);
    let flake = GitFlake::new();
    flake.commit(&format!(
        "{{ outputs = _: {{ packages.x86_64-linux.image = (import <examples> {{ system = \"x86_64-linux\"; nonce = \"{}\"; \
         }}).packages.hello-plain.image; }}; }}",
        nonce()
    ));
    flake.git(&["tag", "v1"]);
    let bare = server.root.path().join("repository.git");
    let clone = Command::new("git").args(["clone", "-q", "--bare"]).arg(flake.folder()).arg(&bare).status();
    assert!(clone.unwrap().success());
    let info = Command::new("git").arg("-C").arg(&bare).arg("update-server-info").status();
    assert!(info.unwrap().success());

    let fetcher = Socket::before(bed.variable("FETCHER_SOCKET"));
    let (path, reference) = (fetcher.path(), format!("git+{}/repository.git", server.url));
    let settings = [
        ("FETCHER_SOCKET", path.to_str().unwrap()),
        ("FLAKE", &reference),
        ("TAG_TTL", "0"),
        ("TAG_STALE", "0"),
        ("FAILURE_TTL", "1"),
        ("UNKNOWN_TTL", "0"),
        ("MAX_CLIENT_UNKNOWN", "2"),
    ];
    let mut registry = bed.registry(&Flake::new(""), &settings);
    assert_eq!(registry.manifest("image", "v1").status, 200);
    let message = registry.manifest("image", "v9").is_error(404, "MANIFEST_UNKNOWN");
    assert!(message.contains("find remote ref"), "{message}");

    let unavailable = |registry: &Registry, tag: &str, text: &str| {
        let answer = registry.manifest("image", tag);
        let message = answer.is_error(503, "UNAVAILABLE");
        assert!(message.contains(text), "{tag}: {message}");
        assert!((1..=60).contains(&answer.header("retry-after").parse::<u32>().unwrap()));
    };
    drop(server);
    // More than a client may ask for in vain.
    for tag in ["v2", "v3", "v4", "v5"] {
        unavailable(&registry, tag, "fatal: unable to access");
    }
    // Git's repository is kept for an hour, and a forge refuses for no reason that could be had here.
    fetcher.serve("refusing", |mut client| {
        client.read_to_string(&mut String::new())?;
        let text = "unable to download 'https://api.github.com/repos/o/r/commits/v1': HTTP error 403";
        let line = json!({ "action": "msg", "level": 0, "msg": text, "raw_msg": text });
        client.write_all(format!("@nix {line}\n").as_bytes())
    });
    for tag in ["latest", "v1", "v6"] {
        unavailable(&registry, tag, "HTTP error 403");
    }
    // It is still known what the tag led to.
    registry.stop();
    registry.set("TAG_TTL", "1h");
    registry.run();
    assert_eq!(registry.manifest("image", "v1").status, 200);
    unavailable(&registry, "v7", "HTTP error 403");
}

#[test]
fn a_reload_waits_for_no_fetch_and_takes_what_it_comes_to_for_old() {
    let server = Server::new();
    let ca = server.authority.setting("ca.pem");
    let bed = Bed::up_with(&[("NIX_SSL_CERT_FILE", &ca)]);
    let packages = "t.image = throw \"it is <t>\"; u.image = throw \"it is <u>\";";
    server
        .tarball("x.tar.gz", &format!("{{ outputs = _: {{ packages.x86_64-linux = {{ {packages} }}; }}; }}"));
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::write(&rules, "allow build * *\n").unwrap();

    // No source is fetched before the gate is opened.
    let socket = Socket::before(bed.variable("FETCHER_SOCKET"));
    let (gate, fetches) = (Arc::new((Mutex::new(false), Condvar::new())), Arc::new(AtomicUsize::new(0)));
    let (opening, counted, real) = (gate.clone(), fetches.clone(), bed.variable("FETCHER_SOCKET").to_owned());
    socket.serve("held", move |mut client| {
        let mut query = Vec::new();
        client.read_to_end(&mut query)?;
        counted.fetch_add(1, Ordering::SeqCst);
        let (open, changed) = &*opening;
        drop(changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open).unwrap());
        let mut fetcher = UnixStream::connect(&real)?;
        fetcher.write_all(&query)?;
        fetcher.shutdown(Shutdown::Write)?;
        io::copy(&mut fetcher, &mut client).map(drop)
    });
    let (path, reference) = (socket.path(), format!("tarball+{}/x.tar.gz", server.url));
    let settings = [
        LISTEN,
        ("FETCHER_SOCKET", path.to_str().unwrap()),
        ("FLAKE", &reference),
        ("TAG_TTL", "1h"),
        ("PULL_WAIT", "1h"),
        ("AUTH_RULES", rules.to_str().unwrap()),
    ];
    let registry = bed.registry(&Flake::new(""), &settings);
    let ask = |name: &str| {
        let message =
            registry.manifest(&format!("packages/{name}"), "latest").is_error(422, "MANIFEST_UNKNOWN");
        assert!(message.contains(&format!("it is <{name}>")), "{message}");
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| ask("t"));
        eventually("it is being fetched", || fetches.load(Ordering::SeqCst) == 1);
        let before = registry.logged("access is controlled anew");
        registry.signal(1);
        eventually("it is reloaded", || registry.logged("access is controlled anew") > before);
        let (open, changed) = &*gate;
        *open.lock().unwrap() = true;
        changed.notify_all();
        first.join().unwrap();
    });
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    for _ in 0..2 {
        ask("u");
        assert_eq!(fetches.load(Ordering::SeqCst), 2, "what began before the reload is not current after it");
    }
    ask("t");
    assert_eq!(fetches.load(Ordering::SeqCst), 2);
}
