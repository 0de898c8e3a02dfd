//! What hostile images make the registry allocate: never more than the budget of a reading and buffers of a fixed size,
//! whichever format they are. An allocator that counts says so, so this is one test.

#![allow(unsafe_code)]

#[allow(dead_code)]
#[path = "../image/support.rs"]
mod support;

use forge_registry::{
    image::{self, LimitExceeded, Options, Package, Selection},
    nix::StorePath,
    oci::{Digest, Platform},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use support::{Host, Tar, config_of, gzip, header, layer, manifest_json, same, zstd};

const MIB: usize = 1 << 20;
/// Buffers, threads' channels, and a document that is looked at before it is known for an image's.
const FIXED: usize = 24 * MIB;

struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: all is left to the system's allocator; only lengths are added up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // At worst both are there for a moment.
        add(new);
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(ptr, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is said of an object that is read with so much memory, after which that much more was never in use.
fn read(mut host: Host, memory: usize, object: &StorePath) -> Result<(), String> {
    host.reader.limits.reading.memory = memory as u64;
    let reader = host.reader(object);
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = image::read(&reader, object, &Selection::Only, &Options::default());
    let peak = PEAK.load(Relaxed) - before;
    let said = result.map(drop).map_err(|error| error.to_string());
    assert!(peak <= memory + FIXED, "{peak} bytes for a budget of {memory}: {said:?}");
    println!("{} of {} MiB: {}", peak / MIB, memory / MIB, said.as_ref().err().map_or("read", |said| said));
    said
}

/// Checks that an object does not fit into its budget, which is the error.
fn exceeds(host: Host, memory: usize, object: &StorePath) {
    let said = read(host, memory, object).unwrap_err();
    assert!(said.contains("MAX_READING_MEMORY") && said.len() < 1000, "{said}");
}

/// As much of this as fits, with commas in between.
fn list(item: &str, bytes: usize) -> String {
    vec![item; bytes / (item.len() + 1)].join(",")
}

/// An archive that has this as its configuration.
fn with_config(config: &[u8]) -> Vec<u8> {
    let name = format!("{}.json", Digest::of(config).hex());
    Tar::new().file(&name, config).file("manifest.json", &manifest_json(&name, &[])).done()
}

fn archives() {
    // Links to names of a length that no file can have.
    let mut links = Tar::new();
    for _ in 0..400 {
        let path = "n".repeat(200_000);
        let record = format!("200017 linkpath={path}\n");
        links = links.raw(&header(tar::EntryType::XHeader, record.len() as u64), record.as_bytes());
        links = links.entry(tar::EntryType::Symlink, "link", "x");
    }
    let config =
        format!(r#"{{"architecture":"","os":"","rootfs":{{"diff_ids":[]}},"x":[{}]}}"#, list("[0]", 7 * MIB));
    let items = format!("[{}]", list(r#"{"Config":""}"#, 4 * MIB - 100));
    for (name, archive, memory) in [
        ("links", links.done(), 32 * MIB),
        ("configuration", with_config(config.as_bytes()), 64 * MIB),
        ("manifest", Tar::new().file("manifest.json", items.as_bytes()).done(), 64 * MIB),
    ] {
        for compress in [same, gzip] {
            println!("{name}");
            let mut host = Host::new();
            host.reader.limits.max_compression_ratio = 1_000_000;
            let object = host.file("archive", &compress(&archive));
            exceeds(host, memory, &object);
        }
    }
    // A decoder that does not fit.
    let (config_name, config) = config_of(&[layer("x")]);
    let archive = Tar::new().file(&config_name, &config).done();
    for compress in [zstd, support::xz] {
        let host = Host::new();
        let object = host.file("archive", &compress(&archive));
        exceeds(host, 100 * MIB, &object);
    }
}

fn layouts() {
    let descriptor = r#"{"mediaType":"","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1,"annotations":{"":""}}"#;
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, list(descriptor, 4 * MIB - 100));
    let host = Host::new();
    let object =
        host.folder("layout", &[("index.json", index.as_bytes()), ("oci-layout", b"{}"), ("blobs/", b"")]);
    exceeds(host, 32 * MIB, &object);
    let host = Host::new();
    let object =
        host.folder("layout", &[("index.json", index.as_bytes()), ("oci-layout", b"{}"), ("blobs/", b"")]);
    // As much as is needed.
    let said = read(host, 512 * MIB, &object).unwrap_err();
    assert!(said.contains("no manifest or index of a known type"), "{said}");
}

fn conf(host: &Host, config: &str) -> StorePath {
    let conf = format!(
        r#"{{"architecture":"amd64","created":"now","store_dir":{:?},"store_layers":[],"config":{config}}}"#,
        host.store.as_path()
    );
    host.file("conf.json", conf.as_bytes())
}

fn streamed() {
    let costly = ["[0]", "0", "\"\"", r#"{"":0}"#, r#"{"a":"b"}"#, "[[[0]]]", "[{},[]]"];
    for item in costly {
        let host = Host::new();
        let object = conf(&host, &format!("[{}]", list(item, 7 * MIB)));
        exceeds(host, 128 * MIB, &object);
        // The most of it that fits needs no more.
        let host = Host::new();
        let values = item.matches(['[', '{', ',']).count() + 1;
        let object = conf(
            &host,
            &format!(
                "[{}]",
                list(item, (120 * MIB / (256 * values + 8 * item.len() + 8)) * (item.len() + 1))
            ),
        );
        let _ = read(host, 128 * MIB, &object);
    }
    // Short, but not with the white space of Python's `indent=4`.
    let host = Host::new();
    let object = conf(&host, &format!("{}{}{}", "[".repeat(120), list("0", MIB), "]".repeat(120)));
    let said = read(host, 512 * MIB, &object).unwrap_err();
    assert!(said.contains("more than 8388608 bytes of configuration"), "{said}");
}

fn nix2container() {
    let digest = Digest::of(b"");
    let image = |host: &Host, config: &str, paths: &str| {
        let layer = format!(r#"{{"digest":"{digest}","diff_ids":"{digest}","paths":[{paths}]}}"#);
        let json = format!(r#"{{"version":1,"arch":"","image-config":{config},"layers":[{layer}]}}"#);
        host.file("image.json", json.as_bytes())
    };
    let tree = |host: &Host, perms: &str| {
        host.folder("one", &[("a", b"")]);
        format!(r#"{{"path":{:?},"options":{{"perms":[{perms}]}}}}"#, host.path("one"))
    };
    let env = format!(r#"{{"Env":[{}]}}"#, list("\"\"", 7 * MIB));
    for (config, perms) in [("{}", list("{}", 7 * MIB)), (&env, String::new())] {
        let host = Host::new();
        let object = image(&host, config, &tree(&host, &perms));
        exceeds(host, 128 * MIB, &object);
    }
    let host = Host::new();
    let object = image(&host, "{}", &list(r#"{"path":""}"#, 7 * MIB));
    exceeds(host, 128 * MIB, &object);
    // Expressions that are short and compile to much.
    let perm = |n: usize| format!(r#"{{"regex":"(((((((((a)))))))){{100}}){{10}}x{n}","mode":"0755"}}"#);
    let perms: Vec<String> = (0..10_000).map(perm).collect();
    let host = Host::new();
    let object = image(&host, "{}", &tree(&host, &perms.join(",")));
    let said = read(host, 128 * MIB, &object).unwrap_err();
    assert!(said.contains("its expressions take more than"), "{said}");
    let host = Host::new();
    let object = image(&host, "{}", &tree(&host, &perms.join(",")));
    exceeds(host, 24 * MIB, &object);
    // Names of a layer.
    let host = Host::new();
    let folder = host.path("one");
    fs::create_dir(&folder).unwrap();
    for n in 0..20_000 {
        fs::write(folder.join(format!("{n:0>200}")), "").unwrap();
    }
    let object = image(&host, "{}", &format!(r#"{{"path":{folder:?}}}"#));
    exceeds(host, 4 * MIB, &object);
}

fn packages() {
    let mut host = Host::new();
    let folder = host.path("package").join("share");
    fs::create_dir_all(&folder).unwrap();
    for n in 0..20_000 {
        fs::write(folder.join(format!("{n:0>200}")), "").unwrap();
    }
    host.reader.limits.reading.memory = 8 << 20;
    let object = support::object("package");
    let platform =
        Platform { architecture: "amd64".into(), os: "linux".into(), os_version: None, variant: None };
    let package = Package { count: NonZeroUsize::MIN, platform, main_program: None, settings: None };
    let layering = vec![vec![object.clone()]];
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let reader = host.reader(&object);
    let result =
        image::of_packages(&reader, std::slice::from_ref(&object), &package, layering, &Options::default());
    let peak = PEAK.load(Relaxed) - before;
    assert!(peak <= (8 << 20) + FIXED, "{peak} bytes");
    let error = result.unwrap_err();
    assert!(
        matches!(&error, image::ImageError::LimitExceeded { exceeded: LimitExceeded::Budget(_), .. }),
        "{error}"
    );
}

#[test]
fn no_image_takes_more_memory_than_a_reading_may() {
    archives();
    layouts();
    streamed();
    nix2container();
    packages();
}
