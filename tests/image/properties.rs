//! For all images: what comes out is what was put in. For all damage: nothing panics, nothing stays behind.

use super::support::*;
use forge_registry::oci::media_type;
use proptest::prelude::*;

fn layer_texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let text = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..5000),
        (any::<u8>(), 0..400_000usize).prop_map(|(byte, n)| vec![byte; n]),
    ];
    proptest::collection::vec(text, 1..6)
}

fn layers_with(texts: &[Vec<u8>]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| Tar::new().file("file", text).done()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_layer_of_a_docker_archive_comes_out_as_it_was_put_in(
        texts in layer_texts(),
        inner in proptest::collection::vec(0..4usize, 6),
        outer in 0..4usize,
        manifest_first in any::<bool>(),
        dotted in any::<bool>(),
    ) {
        let plain = layers_with(&texts);
        let dot = if dotted { "./" } else { "" };
        let (config_name, config) = config_of(&plain);
        let names: Vec<_> = (0..plain.len()).map(|n| format!("{n}/layer.tar")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let json = manifest_json(&config_name, &names);
        let small = |tar: Tar| tar.file(&format!("{dot}{config_name}"), &config).file(&format!("{dot}manifest.json"), &json);
        let mut tar = Tar::new();
        if manifest_first { tar = small(tar) }
        let stored: Vec<_> = plain.iter().zip(&inner).map(|(layer, n)| COMPRESSIONS[*n].1(layer)).collect();
        for (name, bytes) in names.iter().zip(&stored) {
            tar = tar.file(&format!("{dot}{name}"), bytes);
        }
        if !manifest_first { tar = small(tar) }
        let host = Host::new();
        let object = host.file("image", &COMPRESSIONS[outer].1(&tar.done()));
        let image = host.read(&object).unwrap();
        let expected: Vec<_> = plain.iter().zip(stored).zip(&inner).map(|((plain, stored), n)| match n {
            0 => (stored, "tar".to_owned()),
            1 => (stored, "tar+gzip".to_owned()),
            2 => (stored, "tar+zstd".to_owned()),
            _ => (plain.clone(), "tar".to_owned()),
        }).collect();
        prop_assert_eq!(host.layers(&image), expected);
        for blob in image.blobs.iter().filter(|blob| blob.source == forge_registry::blob::Source::Cache) {
            host.reader.cache.remove(&blob.digest).unwrap();
            host.recreate(&object, blob.digest, blob.size).unwrap();
            host.bytes(blob);
        }
    }

    #[test]
    fn every_layer_of_a_layout_comes_out_as_it_was_put_in(
        texts in layer_texts(),
        inner in proptest::collection::vec(0..3usize, 6),
        outer in 0..5usize,
    ) {
        let types = [media_type::OCI_LAYER_TAR, media_type::OCI_LAYER_GZIP, media_type::OCI_LAYER_ZSTD];
        let layers: Vec<_> = layers_with(&texts).into_iter().zip(&inner)
            .map(|(plain, n)| (plain.clone(), COMPRESSIONS[*n].1(&plain), types[*n])).collect();
        let mut layout = Layout::default();
        let manifest = layout.image("amd64", &layers, false);
        layout.index.push(manifest);
        let host = Host::new();
        let object = match COMPRESSIONS.get(outer) {
            Some((_, compress)) => host.file("image", &compress(&layout.archive())),
            None => layout.folder(&host, "image"),
        };
        let image = host.read(&object).unwrap();
        let found: Vec<_> = host.layers(&image).into_iter().map(|(bytes, _)| bytes).collect();
        prop_assert_eq!(found, layers.into_iter().map(|(_, stored, _)| stored).collect::<Vec<_>>());
    }

    #[test]
    fn damage_never_panics_and_never_leaves_anything_behind(
        texts in layer_texts(),
        outer in 0..4usize,
        inner in 0..4usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        damage_inside in any::<bool>(),
    ) {
        let plain = layers_with(&texts);
        let (config_name, config) = config_of(&plain);
        let names: Vec<_> = (0..plain.len()).map(|n| format!("{n}.tar")).collect();
        let mut tar = Tar::new();
        for (name, layer) in names.iter().zip(&plain) {
            tar = tar.file(name, &COMPRESSIONS[inner].1(layer));
        }
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut bytes =
            tar.file(&config_name, &config).file("manifest.json", &manifest_json(&config_name, &names)).done();
        if !damage_inside { bytes = COMPRESSIONS[outer].1(&bytes) }
        for (index, byte) in &damage {
            let at = index.index(bytes.len());
            bytes[at] = *byte;
        }
        if damage_inside { bytes = COMPRESSIONS[outer].1(&bytes) }
        let host = Host::new();
        match host.read(&host.file("damaged", &bytes)) {
            Err(_) => host.assert_cache_is_empty(),
            // Headers have bytes that nobody looks at.
            Ok(image) => prop_assert_eq!(host.layers(&image).len(), plain.len()),
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), magic in 0..5usize) {
        let magics: [&[u8]; 5] = [b"", &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd], b"\xfd7zXZ\0", &[0x50, 0x2a, 0x4d, 0x18]];
        Host::new().refused(&[magics[magic], &bytes].concat());
    }
}
