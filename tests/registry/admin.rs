//! What operators ask a registry: images, inspect, forget, gc; while it runs, and when it does not.

use crate::{
    bed::Bed,
    clients::root,
    support::{Flake, Registry, layers, sha256},
};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
};

/// Runs a command that has to succeed, and gives what it prints.
#[track_caller]
fn admin(registry: &Registry, arguments: &[&str]) -> String {
    let output = registry.command(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(registry: &Registry, arguments: &[&str]) -> Value {
    serde_json::from_str(&admin(registry, &[arguments, &["--json"]].concat())).unwrap()
}

/// Names with tags, sorted as they are listed.
fn listed(registry: &Registry) -> Vec<String> {
    let rows = admin(registry, &["images"]);
    rows.lines().map(|row| row.split('\t').take(2).collect::<Vec<_>>().join(":")).collect()
}

fn roots(registry: &Registry) -> usize {
    fs::read_dir(registry.state.join("gcroots")).unwrap().count()
}

/// Every file of a folder, with its length and when it was changed.
fn files(folder: &Path) -> String {
    let output = Command::new("find")
        .arg(folder)
        .args(["-not", "-type", "s", "-printf", "%p %s %T@\n"])
        .output()
        .unwrap();
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

/// One request on the admin socket: status and body.
fn raw(socket: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), body.to_owned())
}

#[test]
fn images_and_inspect_tell_the_same_of_a_registry_that_runs_and_of_one_that_does_not() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h"), ("LOG_LEVEL", "INFO")]);
    assert_eq!(admin(&registry, &["images"]), "");
    assert_eq!(json(&registry, &["images"]), Value::Array(vec![]));
    let digest = registry.pull("packages/hello", "latest");
    registry.pull("packages/hello", "1.0.0");
    let greet = registry.pull("packages/greet", "latest");
    let manifest = registry.manifest("packages/greet", "latest").json();

    let running = (admin(&registry, &["images"]), json(&registry, &["inspect", "packages/greet:latest"]));
    let rows: Vec<Vec<&str>> = running.0.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(
        rows.iter().map(|row| (row[0], row[1], row[2])).collect::<Vec<_>>(),
        [
            ("packages/greet", "latest", greet.as_str()),
            ("packages/hello", "1.0.0", digest.as_str()),
            ("packages/hello", "latest", digest.as_str()),
        ]
    );
    for row in &rows {
        assert!(row[3].parse::<u64>().unwrap() > 1000 && row[4].parse::<u64>().unwrap() > 0, "{row:?}");
        assert!(row[5].ends_with('Z') && row[6] >= row[5], "{row:?}");
        assert_eq!(row[7], "yes");
    }

    let image = &running.1[0];
    assert_eq!(image["names"], serde_json::json!(["packages/greet:latest"]));
    assert!(image["storePaths"][0].as_str().unwrap().ends_with("-greet-1.0.0"), "{image}");
    assert!(image["derivations"][0].as_str().unwrap().ends_with("-greet-1.0.0.drv^out"), "{image}");
    let root = &image["gcRoots"][0];
    assert_eq!(root["target"], image["storePaths"][0]);
    assert_eq!(fs::read_link(root["link"].as_str().unwrap()).unwrap().to_str(), root["target"].as_str());
    let blobs = image["blobs"].as_array().unwrap();
    assert_eq!(blobs.len(), 1 + manifest["layers"].as_array().unwrap().len());
    for (blob, of) in blobs.iter().skip(1).zip(manifest["layers"].as_array().unwrap()) {
        assert_eq!((&blob["digest"], &blob["size"]), (&of["digest"], &of["size"]));
        assert_eq!(blob["place"]["kind"], "computed");
        assert!(
            Path::new(blob["place"]["path"].as_str().unwrap()).exists() && blob["place"]["present"] == true
        );
    }
    let text = admin(&registry, &["inspect", "packages/hello"]);
    for part in ["packages/hello:1.0.0", "packages/hello:latest", &digest, ".drv^out", "GC root", "/blobs/"] {
        assert!(text.contains(part), "{part} in {text}");
    }

    registry.stop();
    let before = files(&registry.state);
    assert!(!registry.state.join("admin.socket").exists());
    let stopped = (admin(&registry, &["images"]), json(&registry, &["inspect", "packages/greet:latest"]));
    assert_eq!(stopped, running);
    assert_eq!(files(&registry.state), before, "nothing is changed by looking");
}

#[test]
fn gc_drops_what_it_says_it_would_and_the_store_can_be_collected_then() {
    let bed = Bed::up();
    let flake = Flake::new("");
    let mut registry = bed.registry(&flake, &[("TAG_TTL", "1h"), ("LOG_LEVEL", "INFO")]);
    registry.pull("packages/hello", "latest");
    registry.pull("packages/greet", "latest");
    let image = bed.store_path("-docker-image-hello.tar.gz").unwrap();
    let none = json(&registry, &["gc", "--older-than", "1h"]);
    assert_eq!((&none["images"], &none["freedBytes"]), (&0.into(), &0.into()));

    let would = json(&registry, &["gc", "--all", "--dry-run"]);
    assert_eq!((listed(&registry).len(), roots(&registry)), (2, 2), "nothing was dropped");
    bed.collect_garbage();
    assert!(image.exists());
    let cached = |registry: &Registry| -> u64 {
        let folders = ["blobs", "layers"].map(|folder| fs::read_dir(registry.state.join(folder)).unwrap());
        folders.into_iter().flatten().map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let bytes = cached(&registry);
    assert!(bytes > 0 && would["freedBytes"] == bytes, "{bytes} and {would}");

    let text = admin(&registry, &["gc", "--all"]);
    for part in
        ["dropped packages/hello:latest sha256:", "images: 2, GC roots: 2, freed", "nix-collect-garbage"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!((listed(&registry).len(), roots(&registry), cached(&registry)), (0, 0, 0));
    bed.collect_garbage();
    assert!(!image.exists());
    // What is asked for again is made again; then the same without a registry.
    registry.pull("packages/hello", "latest");
    registry.stop();
    assert_eq!(json(&registry, &["gc", "--older-than", "0s"])["images"], 1);
    assert_eq!((listed(&registry).len(), roots(&registry)), (0, 0));
}

#[test]
fn a_dry_run_of_gc_changes_nothing_whether_a_registry_runs_or_not() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h"), ("LOG_LEVEL", "INFO")]);
    registry.pull("packages/hello", "latest");
    registry.pull("packages/greet", "latest");
    let dry_runs = [&["gc", "--all", "--dry-run"][..], &["gc", "--older-than", "1h", "--dry-run"]];
    let running = dry_runs.map(|arguments| (admin(&registry, arguments), json(&registry, arguments)));
    let [(text, all), (_, old)] = &running;
    for part in
        ["would drop packages/greet:latest sha256:", "would drop packages/hello", "images: 2, GC roots: 2"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!((&all["dryRun"], &all["images"], &old["images"]), (&true.into(), &2.into(), &0.into()));

    registry.stop();
    // What the next start would put in order.
    fs::write(registry.state.join("blobs").join("0".repeat(64)), "of no image").unwrap();
    fs::write(registry.state.join("layers/.unfinished-0"), "half").unwrap();
    std::os::unix::fs::symlink("/", registry.state.join("gcroots").join("1".repeat(64))).unwrap();
    fs::remove_file(registry.state.join("version")).unwrap();
    registry.set("CACHE_MAX_BYTES", "1");
    let before = files(&registry.state);
    let stopped = dry_runs.map(|arguments| (admin(&registry, arguments), json(&registry, arguments)));
    assert_eq!(stopped, running);
    assert_eq!(files(&registry.state), before);
    // Nor is an index that is of no use moved aside for it.
    fs::write(registry.state.join("index.redb"), "not a database").unwrap();
    let before = files(&registry.state);
    let (text, code) = registry.run_to_its_end(dry_runs[0]);
    assert!(code == Some(1) && text.contains("cannot be used"), "{text}");
    assert_eq!(files(&registry.state), before);
}

#[test]
fn forget_takes_a_tag_or_a_name_and_leaves_what_others_lead_to() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h"), ("LOG_LEVEL", "INFO")]);
    for (name, tag) in [
        ("packages/hello", "latest"),
        ("packages/hello", "1.0.0"),
        ("hello", "latest"),
        ("packages/greet", "latest"),
    ] {
        registry.pull(name, tag);
    }
    assert_eq!(roots(&registry), 2);
    // Another tag leads to it, then another name, then nothing.
    for (name, images) in
        [("packages/hello:1.0.0", 0), ("packages/hello", 0), ("127.0.0.1:6443/hello:latest", 1)]
    {
        let dropped = json(&registry, &["forget", name]);
        assert_eq!(dropped["images"], images, "{name}: {dropped}");
    }
    assert_eq!(listed(&registry), ["packages/greet:latest"]);
    assert_eq!(roots(&registry), 1);
    registry.stop();
    assert_eq!(json(&registry, &["forget", "packages/greet"])["gcRoots"], 1);
    assert_eq!((listed(&registry).len(), roots(&registry)), (0, 0));
    // And it comes back as if nothing had been.
    registry.run();
    registry.pull("packages/greet", "latest");
    assert_eq!(listed(&registry), ["packages/greet:latest"]);
}

#[test]
fn a_pull_that_runs_while_its_image_is_forgotten_goes_on() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[("TAG_TTL", "1h"), ("PULL_WAIT", "10m")]);
    let manifest = registry.manifest("packages/large-gzip", "latest");
    let layer = layers(&manifest).pop().unwrap();
    let config = manifest.json()["config"]["digest"].as_str().unwrap().to_owned();
    let mut connection = TcpStream::connect(&registry.address).unwrap();
    write!(connection, "GET /v2/packages/large-gzip/blobs/{layer} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = vec![0; 100_000];
    connection.read_exact(&mut answer).unwrap();

    let dropped = json(&registry, &["forget", "packages/large-gzip"]);
    assert_eq!((&dropped["images"], &dropped["gcRoots"]), (&1.into(), &1.into()));
    assert!(dropped["freedBytes"].as_u64().unwrap() > 90 << 20, "{dropped}");
    assert_eq!((listed(&registry).len(), roots(&registry)), (0, 0));

    // The layer that is being sent comes to its end, and the rest is to be had.
    connection.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(sha256(&answer[body..]), layer);
    let blob = registry.blob("packages/large-gzip", &config);
    assert_eq!((blob.status, sha256(&blob.body)), (200, config), "{}", blob.text());
    // No other name has it for that.
    registry.blob("packages/large", &layer).is_error(404, "BLOB_UNKNOWN");
}

#[test]
fn names_that_do_not_exist_are_said_to_with_those_that_are_near() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h"), ("LOG_LEVEL", "INFO")]);
    registry.pull("packages/hello", "latest");
    for running in [true, false] {
        for (arguments, status, part) in [
            (&["inspect", "packages/helo"][..], 3, "near misses: packages/hello"),
            (&["forget", "packages/helo"], 3, "near misses: packages/hello"),
            (&["inspect", "packages/hello:2.0"], 3, "has no tag 2.0 that has been served; it has: latest"),
            (&["forget", "packages/hello:2.0"], 3, "it has: latest"),
            (&["forget", "packages//hello"], 2, "cannot stand in a repository name"),
            (&["inspect", "packages/hello@sha256:00"], 2, "digest"),
            (&["gc", "--older-than", "long"], 2, "expected"),
            (&["gc", "--older-than", "1d", "--all"], 2, "cannot be used with"),
        ] {
            let (text, code) = registry.run_to_its_end(arguments);
            assert_eq!(code, Some(status), "{arguments:?}: {text}");
            assert!(text.contains(part), "{arguments:?}: {part} in {text}");
        }
        if running {
            registry.stop();
        }
    }
    assert_eq!(listed(&registry), ["packages/hello:latest"]);
}

#[test]
fn only_root_and_the_registrys_own_user_are_answered_and_only_what_is_understood() {
    let flake = Flake::new("");
    let folder = tempfile::Builder::new().prefix("admin.").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("socket");
    let registry = Registry::start(&flake, &[("ADMIN_SOCKET", socket.to_str().unwrap())]);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(admin(&registry, &["images"]), "");

    let request = "GET /v1/images HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(raw(&socket, request), (200, "[]".into()));
    for (request, status, part) in [
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", 400, "there is no GET /"),
        ("POST /v1/gc HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n[", 400, "/v1/gc"),
        ("POST /v1/gc HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n", 400, "body"),
        ("DELETE /v1/images/a HTTP/1.1\r\nhost: x\r\n\r\n", 404, "nothing has been served under the name a"),
        ("nonsense\r\n\r\n", 400, ""),
    ] {
        let (found, body) = raw(&socket, request);
        assert!(found == status && body.contains(part), "{request:?}: {found} {body}");
    }

    let stranger = |request: &str| {
        let mut child = root("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "socat", "-t", "60", "-"])
            .arg(format!("UNIX-CONNECT:{}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have ended already.
        let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    assert!(stranger(request).contains("Permission denied"));
    // Should somebody have opened it to all.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let answer = stranger(request);
    assert!(answer.contains("403") && answer.contains("user 65534 is neither root nor"), "{answer}");
    // And never by way of the network.
    for path in ["/v1/images", "/v1/gc"] {
        assert_eq!(registry.get(path).status, 404);
    }
}

#[test]
fn connections_that_ask_nothing_do_not_keep_others_from_asking() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let idle: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(registry.state.join("admin.socket")).unwrap()).collect();
    assert_eq!(admin(&registry, &["images"]), "");
    drop(idle);
}

#[test]
fn commands_say_what_is_missing_where_there_is_neither_a_registry_nor_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], state: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forge-registry"));
        let output = command.args(arguments).env_clear().env("STATE_DIR", state).output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let nowhere = folder.path().join("nowhere");
    for arguments in [&["images"][..], &["inspect", "a"], &["forget", "a"], &["gc"]] {
        let (text, code) = run(arguments, &nowhere);
        assert_eq!((text.lines().count(), code), (1, Some(1)), "{arguments:?}: {text}");
        for part in ["ADMIN_SOCKET", "STATE_DIR", nowhere.to_str().unwrap(), "there is no state"] {
            assert!(text.contains(part), "{arguments:?}: {part} in {text}");
        }
        assert!(!nowhere.exists(), "{arguments:?} made it");
    }
}

#[test]
fn an_admin_socket_that_cannot_be_had_stops_the_registry_only_if_it_was_asked_for() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("LOG_LEVEL", "INFO")]);
    // Killed, so the socket is left behind, and is no hindrance.
    registry.kill();
    let socket = registry.state.join("admin.socket");
    assert!(socket.exists());
    registry.run();
    assert_eq!(admin(&registry, &["images"]), "");
    registry.stop();
    // A file of somebody else's is not deleted.
    fs::write(&socket, "mine").unwrap();
    registry.run();
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    assert!(registry.log().contains("will not reach this registry: ADMIN_SOCKET"), "{}", registry.log());
    registry.stop();
    registry.set("ADMIN_SOCKET", socket.to_str().unwrap());
    let (text, code) = registry.run_to_its_end(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("ADMIN_SOCKET") && text.contains("is no socket"), "{text}");
}

/// A process that listens and accepts nothing is alive, however many wait for it.
#[test]
fn a_socket_whose_owner_is_only_slow_is_not_taken_over() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("LOG_LEVEL", "INFO")]);
    registry.stop();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let address = format!("unix:{}", path.display());
    let owner = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    // One connection fills it.
    rustix::net::listen(&owner, 0).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap();
    for (setting, value) in
        [("ADMIN_SOCKET", path.to_str().unwrap()), ("METRICS_LISTEN", &address), ("LISTEN", &address)]
    {
        let mut command = registry.command(&[]);
        let output = command.env(setting, value).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{setting}: {text}");
        assert!(text.contains(setting) && text.contains("in use by another process"), "{setting}: {text}");
    }
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}
