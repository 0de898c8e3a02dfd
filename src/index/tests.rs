use super::*;
use crate::{
    blob::Source,
    image::{Options, Selection},
    nix::{Buildable, StorePath},
};
use std::{collections::HashMap, fs};

fn object(n: u8) -> StorePath {
    StorePath::from_base_name(&format!("{}-image", (n as char).to_string().repeat(32))).unwrap()
}

fn image(n: u8, contents: &[&[u8]]) -> (ImageId, ImageRow, Vec<(Digest, Location)>) {
    let contents: Vec<(Digest, Location)> = contents
        .iter()
        .map(|bytes| {
            let source = Source::Inline(bytes::Bytes::copy_from_slice(bytes));
            (Digest::of(bytes), Location { size: bytes.len() as u64, media_type: None, source })
        })
        .collect();
    let row = ImageRow {
        objects: vec![object(n)],
        selection: Selection::Only,
        options: Options::default(),
        buildables: vec![Buildable::Path(object(n))],
        oci: Digest::of(b"oci"),
        docker: Digest::of(b"docker"),
        tags: vec![],
        contents: contents.iter().map(|(digest, _)| *digest).collect(),
        made_at: 7,
    };
    (ImageId::of(&row.objects, &row.selection, &row.options), row, contents)
}

fn tag_row(image: ImageId) -> TagRow {
    TagRow { image, resolved_at: 7, aliases: vec!["1.0".into()] }
}

fn damage(index: &Index, table: Rows, key: &[u8]) {
    let write = |t: &WriteTransaction| {
        t.open_table(table)?.insert(key, b"damaged".as_slice())?;
        Ok(())
    };
    index.write(write).unwrap();
}

#[test]
fn a_digest_that_two_images_share_outlives_one_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let (repository, latest) = ("a/b".parse().unwrap(), "latest".parse().unwrap());
    let (first, row, contents) = image(b'1', &[b"shared", b"mine"]);
    index.put_image(&first, &row, &contents, None, 1).unwrap();
    let (second, row, contents) = image(b'2', &[b"shared"]);
    index.put_image(&second, &row, &contents, None, 2).unwrap();
    index.put_tags(&repository, &[(latest, tag_row(first))]).unwrap();
    index.put_tags(&repository, &[("old".parse().unwrap(), tag_row(second))]).unwrap();
    let generation = index.generation();
    index.put_tags(&repository, &[("old".parse().unwrap(), tag_row(second))]).unwrap();
    assert_eq!(index.generation(), generation, "nothing new was written");

    let images = |digest: &[u8], repository: &RepositoryName| {
        index
            .locations(repository, &Digest::of(digest))
            .unwrap()
            .into_iter()
            .map(|(id, _)| id)
            .collect::<Vec<_>>()
    };
    assert_eq!(images(b"shared", &repository).len(), 2);
    assert_eq!(images(b"mine", &repository), [first]);
    assert!(images(b"mine", &"a/other".parse().unwrap()).is_empty(), "another repository does not have it");

    index.remove_images(&HashSet::from([first])).unwrap();
    assert_eq!(images(b"shared", &repository), [second]);
    assert!(images(b"mine", &repository).is_empty());
    let tags: Vec<Tag> = index.tags(&repository).unwrap().into_iter().map(|(tag, _)| tag).collect();
    assert_eq!(tags, ["old".parse().unwrap()]);
    assert_eq!(index.usage().unwrap(), [(second, 2)]);
}

#[test]
fn an_image_that_is_written_again_loses_its_former_contents() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let (id, row, contents) = image(b'1', &[b"before"]);
    index.put_image(&id, &row, &contents, None, 1).unwrap();
    let (id, row, contents) = image(b'1', &[b"after"]);
    index.put_image(&id, &row, &contents, None, 1).unwrap();
    assert_eq!(index.location(&Digest::of(b"before"), &id).unwrap(), None);
    assert!(index.location(&Digest::of(b"after"), &id).unwrap().is_some());
}

#[test]
fn store_paths_are_counted_for_the_images_that_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let (first, row, contents) = image(b'1', &[]);
    index.put_image(&first, &row, &contents, None, 1).unwrap();
    let counts = index.object_counts(&HashMap::new()).unwrap();
    assert_eq!(counts, HashMap::from([(first, 1)]));
    let objects = vec![object(b'2'), object(b'3')];
    let second = ImageId::of(&objects, &row.selection, &row.options);
    index.put_image(&second, &ImageRow { objects, ..row }, &contents, None, 2).unwrap();
    let counts = index.object_counts(&counts).unwrap();
    assert_eq!(counts, HashMap::from([(first, 1), (second, 2)]));
    index.remove_images(&HashSet::from([first])).unwrap();
    assert_eq!(index.object_counts(&counts).unwrap(), HashMap::from([(second, 2)]));
}

#[test]
fn names_that_begin_alike_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let (id, row, contents) = image(b'1', &[]);
    index.put_image(&id, &row, &contents, None, 1).unwrap();
    index.put_tags(&"app-x".parse().unwrap(), &[("t".parse().unwrap(), tag_row(id))]).unwrap();
    assert!(!index.knows(&"app".parse().unwrap()).unwrap());
    assert!(index.tags(&"app".parse().unwrap()).unwrap().is_empty());
    assert!(index.knows(&"app-x".parse().unwrap()).unwrap());
    assert_eq!(index.repositories().unwrap(), ["app-x".parse().unwrap()]);
}

#[test]
fn everything_is_there_after_a_reopening_and_a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let (repository, tag) = ("a".parse().unwrap(), "t".parse().unwrap());
    let (id, row, contents) = image(b'1', &[b"x"]);
    {
        let index = open(&path).unwrap().index;
        index.put_image(&id, &row, &contents, None, 1).unwrap();
        index.put_tags(&repository, &[("t".parse().unwrap(), tag_row(id))]).unwrap();
        assert!(matches!(open(&path), Err(IndexError::InUse(_))));
    }
    let opened = open(&path).unwrap();
    assert!(opened.moved_aside.is_none());
    assert_eq!(opened.index.tag(&repository, &tag).unwrap(), Some(tag_row(id)));
    assert_eq!(opened.index.image(&id).unwrap(), Some(row));
}

/// Whatever happens to the file, opening it neither fails nor yields a row that was not written.
#[test]
fn a_damaged_file_is_moved_aside_or_still_right() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.redb");
    let (id, row, contents) = image(b'1', &[b"first", b"second"]);
    open(&good).unwrap().index.put_image(&id, &row, &contents, None, 1).unwrap();
    let bytes = fs::read(&good).unwrap();
    let damage: Vec<Vec<u8>> = (0..200)
        .map(|i| {
            let mut bytes = bytes.clone();
            match i % 4 {
                0 => bytes.truncate(bytes.len() * i / 200),
                1 => bytes[i * 97 % 4096] ^= 1 << (i % 8),
                2 => {
                    // Within what has been written, wherever that is.
                    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
                    bytes[written[i * 7919 % written.len()]] ^= 1 << (i % 8);
                }
                _ => bytes[i * 20..i * 20 + 2000].fill(0xa5),
            }
            bytes
        })
        .collect();
    let mut moved = 0;
    for (i, bytes) in damage.iter().enumerate() {
        let path = dir.path().join(format!("{i}.redb"));
        fs::write(&path, bytes).unwrap();
        let opened = open(&path).unwrap();
        moved += usize::from(opened.moved_aside.is_some());
        if let Ok(Some(found)) = opened.index.image(&id) {
            assert_eq!(found, row, "damage {i}");
        }
        for (digest, location) in &contents {
            if let Ok(Some(found)) = opened.index.location(digest, &id) {
                assert_eq!(&found, location, "damage {i}");
            }
        }
    }
    assert!(moved > 0, "no damage was noticed");
}

#[test]
fn an_index_of_an_older_format_is_moved_aside_and_one_of_a_newer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let state = |format: u64| {
        let index = open(&path).unwrap().index;
        let write = |t: &WriteTransaction| {
            t.open_table(META)?.insert("format", format)?;
            Ok(())
        };
        index.write(write).unwrap();
    };
    state(2);
    let opened = open(&path).unwrap();
    let (aside, reason) = opened.moved_aside.unwrap();
    assert!(aside.exists() && reason.contains("format 2"), "{reason}");
    assert!(opened.index.usage().unwrap().is_empty());
    drop(opened.index);
    fs::remove_file(&aside).unwrap();
    state(FORMAT + 1);
    for _ in 0..2 {
        assert!(matches!(open(&path), Err(IndexError::Newer { found, .. }) if found == FORMAT + 1));
        assert!(matches!(migrate(&path), Ok(())));
    }
    assert!(!aside.exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_and_not_damage() {
    assert!(matches!(open(std::path::Path::new("/proc/index.redb")), Err(IndexError::Io { .. })));
}

#[test]
fn what_one_image_needs_is_found_without_looking_at_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let cached = |contents: &[&[u8]], n: u8| {
        let (id, row, mut contents) = image(n, contents);
        contents.iter_mut().for_each(|(_, location)| location.source = Source::Cache);
        index.put_image(&id, &row, &contents, None, 1).unwrap();
        id
    };
    let (first, _, _) =
        (cached(&[b"shared", b"mine"], b'1'), cached(&[b"shared"], b'2'), cached(&[b"x"], b'3'));
    damage(&index, CONTENTS, &rows::content_key(&Digest::of(b"another"), &first));
    index.remove_images(&HashSet::from([first])).unwrap();
    let blobs = [b"shared".as_slice(), b"mine"].map(|bytes| (Digest::of(bytes), Source::Cache));
    assert_eq!(index.needed_of(&blobs, &HashSet::new()).unwrap().blobs, HashSet::from([blobs[0].0]));
    assert!(index.needed().is_err());
}

#[test]
fn a_row_that_cannot_be_read_keeps_the_files_of_its_digest_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let (first, row, contents) = image(b'1', &[b"cached", b"computed", b"mine"]);
    index.put_image(&first, &row, &contents, None, 1).unwrap();
    let (second, row, contents) = image(b'2', &[b"cached", b"computed"]);
    index.put_image(&second, &row, &contents, None, 1).unwrap();
    let (cached, computed, mine) = (Digest::of(b"cached"), Digest::of(b"computed"), Digest::of(b"mine"));
    for digest in [cached, computed] {
        damage(&index, CONTENTS, &rows::content_key(&digest, &second));
    }
    let list = Digest::of(b"list");
    let blobs = [(cached, Source::Cache), (computed, Source::Virtual { list }), (mine, Source::Cache)];
    let needed = index.needed_of(&blobs, &HashSet::from([first])).unwrap();
    assert_eq!((needed.blobs, needed.lists), (HashSet::from([cached]), HashSet::from([list])));
    let needed = index.needed_of(&blobs, &HashSet::from([first, second])).unwrap();
    assert!(needed.blobs.is_empty() && needed.lists.is_empty(), "both are dropped");
}

#[test]
fn a_tag_that_cannot_be_read_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let repository: RepositoryName = "a/b".parse().unwrap();
    let tags: [Tag; 3] = ["bad", "good", "last"].map(|tag| tag.parse().unwrap());
    let (id, row, contents) = image(b'1', &[]);
    index.put_image(&id, &row, &contents, None, 1).unwrap();
    index.put_tags(&repository, &tags.clone().map(|tag| (tag, tag_row(id)))).unwrap();
    damage(&index, TAGS, &rows::tag_key(&repository, &tags[0]));
    damage(&index, TAGS, b"a/b\0no tag");
    let [_, good, last] = tags;
    assert_eq!(index.tags(&repository).unwrap(), [(good, tag_row(id)), (last, tag_row(id))]);
}

#[test]
fn an_index_that_could_not_be_read_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let index = open(&path).unwrap().index;
    let contents: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n; 2000]).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let (id, row, contents) = image(b'1', &contents);
    index.put_image(&id, &row, &contents, None, 1).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(8192).unwrap();
    let generation = index.generation();
    assert!(index.needed().is_err(), "the file is too short");
    assert_ne!(index.generation(), generation, "another file, for all that is known");
    // Nothing is written in between.
    assert_eq!(index.image(&id).unwrap(), None);
    index.put_image(&id, &row, &contents, None, 1).unwrap();
    assert_eq!(index.image(&id).unwrap(), Some(row));
}

#[test]
fn commits_are_found_by_what_abbreviates_only_one_and_forgotten_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let [a, b] = ["0123456789", "01234567ab"].map(|end| format!("{end}{}", "c".repeat(30)));
    let day = 24 * 3600;
    index.put_commit(&a, 100 * day, 0).unwrap();
    index.put_commit(&b, 101 * day, 0).unwrap();
    assert_eq!(index.commit(&a.to_uppercase()).unwrap().as_ref(), Some(&a));
    assert_eq!(index.commit("012345678").unwrap().as_ref(), Some(&a));
    assert_eq!(index.commit("01234567").unwrap(), None, "which one?");
    assert_eq!(index.commit("0123457").unwrap(), None);
    let generation = index.generation();
    index.put_commit(&b, 101 * day + 60, 0).unwrap();
    assert_eq!(index.generation(), generation, "nothing new was written");
    index.put_commit(&b, 110 * day, 105 * day).unwrap();
    assert_eq!(index.commit("01234567").unwrap().as_ref(), Some(&b), "the other one was too old");
}

#[test]
fn every_write_makes_another_generation_and_no_read_does() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index.redb")).unwrap().index;
    let (repository, tag): (RepositoryName, Tag) = ("a".parse().unwrap(), "t".parse().unwrap());
    let (id, row, contents) = image(b'1', &[b"x"]);
    let writes: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("put_image", &|| index.put_image(&id, &row, &contents, None, 1)),
        ("put_tags", &|| index.put_tags(&repository, &[("t".parse().unwrap(), tag_row(id))])),
        ("touch", &|| index.touch(&HashMap::from([(id, 2)]))),
        ("remove_tag", &|| index.remove_tag(&repository, &tag)),
        ("remove_images", &|| index.remove_images(&HashSet::from([id]))),
    ];
    for (name, write) in writes {
        let before = index.generation();
        index.tag(&repository, &tag).unwrap();
        index.image(&id).unwrap();
        index.locations(&repository, &Digest::of(b"x")).unwrap();
        assert_eq!(index.generation(), before);
        write().unwrap();
        assert_ne!(index.generation(), before, "{name}");
    }
}
