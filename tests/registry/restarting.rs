//! Restarts, orderly and not: what survives, what is cleaned up, what is refused.

use crate::support::{Flake, Registry, eventually, layers, sha256, testbed};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

const NOWHERE: &str = "/nowhere/socket";
const DOCKER: &[(&str, &str)] = &[("accept", "application/vnd.docker.distribution.manifest.v2+json")];

/// Sees to it that nothing can be evaluated or built.
fn without_nix(registry: &mut Registry) {
    registry.set("EVALUATOR_SOCKET", NOWHERE);
    registry.set("NIX_DAEMON_SOCKET", NOWHERE);
}

/// Bytes that the process has got by read(2) and its like, and bytes of mapped store files that it has touched.
fn bytes_read(registry: &Registry) -> (u64, u64) {
    let number = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    let proc = format!("/proc/{}", registry.pid());
    let io = fs::read_to_string(format!("{proc}/io")).unwrap();
    let (mut of_store, mut touched) = (false, 0);
    for line in fs::read_to_string(format!("{proc}/smaps")).unwrap().lines() {
        if line.starts_with("Rss:") && of_store {
            touched += number(line) * 1024;
        } else if line.split_once('-').is_some_and(|(from, _)| u64::from_str_radix(from, 16).is_ok()) {
            of_store = line.contains(&testbed("NIX_STORE_DIR"));
        }
    }
    (number(io.lines().find(|line| line.starts_with("rchar")).unwrap()), touched)
}

#[test]
fn what_was_served_before_a_crash_is_served_after_it_without_evaluating_or_building() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    let names =
        ["packages/hello", "packages/hello-plain", "hello-flat", "hello-oci-plain", "applications/demo/web"];
    let before: Vec<_> = names
        .iter()
        .map(|name| {
            let docker = registry.request("GET", &format!("/v2/{name}/manifests/latest"), DOCKER);
            (registry.pull(name, "latest"), docker)
        })
        .collect();
    let work = ["resolved", "building", "indexed"];
    let done: Vec<usize> = work.iter().map(|line| registry.logged(line)).collect();

    registry.kill();
    without_nix(&mut registry);
    registry.run();
    for (name, (oci, docker)) in names.iter().zip(&before) {
        assert_eq!(&registry.pull(name, "latest"), oci);
        assert_eq!(&registry.pull(name, oci), oci);
        let docker_digest = docker.header("docker-content-digest");
        assert_ne!(docker_digest, oci);
        let again = registry.manifest(name, docker_digest);
        assert_eq!((again.status, &again.body), (200, &docker.body));
        assert_eq!(again.header("content-type"), DOCKER[0].1);
    }
    assert_eq!(work.iter().map(|line| registry.logged(line)).collect::<Vec<_>>(), done);
}

#[test]
fn after_a_restart_no_layer_is_read_before_somebody_asks_for_its_bytes() {
    const MIB: u64 = 1 << 20;
    let flake = Flake::new("largeMiB = \"24\";");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    for name in ["packages/large", "packages/large-gzip"] {
        registry.pull(name, "latest");
    }
    let (read, touched) = bytes_read(&registry);
    assert!(
        read + touched > 40 * MIB,
        "{read} bytes read, {touched} touched: this does not measure anything"
    );

    registry.kill();
    without_nix(&mut registry);
    registry.run();
    for name in ["packages/large", "packages/large-gzip"] {
        let manifest = registry.manifest(name, "latest");
        for layer in layers(&manifest) {
            let path = format!("/v2/{name}/blobs/{layer}");
            assert_eq!(registry.request("HEAD", &path, &[]).status, 200);
            assert_eq!(registry.request("GET", &path, &[("range", "bytes=0-99")]).body.len(), 100);
        }
    }
    let (read, touched) = bytes_read(&registry);
    assert!(read < 8 * MIB && touched < 8 * MIB, "{read} bytes were read, {touched} touched");
}

#[test]
fn a_crash_while_an_image_is_unpacked_leaves_nothing_behind() {
    let flake = Flake::new("largeMiB = \"96\";");
    let mut registry = Registry::start(&flake, &[]);
    let unfinished = |state: &Path| -> usize {
        let entries = fs::read_dir(state.join("blobs")).unwrap();
        entries.filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.')).count()
    };
    let address = registry.address.clone();
    let mut connection = TcpStream::connect(&address).unwrap();
    connection.write_all(b"GET /v2/large-gzip/manifests/latest HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    eventually("the image is being unpacked", || unfinished(&registry.state) > 0);
    registry.kill();
    assert!(unfinished(&registry.state) > 0, "it was killed too late to show anything");

    registry.run();
    assert_eq!(unfinished(&registry.state), 0);
    registry.pull("large-gzip", "latest");
    let cached: u64 = fs::read_dir(registry.state.join("blobs"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!((96 << 20..120 << 20).contains(&cached), "{cached} bytes are in the cache");
}

#[test]
fn an_index_that_cannot_be_used_is_moved_aside_and_made_again() {
    const META: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("TAG_TTL", "1h")]);
    let digest = registry.pull("hello", "latest");
    let index = registry.state.join("index.redb");
    let aside = registry.state.join("index.damaged");
    let damages: [(&str, &dyn Fn()); 6] = [
        ("garbage", &|| {
            fs::write(&index, "not a database at all, and longer than its magic number").unwrap()
        }),
        ("zeros", &|| fs::write(&index, vec![0; 100_000]).unwrap()),
        ("half of it", &|| {
            let length = fs::metadata(&index).unwrap().len();
            fs::File::options().write(true).open(&index).unwrap().set_len(length / 2).unwrap();
        }),
        ("a format that nothing leads on from", &|| {
            let database = redb::Database::create(&index).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(META).unwrap().insert("format", 2).unwrap();
            transaction.commit().unwrap();
        }),
        ("one without tables", &|| {
            fs::remove_file(&index).unwrap();
            let database = redb::Database::create(&index).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(META).unwrap().insert("format", 1).unwrap();
            transaction.commit().unwrap();
        }),
        ("pages written over", &|| {
            let mut bytes = fs::read(&index).unwrap();
            for byte in bytes.iter_mut().skip(4096).step_by(97) {
                *byte ^= 0x55;
            }
            fs::write(&index, bytes).unwrap();
        }),
    ];
    for (times, (what, damage)) in damages.iter().enumerate() {
        registry.kill();
        damage();
        let _ = fs::remove_file(&aside);
        registry.run();
        assert!(aside.exists(), "{what} was not moved aside");
        let log = registry.log();
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("moved aside")).collect();
        assert_eq!(warnings.len(), times + 1, "{what}");
        assert!(
            warnings[times].contains("WARN") && warnings[times].contains("index.damaged"),
            "{}",
            warnings[times]
        );
        assert_eq!(registry.pull("hello", "latest"), digest, "after {what}");
    }
}

#[test]
fn a_second_process_on_the_same_state_is_refused_in_one_line() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let (text, code) = registry.run_to_its_end(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("in use by another forge-registry") && text.contains("STATE_DIR="), "{text}");
    assert!(text.contains(&format!("(process {})", registry.pid())), "{text}");
    registry.pull("hello", "latest");
}

/// Begins to download a large layer; gives what is still to be read, and the layer's digest.
fn begin_download(registry: &Registry) -> (TcpStream, String) {
    let manifest = registry.manifest("large", "latest");
    let layer = layers(&manifest).pop().unwrap();
    let mut connection = TcpStream::connect(&registry.address).unwrap();
    write!(connection, "GET /v2/large/blobs/{layer} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    (connection, layer)
}

#[test]
fn sigterm_lets_a_running_download_finish() {
    let flake = Flake::new("largeMiB = \"32\";");
    let mut registry = Registry::start(&flake, &[]);
    let (mut connection, layer) = begin_download(&registry);
    registry.signal(15);
    eventually("no further connection is taken", || TcpStream::connect(&registry.address).is_err());
    let mut body = Vec::new();
    connection.read_to_end(&mut body).unwrap();
    assert_eq!(sha256(&body), layer);
    assert_eq!(registry.wait().code(), Some(0));
}

#[test]
fn sigterm_cuts_a_download_that_outlasts_the_grace() {
    let flake = Flake::new("largeMiB = \"32\";");
    let mut registry = Registry::start(&flake, &[("SHUTDOWN_GRACE", "1")]);
    let (mut connection, layer) = begin_download(&registry);
    assert_eq!(registry.stop().code(), Some(0));
    assert_eq!(registry.logged("SHUTDOWN_GRACE has passed"), 1);
    let mut body = Vec::new();
    let _reset = connection.read_to_end(&mut body);
    assert_ne!(sha256(&body), layer);
}

#[test]
fn a_setting_that_is_not_valid_stops_the_start_with_one_line() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    registry.stop();
    for (name, value, allowed) in [
        ("LISTEN", "6443", "127.0.0.1:6443"),
        ("TAG_TTL", "soon", "a number of seconds"),
        ("MAX_BUILDS", "0", "1 or more"),
        ("NIX_STORE_DIR", "store", "an absolute path"),
        ("LOG_LEVEL", "loud", "ERROR, WARN"),
    ] {
        let command = registry.command(&[]).env(name, value).output().unwrap();
        let text = String::from_utf8(command.stderr).unwrap();
        assert_eq!((command.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(&format!("{name}={value:?}")) && text.contains(allowed), "{text}");
    }
    let command = registry.command(&[]).env_remove("FLAKE").output().unwrap();
    assert_eq!(command.status.code(), Some(2));
    assert!(
        String::from_utf8(command.stderr).unwrap().contains("none of FLAKE, PACKAGE_SET and CATALOG is set")
    );
}

#[test]
fn an_address_that_is_taken_is_named_in_one_line() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    registry.stop();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    registry.set("LISTEN", &taken.local_addr().unwrap().to_string());
    let (text, code) = registry.run_to_its_end(&[]);
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("LISTEN") && text.contains(&taken.local_addr().unwrap().to_string()), "{text}");
}
