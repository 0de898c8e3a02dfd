//! Every byte of a layer, and every range of it.

use crate::{
    support::{Layer, length, reference_layer, style},
    trees::{Scratch, nodes, styles},
};
use forge_registry::{
    blob::{Buffers, Sight},
    encode::{Coding, Encoder, Encoders},
    layer::{Entry, EntryList, Kind, ListWriter, Mark, Recent, StorePaths},
    oci::Digest,
};
use http_body_util::BodyExt;
use proptest::{collection::vec, prelude::*};
use std::{
    fs::{self, File},
    io::Read,
    sync::Arc,
};

pub fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let at = a.iter().zip(b).position(|(a, b)| a != b);
    at.or((a.len() != b.len()).then_some(a.len().min(b.len())))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_is_what_python_writes_and_every_range_is_a_range_of_it(
        nodes in nodes(),
        style in styles(),
        root_mode in prop_oneof![Just(0o755), Just(0o555)],
        ranges in vec((0.0..1.0_f64, 0_u64..300_000), 12),
    ) {
        let scratch = Scratch::new();
        let paths = scratch.plant(&nodes);
        let contents = StorePaths { paths: &paths, root_mode };
        let layer = Layer::make(&style, &contents, scratch.join("list"));
        assert_same(&layer, &reference_layer(&style, &contents), &ranges);
    }
}

/// Compares the whole and ranges, which begin at this part of it.
pub fn assert_same(layer: &Layer, expected: &[u8], ranges: &[(f64, u64)]) {
    let all = layer.range(0..layer.size).unwrap();
    assert_eq!(difference(&all, expected), None);
    assert_eq!(layer.digest, Digest::of(expected));
    let size = layer.size;
    for (start, length) in ranges {
        let start = (start * size as f64) as u64;
        for (start, length) in [(start, *length), (start / 512 * 512, 512), (start, 1), (start, u64::MAX)] {
            let end = start.saturating_add(length);
            let found = layer.range(start..end).unwrap();
            let wanted = &expected[start as usize..end.min(size) as usize];
            assert_eq!(difference(&found, wanted), None, "{start} {length}");
        }
    }
}

#[tokio::test]
async fn responses_that_nobody_takes_hold_no_more_memory_than_they_may_and_keep_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::write(&tree, "to be served ".repeat(300_000)).unwrap();
    let paths = [tree];
    let contents = StorePaths { paths: &paths, root_mode: 0o755 };
    let layer = Layer::make(&style(), &contents, dir.path().join("list"));
    let blob = layer.blob_with(Buffers::for_chunks(2 << 20));
    let whole = blob.body(0..u64::MAX, Sight::Program).collect().await.unwrap().to_bytes();
    let encoders = Arc::new(Encoders::new(1, 0));
    let encoded = || blob.encoded(Encoder::new(Coding::Gzip, encoders.clone(), false));

    let mut held = Vec::new();
    for _ in 0..10 {
        let mut body = blob.body(0..u64::MAX, Sight::Program);
        let taken = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let mut encoded = encoded();
        encoded.frame().await.unwrap().unwrap();
        held.push((taken, body, encoded));
    }
    let lengths: Vec<usize> = held.iter().map(|(taken, ..)| taken.len()).collect();
    assert!(lengths.iter().sum::<usize>() < (2 << 20) + 10 * (16 << 10), "{lengths:?}");

    let mut body = blob.body(0..u64::MAX, Sight::Program);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), whole[..16 << 10], "a short chunk");
    assert!(blob.body(0..u64::MAX, Sight::Program).collect().await.unwrap().to_bytes() == whole);
    let compressed = encoded().collect().await.unwrap().to_bytes();
    let mut decoded = Vec::new();
    flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut decoded).unwrap();
    assert!(decoded == whole);

    drop((held, body));
    let first = blob.body(0..u64::MAX, Sight::Program).frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.len() > 16 << 10, "there are long ones again");
}

#[test]
fn the_entry_list_of_a_hundred_thousand_files_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    let mut writer = ListWriter::new(File::create(&list).unwrap(), style()).unwrap();
    let (mut headers, mut position, mut places) = (Vec::new(), 0, Vec::new());
    for n in 0..100_000_u64 {
        let hash = Digest::of(&n.to_le_bytes()).hex();
        let folder =
            format!("/nix/store/{}-package-1.0/lib/python3.12/site-packages/m{:04}", "0".repeat(32), n / 100);
        let name = format!("{folder}/{hash}.py").into_bytes();
        let kind = Kind::File {
            size: n * 37 % 20_000,
            mark: Mark(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            path: None,
        };
        let entry = Entry { name, mode: 0o444, owner: None, kind };
        headers.clear();
        writer.push(&entry, &mut headers).unwrap();
        if n % 9973 == 0 {
            places.push((position, headers.clone()));
        }
        position += headers.len() as u64 + entry.size().next_multiple_of(512);
    }
    let (size, _) = writer.finish(Digest::of(b"")).unwrap();
    assert!(length(&list) < 16 << 20, "{} bytes", length(&list));
    let list = EntryList::open(File::open(&list).unwrap()).unwrap();
    assert_eq!(list.size(), size);
    for (place, header) in places {
        let mut found = Vec::new();
        list.pieces(place..place + header.len() as u64, &mut Recent::default(), &mut |piece| {
            let forge_registry::layer::Piece::Bytes(bytes) = piece else { panic!("{piece:?}") };
            found.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, header);
    }
}
