//! Sizes that do not fit into a header: 8 GiB and more.

use crate::{
    bytes::difference,
    reference::{go, hex, python},
    support::{Layer, read, style},
    trees::{Scratch, assert_members, members},
};
use forge_registry::{
    budget::Budget,
    layer::{Contents, Entry, Kind, ListWriter, Mark, StorePaths, Style, What, Writer, write_header},
    oci::Digest,
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    ops::Range,
    os::unix::{
        ffi::OsStringExt,
        fs::{FileExt, MetadataExt, symlink},
    },
    path::{Path, PathBuf},
};

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Python's headers of each of these entries.
fn python_headers(style: &Style, entries: &[Value]) -> Vec<Vec<u8>> {
    let (style, entries) = (serde_json::to_string(style).unwrap(), Value::from(entries).to_string());
    let lines = String::from_utf8(python(&["headers".as_ref(), style.as_ref(), entries.as_ref()])).unwrap();
    lines.lines().map(bytes).collect()
}

#[test]
fn headers_of_sizes_that_no_test_could_write_are_pythons_and_gos() {
    for (size, writer) in [0, 511, (1 << 33) - 1, 1 << 33, (1 << 33) + 1, 1 << 40, u64::MAX / 2]
        .into_iter()
        .flat_map(|size| [Writer::Python, Writer::Go].map(|writer| (size, writer)))
    {
        let style = Style { writer, ..style() };
        let entry = Entry {
            name: b"/nix/store/large".to_vec(),
            mode: 0o444,
            owner: None,
            kind: Kind::File { size, mark: Mark(0), path: None },
        };
        let mut found = Vec::new();
        write_header(&mut found, &style, &entry);
        let mut item = json!({ "mode": 0o444, "size": size });
        let expected = match writer {
            Writer::Go => {
                item["name"] = hex(&entry.name).into();
                item["type"] = "file".into();
                go("items", &json!({ "mtime": 1, "owner": style.owner, "items": [item] }))
            }
            _ => {
                item["name"] = "/nix/store/large".into();
                item["type"] = "0".into();
                item["linkname"] = "".into();
                python_headers(&style, &[item]).remove(0)
            }
        };
        assert_eq!(difference(&found, &expected), None, "{size} {writer:?}");
    }
}

/// A layer with the list that `layer::make` would write, but for the digest: to hash 9 GiB takes most of a minute in a
/// debug build.
fn unhashed(style: &Style, contents: &StorePaths<'_>, list: PathBuf) -> Layer {
    let mut writer = ListWriter::new(File::create(&list).unwrap(), style.clone()).unwrap();
    let mut headers = Vec::new();
    for root in contents.roots() {
        writer.root(root, Mark::of(&fs::symlink_metadata(root).unwrap()));
    }
    contents
        .visit(&Budget::default(), &mut |item| {
            let (mode, kind) = match item.what {
                What::OnDisk(found) => {
                    let mode = found.metadata.mode() & 0o7777;
                    let kind = match found.metadata.file_type() {
                        t if t.is_dir() => Kind::Folder,
                        t if t.is_symlink() => {
                            Kind::Link(fs::read_link(found.path).unwrap().into_os_string().into_vec())
                        }
                        _ => Kind::File {
                            size: found.metadata.len(),
                            mark: Mark::of(&found.metadata),
                            path: None,
                        },
                    };
                    (mode, kind)
                }
                _ => (0, Kind::Folder),
            };
            let entry = Entry { name: item.name, mode: item.mode.unwrap_or(mode), owner: None, kind };
            writer.push(&entry, &mut headers).unwrap();
            Ok(())
        })
        .unwrap();
    let digest = Digest::of(b"");
    let (size, _) = writer.finish(digest).unwrap();
    Layer { digest, size, list, failures: Default::default() }
}

/// The whole archive, by Python's headers and the files: where each part begins, and what it is.
struct Expected {
    parts: Vec<(u64, Part)>,
    size: u64,
}

enum Part {
    Bytes(Vec<u8>),
    File(File),
}

impl Expected {
    fn new(style: &Style, contents: &StorePaths<'_>) -> Self {
        let mut expected = Self { parts: Vec::new(), size: 0 };
        let text = |digits: &Value| String::from_utf8(bytes(digits.as_str().unwrap())).unwrap();
        let mut entries = members(style, contents);
        for entry in &mut entries {
            entry["name"] = text(&entry["name"]).into();
            entry["linkname"] = text(&entry["link"]).into();
        }
        for (entry, headers) in entries.iter().zip(python_headers(style, &entries)) {
            expected.bytes(headers);
            if entry["type"] == "0" {
                let size = entry["size"].as_u64().unwrap();
                let file = File::open(entry["name"].as_str().unwrap()).unwrap();
                expected.parts.push((expected.size, Part::File(file)));
                expected.size += size;
                expected.bytes(vec![0; (size.next_multiple_of(512) - size) as usize]);
            }
        }
        let end = (expected.size + 1024).next_multiple_of(10_240) - expected.size;
        expected.bytes(vec![0; end as usize]);
        expected
    }

    fn bytes(&mut self, bytes: Vec<u8>) {
        let length = bytes.len() as u64;
        self.parts.push((self.size, Part::Bytes(bytes)));
        self.size += length;
    }

    fn range(&self, range: Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        let ends = self.parts[1..].iter().map(|(start, _)| *start).chain([self.size]);
        for ((start, part), end) in self.parts.iter().zip(ends) {
            let (from, to) = (range.start.max(*start), range.end.min(end));
            if from < to {
                match part {
                    Part::Bytes(bytes) => {
                        out.extend_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
                    }
                    Part::File(file) => {
                        let mut bytes = vec![0; (to - from) as usize];
                        file.read_exact_at(&mut bytes, from - start).unwrap();
                        out.extend_from_slice(&bytes);
                    }
                }
            }
        }
        out
    }
}

/// A tree with a file of this size between others, with a few bytes in it at these parts of it and at its end.
fn plant(tree: &Path, size: u64, data: &[f64]) {
    fs::create_dir(tree).unwrap();
    fs::write(tree.join("after"), "what comes after it").unwrap();
    fs::write(tree.join("a"), "what comes before it").unwrap();
    symlink("large", tree.join(format!("z{}", "z".repeat(120)))).unwrap();
    let file = File::create(tree.join("aa-large")).unwrap();
    file.set_len(size).unwrap();
    for part in data {
        let start = ((part * size as f64) as u64).min(size - 10);
        file.write_all_at(b"some bytes", start).unwrap();
    }
    file.write_all_at(b"the end", size - 7).unwrap();
}

/// Compares ranges around all borders in the archive, and these, with what they have to be, and has `tarfile` read what is
/// around the file's contents. Gives the length of that file's headers.
fn assert_served(size: u64, data: &[f64], ranges: &[(f64, u64)]) -> u64 {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    plant(&tree, size, data);
    let (style, paths) = (style(), [tree]);
    let contents = StorePaths { paths: &paths, root_mode: 0o755 };
    let layer = unhashed(&style, &contents, scratch.join("list"));
    let expected = Expected::new(&style, &contents);
    assert_eq!(layer.size, expected.size);
    let blob = layer.blob();
    let check = |start: u64, length: u64| {
        let end = start.saturating_add(length).min(expected.size);
        assert!(read(&blob, start..end).unwrap() == expected.range(start..end), "{start} {length}");
    };

    let large = |part: &Part| matches!(part, Part::File(file) if file.metadata().unwrap().len() == size);
    let n = expected.parts.iter().position(|(_, part)| large(part)).unwrap();
    let (headers, file) = (expected.parts[n - 1].0, expected.parts[n].0);
    let inside = data.iter().map(|part| file + (part * size as f64) as u64);
    // Where numbers of 32 bits, signed or not, and of eleven octal digits end: in the archive and in the file.
    let powers = [31, 32, 33].into_iter().flat_map(|power| [1 << power, file + (1 << power)]);
    let borders = expected.parts.iter().map(|(start, _)| *start).chain(inside).chain(powers);
    for border in borders.chain([expected.size]) {
        for distance in [0, 1, 512] {
            for length in [1, 513, 40_000] {
                check(border.saturating_sub(distance), length);
                check((border + distance).min(expected.size), length);
            }
        }
        check(border.saturating_sub(1 << 20), 3 << 20);
    }
    for (start, length) in ranges {
        check((start * expected.size as f64) as u64, *length);
    }
    assert_members(&members(&style, &contents), |range| read(&blob, range).unwrap());
    file - headers
}

#[test]
fn a_sparse_file_beyond_eight_gibibytes_is_served_from_anywhere() {
    let headers = assert_served((9 << 30) + 13, &[0.0, 0.5], &[(0.6, 30 << 20)]);
    assert_eq!(headers, 1536, "a size that does not fit takes an extended header");
    assert_eq!(assert_served((8 << 30) - 1, &[], &[]), 512, "the largest that fits");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn a_file_of_any_size_beyond_eight_gibibytes_is_served_from_anywhere(
        size in 8_u64 << 30..64 << 30,
        data in vec(0.0..1.0_f64, 0..6),
        ranges in vec((0.0..1.0_f64, 0_u64..3_000_000), 20),
    ) {
        assert_served(size, &data, &ranges);
    }
}
