//! How images are read: in memory that does not depend on their size, and by several threads.

use crate::support::{Flake, Registry};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

const MIB: u64 = 1 << 20;

/// Makes `archive.tar`, a docker-archive with one layer of `$size` MiB of zeroes.
const ARCHIVE: &str = r#"
    mkdir layer; truncate -s "${size}M" layer/zeroes
    tar -C layer -cf layer.tar zeroes; rm -r layer
    id=$(sha256sum layer.tar); id=${id%% *}
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $id >config.json
    printf '[{"Config":"config.json","RepoTags":["zeroes:%s"],"Layers":["layer.tar"]}]' "$size" >manifest.json
    tar -cf archive.tar manifest.json config.json layer.tar; rm layer.tar
"#;

const GZIP: &str = "gzip -c archive.tar >$out";

/// busybox has no zstd. Behind the first 16 KiB the archive is nothing but zeroes, for which RFC 8878 has a block of four
/// bytes.
const ZSTD: &str = r#"
    size=$(stat -c %s archive.tar); left=$((size - 16384))
    little() { printf "\\$(printf %03o $(($1 & 255)))\\$(printf %03o $(($1 >> 8 & 255)))\\$(printf %03o $(($1 >> 16 & 255)))"; }
    {
        printf '\050\265\057\375\000\070'
        little $((16384 << 3)); head -c 16384 archive.tar
        while [ $left -gt 131072 ]; do printf '\002\000\020\000'; left=$((left - 131072)); done
        little $((left << 3 | 3)); printf '\000'
    } >$out
"#;

/// The most anonymous memory that a fresh registry has while it pulls `name`.
fn peak(flake: &Flake, name: &str) -> u64 {
    let registry = Registry::start(flake, &[("MAX_COMPRESSION_RATIO", "1000000"), ("PULL_WAIT", "1h")]);
    let status = format!("/proc/{}/status", registry.pid());
    let anonymous = || {
        let status = fs::read_to_string(&status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let peak = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(anonymous());
                thread::sleep(std::time::Duration::from_millis(2));
            }
            peak
        });
        let answer = registry.manifest(name, "latest");
        done.store(true, Ordering::Relaxed);
        assert_eq!(answer.status, 200, "{}", answer.text());
        peak.join().unwrap()
    })
}

#[test]
fn memory_does_not_grow_with_the_size_of_a_compressed_archive() {
    let sizes = [("gzip", GZIP, 8, 72), ("zstd", ZSTD, 8, 136)];
    let mut scripts = Vec::new();
    for (name, compress, small, large) in sizes {
        for size in [small, large] {
            scripts.push((format!("{name}-{size}"), format!("size={size}\n{ARCHIVE}\n{compress}")));
        }
    }
    let scripts: Vec<_> = scripts.iter().map(|(name, script)| (name.as_str(), script.as_str())).collect();
    let flake = Flake::of_scripts(&scripts);
    for (name, _, small, large) in sizes {
        let [of_small, of_large] = [small, large].map(|size| peak(&flake, &format!("{name}-{size}")));
        println!("{name}: {of_small} bytes for {small} MiB, {of_large} for {large} MiB");
        assert!(
            of_large < of_small + 8 * MIB,
            "{name}: {of_small} bytes for {small} MiB, {of_large} for {large} MiB"
        );
    }
}

#[test]
fn several_layers_are_hashed_at_a_time() {
    // Two layers of a size, of which no thread can have done one before the other has been looked for.
    let script = r#"
        for n in 1 2; do
            mkdir $n; truncate -s 64M $n/zeroes; echo $n >$n/number
            tar -C $n -cf $n.tar number zeroes
            eval "id$n=$(sha256sum $n.tar | cut -d' ' -f1)"
        done
        printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' $id1 $id2 >config.json
        printf '[{"Config":"config.json","RepoTags":["two:latest"],"Layers":["1.tar","2.tar"]}]' >manifest.json
        tar -cf $out manifest.json config.json 1.tar 2.tar
    "#;
    let flake = Flake::of_scripts(&[("two", script)]);
    let registry = Registry::start(&flake, &[("PULL_WAIT", "1h")]);
    let tasks = format!("/proc/{}/task", registry.pid());
    let hashing = || {
        let names = fs::read_dir(&tasks).unwrap().filter_map(|task| {
            // A thread may be gone by now.
            fs::read_to_string(task.unwrap().path().join("comm")).ok()
        });
        names.filter(|name| name.trim() == "hash").count()
    };
    let done = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(hashing());
                thread::sleep(std::time::Duration::from_millis(1));
            }
            most
        });
        assert_eq!(registry.manifest("two", "latest").status, 200, "{}", registry.log());
        done.store(true, Ordering::Relaxed);
        most.join().unwrap()
    });
    let processors = thread::available_parallelism().unwrap().get();
    assert_eq!(most, processors.min(2) - 1, "threads beside the one that waits for them");
}
