//! Store paths that are no image, or not there, or lead elsewhere; and a cache that is too small.

use super::support::*;
use forge_registry::{
    image::{self, ImageError, Selection},
    oci::Digest,
};
use std::{fs, os::unix::fs::symlink, time::Instant};
use tar::EntryType;

#[test]
fn what_is_no_image_is_described() {
    let host = Host::new();
    for (bytes, expected) in [
        (&b""[..], "an empty file"),
        (b"#!/bin/sh\n", "a script beginning with \"#!/bin/sh\""),
        (b"\x7fELF\x02\x01", "an ELF executable"),
        (b"hello", "a text file beginning with \"hello\""),
    ] {
        let said = host.refused(bytes);
        assert!(said.contains(expected) && said.contains("Understood are"), "{said}");
        for compress in [gzip, zstd, xz] {
            let said = host.refused(&compress(bytes));
            assert!(said.contains("data that unpack to") && said.contains(expected), "{said}");
        }
    }
    let said = host.refused(&Tar::new().file("src/main.c", b"int").file("Makefile", b"all:").done());
    assert!(said.contains("a tar archive with Makefile, src/main.c, but no manifest.json"), "{said}");
    refused_in_every_compression(&Tar::new().done(), &["tar archive without members"]);
    let odd = Tar::new().raw(
        &{
            let mut odd = header(EntryType::Regular, 0);
            odd.as_old_mut().name[..4].copy_from_slice(b"\xff\xfe/\x80");
            odd.set_cksum();
            odd
        },
        b"",
    );
    refused_in_every_compression(&odd.done(), &["no manifest.json"]);
    for (entries, expected) in [
        (&[][..], "an empty folder"),
        (&[("bin/hello", &b"\x7fELF"[..]), ("share/", b"")][..], "a folder with: bin, share"),
    ] {
        let object = host.folder(&format!("package-{}", entries.len()), entries);
        let error = host.read(&object).unwrap_err();
        assert!(matches!(&error, ImageError::Unrecognised { found, .. } if found == expected), "{error}");
    }
}

#[test]
fn links_of_a_folder_stay_in_the_store() {
    let host = Host::new();
    let outside = host.dir.path().join("outside.tar");
    fs::write(&outside, docker_archive(&[layer("secret")])).unwrap();
    let up = format!("-> {}", "../".repeat(20) + outside.to_str().unwrap().trim_start_matches('/'));
    let direct = format!("-> {}", outside.display());
    let folder = host.folder(
        "links",
        &[
            ("up.tar", up.as_bytes()),
            ("direct.tar", direct.as_bytes()),
            ("loop.tar", b"-> loop.tar"),
            ("ring.tar", b"-> ring2.tar"),
            ("ring2.tar", b"-> ring.tar"),
            ("dangling.tar", b"-> nowhere.tar"),
        ],
    );
    for (name, expected) in [
        ("up", "out of the store"),
        ("direct", "not in the store"),
        ("loop", "more than 16 links"),
        ("ring", "more than 16 links"),
        ("dangling", "does not exist"),
    ] {
        let error = host.member(&folder, name).unwrap_err();
        assert!(matches!(error, ImageError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    assert!(image::members(&host.reader(&folder), &folder).unwrap().is_empty());
    symlink(&outside, host.path("itself")).unwrap();
    let error = host.read(&object("itself")).unwrap_err().to_string();
    assert!(error.contains("not in the store"), "{error}");
}

#[test]
fn a_fifo_or_socket_in_a_folder_does_not_hang_anyone() {
    let host = Host::new();
    let folder = host.folder("special", &[("good.tar", &docker_archive(&[layer("x")]))]);
    let status = std::process::Command::new("mkfifo").arg(host.path("special").join("fifo.tar")).status();
    assert!(status.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(host.path("special").join("socket.tar")).unwrap();
    let start = Instant::now();
    host.read(&folder).unwrap();
    for (name, expected) in [("fifo", "a FIFO"), ("socket", "a socket")] {
        let error = host.member(&folder, name).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(image::members(&host.reader(&folder), &folder).unwrap(), ["good"]);
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn a_store_path_that_is_not_there_has_vanished() {
    let host = Host::new();
    let gone = object("gone");
    for select in [Selection::Only, Selection::Member("x".into())] {
        let error = image::read(&host.reader(&gone), &gone, &select, &image::Options::default()).unwrap_err();
        assert!(matches!(error, ImageError::Vanished { .. }), "{error}");
    }
    assert!(matches!(image::members(&host.reader(&gone), &gone), Err(ImageError::Vanished { .. })));
    let error = host.recreate(&gone, Digest::of(b""), 0).unwrap_err();
    assert!(matches!(error, ImageError::Vanished { .. }), "{error}");
}

#[test]
fn an_image_that_the_cache_cannot_hold_names_the_setting() {
    let host = Host::with_cache(10_000);
    let archive = gzip(&docker_archive(&[layer(&"x".repeat(20_000))]));
    let error = host.read(&host.file("large", &archive)).unwrap_err();
    assert!(matches!(error, ImageError::Cache(_)), "{error}");
    assert!(error.to_string().contains("CACHE_MAX_BYTES"), "{error}");
    host.assert_cache_is_empty();
}
