//! Archives that are refused, and in which words. After every refusal the cache is empty.

use super::support::*;
use forge_registry::oci::Digest;
use tar::EntryType;

/// An archive with one layer of this name, and whatever `members` adds.
fn with_layer(name: &str, members: impl Fn(Tar) -> Tar) -> Vec<u8> {
    let (config_name, config) = config_of(&[layer("x")]);
    members(Tar::new())
        .file(&config_name, &config)
        .file("manifest.json", &manifest_json(&config_name, &[name]))
        .done()
}

#[test]
fn layers_that_lead_out_of_the_archive_are_refused() {
    for name in ["../../etc/passwd", "a/../../b"] {
        refused_in_every_compression(&with_layer(name, |tar| tar), &[name, "leads out of the archive"]);
    }
    refused_in_every_compression(&with_layer("/etc/passwd", |tar| tar), &["absolute path"]);
    let link = |kind, target: &'static str| {
        with_layer("a/layer.tar", move |tar| tar.entry(kind, "a/layer.tar", target))
    };
    refused_in_every_compression(
        &link(EntryType::Symlink, "../../etc/passwd"),
        &["../../etc/passwd", "leads out of the archive"],
    );
    refused_in_every_compression(&link(EntryType::Symlink, "/etc/passwd"), &["absolute path"]);
    refused_in_every_compression(&link(EntryType::Link, "../etc/passwd"), &["leads out of the archive"]);
    refused_in_every_compression(
        &link(EntryType::Symlink, "../b/layer.tar"),
        &["\"a/layer.tar\", which it does not contain"],
    );
    refused_in_every_compression(&link(EntryType::Symlink, "layer.tar"), &["more than 16 links"]);
}

#[test]
fn what_is_no_file_is_no_layer() {
    for (kind, expected) in [
        (EntryType::Fifo, "a FIFO"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Directory, "a folder"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::new(b'Z'), "of a type that is not known"),
    ] {
        let archive = with_layer("layer.tar", |tar| tar.entry(kind, "layer.tar", ""));
        refused_in_every_compression(&archive, &["\"layer.tar\"", expected]);
    }
    let record = "22 GNU.sparse.major=1\n";
    let sparse = with_layer("layer.tar", |tar| {
        tar.raw(&header(EntryType::XHeader, record.len() as u64), record.as_bytes())
            .file("layer.tar", &layer("x"))
    });
    refused_in_every_compression(&sparse, &["a sparse file"]);
    let text = with_layer("layer.tar", |tar| tar.file("layer.tar", b"not a tar archive"));
    Host::new().refused(&text);
    refused_in_every_compression(&text, &["layer.tar"]);
}

#[test]
fn two_members_of_one_name_must_be_the_same() {
    let twice = |second: Vec<u8>| {
        with_layer("layer.tar", move |tar| tar.file("layer.tar", &layer("x")).file("./layer.tar", &second))
    };
    refused_in_every_compression(&twice(layer("y")), &["\"layer.tar\"", "more than once"]);
    refused_in_every_compression(&twice(layer(&"longer".repeat(200))), &["more than once"]);
    for (_, compress) in COMPRESSIONS {
        let host = Host::new();
        host.read(&host.file("twice", &compress(&twice(layer("x"))))).unwrap();
    }
}

#[test]
fn sizes_that_lie_are_noticed() {
    for size in [100_000, 1 << 40, (1 << 63) - 1, u64::MAX - 511, u64::MAX] {
        let mut archive = Tar::new().raw(&header(EntryType::Regular, size), b"short").done();
        archive.truncate(1024);
        refused_in_every_compression(&archive, &[]);
    }
    let pax = "29 size=18446744073709551000\n";
    let archive = Tar::new()
        .raw(&header(EntryType::XHeader, pax.len() as u64), pax.as_bytes())
        .file("layer.tar", b"short")
        .done();
    refused_in_every_compression(&archive, &[]);
    let mut negative = header(EntryType::Regular, 0);
    negative.as_old_mut().size = [0xff; 12];
    negative.set_cksum();
    refused_in_every_compression(&Tar::new().raw(&negative, b"").done(), &["negative"]);
}

#[test]
fn extended_headers_have_bounds_and_a_grammar() {
    for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::XGlobalHeader] {
        let archive = Tar::new().raw(&header(kind, 2 << 20), &vec![b'x'; 2 << 20]).done();
        refused_in_every_compression(&archive, &["extended header of 2097152 bytes"]);
    }
    for record in
        ["x", "5", "99 path=x\n", "0 path=x\n", "3 \n", "9 path=xy", "7 path\n", "11 size=-1\n", "7 size="]
    {
        let archive = Tar::new()
            .raw(&header(EntryType::XHeader, record.len() as u64), record.as_bytes())
            .file("x", b"")
            .done();
        refused_in_every_compression(&archive, &["malformed PAX header"]);
    }
}

#[test]
fn truncated_and_extended_files_are_refused_wherever_they_are_cut() {
    let archive = docker_archive(&[layer(&"text".repeat(3000))]);
    for (name, compress) in COMPRESSIONS {
        let whole = compress(&archive);
        for cut in (1..whole.len()).step_by(whole.len() / 40 + 1) {
            // A plain archive that is cut in the zeroes at its end is a whole one.
            if name != "plain" || cut < archive.len() - 1024 {
                Host::new().refused(&whole[..cut]);
            }
        }
        for garbage in [&b"garbage"[..], &[7; 5000]] {
            let said = Host::new().refused(&[whole.as_slice(), garbage].concat());
            assert!(name != "plain" || said.contains("garbage follows"), "{said}");
        }
    }
    let garbage_inside = [archive.as_slice(), b"garbage"].concat();
    refused_in_every_compression(&garbage_inside, &["garbage follows the end of the archive"]);
}

#[test]
fn a_decompression_bomb_is_defused_early() {
    // A member that nobody needs, and an archive that goes on for ever.
    let start = Tar::new().raw(&header(EntryType::Regular, 1 << 40), b"").done();
    let zeroes = vec![0; 1 << 20];
    for (name, compress) in &COMPRESSIONS[1..] {
        let mut host = Host::new();
        let mut bomb = compress(&[&start[..512], b"x"].concat());
        let more = compress(&zeroes);
        if *name == "gzip" {
            // Without optimisation this decoder is too slow for the real limit.
            (host.reader.limits.ratio_grace, host.reader.limits.max_compression_ratio) = (1 << 20, 100);
        }
        for _ in 0..70 {
            bomb.extend(&more);
        }
        let said = host.refused(&bomb);
        assert!(said.contains("MAX_COMPRESSION_RATIO"), "{name}: {said}");
    }
    let mut host = Host::new();
    host.reader.limits.reading.unpacked = 1 << 20;
    let archive = docker_archive(&[layer(&"x".repeat(2 << 20))]);
    for compressed in [gzip(&archive), zstd(&archive), xz(&archive)] {
        let said = host.refused(&compressed);
        assert!(said.contains("MAX_IMAGE_BYTES"), "{said}");
    }
    // One layer of a plain archive may be a bomb, too.
    let plain = layer(&"x".repeat(2 << 20));
    let (config_name, config) = config_of(std::slice::from_ref(&plain));
    for compressed in [gzip(&plain), zstd(&plain), xz(&plain)] {
        let archive = Tar::new()
            .file("l.tar", &compressed)
            .file(&config_name, &config)
            .file("manifest.json", &manifest_json(&config_name, &["l.tar"]))
            .done();
        let said = host.refused(&archive);
        assert!(said.contains("MAX_IMAGE_BYTES"), "{said}");
    }
}

#[test]
fn too_many_layers_or_members_are_refused() {
    let names: Vec<_> = (0..10_000).map(|n| format!("{n}.tar")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    // The smallest archive that there is.
    let bytes = vec![0; 512];
    let (config_name, config) = config_of(&vec![bytes.clone(); 10_000]);
    let archive = names
        .iter()
        .fold(Tar::new(), |tar, name| tar.file(name, &bytes))
        .file(&config_name, &config)
        .file("manifest.json", &manifest_json(&config_name, &names))
        .done();
    let said = Host::new().refused(&archive);
    assert!(said.contains("more than 500 layers"), "{said}");
    let said = Host::new().refused(&gzip(&archive));
    assert!(said.contains("more than 2000 layers"), "{said}");
    let mut host = Host::new();
    host.reader.limits.max_members = 5_000;
    for compress in [same, gzip] {
        let said = host.refused(&compress(&archive));
        assert!(
            said.contains("more than") && (said.contains("members") || said.contains("layers")),
            "{said}"
        );
    }
}

#[test]
fn an_incomplete_image_names_what_is_missing() {
    let (config_name, config) = config_of(&[layer("x")]);
    let no_config =
        Tar::new().file("l.tar", &layer("x")).file("manifest.json", &manifest_json("c.json", &["l.tar"]));
    refused_in_every_compression(
        &no_config.done(),
        &["manifest.json refers to \"c.json\"", "does not contain"],
    );
    let no_layer = Tar::new()
        .file(&config_name, &config)
        .file("manifest.json", &manifest_json(&config_name, &["gone/layer.tar"]));
    refused_in_every_compression(&no_layer.done(), &["\"gone/layer.tar\"", "does not contain"]);
}

#[test]
fn a_configuration_that_does_not_match_is_refused() {
    let bytes = layer("x");
    let archive = |config_name: &str, config: &[u8]| {
        Tar::new()
            .file("l.tar", &bytes)
            .file(config_name, config)
            .file("manifest.json", &manifest_json(config_name, &["l.tar"]))
            .done()
    };
    let good = config(&[Digest::of(&bytes)]);
    let name = format!("{}.json", Digest::of(b"else").hex());
    let digest = Digest::of(&good).to_string();
    refused_in_every_compression(&archive(&name, &good), &[&name, &digest, "not what its name says"]);
    let (found, stated) = (Digest::of(&bytes).to_string(), Digest::of(b"else").to_string());
    refused_in_every_compression(
        &archive("c.json", &config(&[Digest::of(b"else")])),
        &["\"l.tar\"", &found, &stated],
    );
    refused_in_every_compression(&archive("c.json", &config(&[])), &["1 layers", "0 diff IDs"]);
    for (bytes, expected) in [
        (&b"{}"[..], "architecture"),
        (b"{\"architecture\":\"amd64\",\"rootfs\":{}}", "os"),
        (b"{\"architecture\":7}", "not an image configuration"),
        (b"[]", "not an image configuration"),
        (b"{\"a", "not an image configuration"),
    ] {
        refused_in_every_compression(&archive("c.json", bytes), &["\"c.json\"", expected]);
    }
    let damaged = &gzip(&bytes)[..60];
    let archive = Tar::new()
        .file("l.tar", damaged)
        .file("c.json", &good)
        .file("manifest.json", &manifest_json("c.json", &["l.tar"]))
        .done();
    refused_in_every_compression(&archive, &["\"l.tar\"", "cannot be unpacked"]);
}

#[test]
fn a_manifest_of_the_wrong_shape_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let hidden = format!("[{{\"Config\":\"c\",\"x\":{deep}}}]");
    for manifest in ["{}", "[7]", "[{\"Config\":7}]", "[{\"Layers\":[]}]", "[", "{\"é", &deep] {
        let archive = Tar::new().file("manifest.json", manifest.as_bytes()).done();
        refused_in_every_compression(&archive, &["manifest.json is not a list of images"]);
    }
    let archive = Tar::new().file("manifest.json", hidden.as_bytes()).done();
    refused_in_every_compression(&archive, &["\"c\", which it does not contain"]);
    let archive = Tar::new().file("manifest.json", b"[]").done();
    refused_in_every_compression(&archive, &["lists no image"]);
    let archive = Tar::new().file("manifest.json", &vec![b'['; 5 << 20]).done();
    refused_in_every_compression(&archive, &["manifest.json", "4194304 are allowed"]);
    let two =
        br#"[{"Config":"a","RepoTags":["web:1"]},{"Config":"b","RepoTags":["db:1","db:2"]},{"Config":"c"}]"#;
    refused_in_every_compression(
        &Tar::new().file("manifest.json", two).done(),
        &["3 images", "web:1", "db:1 and db:2", "untagged"],
    );
}
