//! Archives of the store that are truncated or written to while they are sent. Pages of a mapped file that ends before them
//! are not there any more, and a program that looks at one of these is killed.

use crate::{
    bed::Bed,
    scrape::{LISTEN, comes_to_have},
    support::{Flake, Registry, layers},
    wire::{Download, raw},
};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    thread,
    time::{Duration, UNIX_EPOCH},
};

/// A registry that serves an image with one large layer, which lies in an archive of the store.
struct Site {
    registry: Registry,
    archive: PathBuf,
    original: Vec<u8>,
    path: String,
    _flake: Flake,
    _bed: Bed,
}

/// A plain archive with a layer of text, which takes long to compress as well as can be.
const ARCHIVE: &str = r#"
mkdir files archive
seq 1 4000000 >files/numbers
tar -cf archive/layer.tar files
sum=$(sha256sum archive/layer.tar | cut -d ' ' -f 1)
cd archive
echo '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' >config.json
echo '[{"Config":"config.json","RepoTags":["numbers:1"],"Layers":["layer.tar"]}]' >manifest.json
tar -cf $out *
"#;

impl Site {
    fn new(settings: &[(&str, &str)]) -> Self {
        let flake = Flake::of_scripts(&[("numbers", ARCHIVE)]);
        let bed = Bed::up();
        let registry = bed.registry(&flake, &[&[("TAG_TTL", "1h")], settings].concat());
        let manifest = registry.manifest("packages/numbers", "latest");
        assert_eq!(manifest.status, 200, "{}", manifest.text());
        let archive = bed.store_path("-numbers").unwrap();
        let original = fs::read(&archive).unwrap();
        let path = format!("/v2/packages/numbers/blobs/{}", layers(&manifest).remove(0));
        Self { registry, archive, original, path, _flake: flake, _bed: bed }
    }

    fn truncate(&self) {
        File::options().write(true).open(&self.archive).unwrap().set_len(4096).unwrap();
    }

    /// As it was, and still the same file.
    fn restore(&self) {
        let file = File::options().write(true).open(&self.archive).unwrap();
        file.write_all_at(&self.original, 0).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    }

    /// One byte of the layer is another.
    fn rewrite(&self) {
        let file = File::options().write(true).open(&self.archive).unwrap();
        let place = self.original.windows(8).position(|text| text == b"3999999\n").unwrap();
        file.write_all_at(b"4", place as u64).unwrap();
    }

    fn lives(&self) {
        assert_eq!(self.registry.get("/v2/").status, 200, "{}", self.registry.log());
    }
}

#[test]
fn an_archive_that_is_truncated_while_it_is_encoded_cuts_the_response_and_no_more() {
    // Chunks are encoded as well as can be, so nearly all of the time one of them is being looked at.
    let site = Site::new(&[("ENCODING_MIN_RATE", "0")]);
    for pause in 0..8 {
        let mut download = Download::begin_with(&site.registry, &site.path, "Accept-Encoding: zstd\r\n");
        download.receive(10_000);
        let (status, body) = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100 + 7 * pause));
                site.truncate();
            });
            download.finish()
        });
        assert_eq!(status, 200);
        assert!(!body.ends_with(b"0\r\n\r\n"), "all came");
        let which = site.archive.to_str().unwrap();
        let log = site.registry.log();
        assert!(log.lines().any(|line| line.contains("response cut") && line.contains(which)), "{log}");
        site.lives();
        site.restore();
    }
}

#[test]
fn an_archive_that_is_truncated_while_its_pages_are_sent_is_an_error_of_ours() {
    let site = Site::new(&[LISTEN]);
    let mut download = Download::begin(&site.registry, &site.path);
    // The rest fills what the kernel holds for the client, and waits.
    download.receive(10_000);
    thread::sleep(Duration::from_millis(500));
    site.truncate();
    let (status, body) = download.finish();
    assert_eq!(status, 200);
    assert!(
        body.len() < site.original.len() / 2 && site.original.windows(body.len()).any(|part| part == body)
    );
    site.lives();
    let log = site.registry.log();
    let line = log.lines().find(|line| line.contains("response cut")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("ERROR") && line.contains("has become shorter"), "{line}");
    assert!(
        line.contains("packages/numbers") && line.contains(site.path.rsplit('/').next().unwrap()),
        "{line}"
    );
    let by = |who: &str| format!("http_responses_cut_total{{route=\"blob\",by=\"{who}\"}}");
    comes_to_have(&site.registry, &[(&*by("registry"), 1.0), (&*by("client"), 0.0)]);
    site.restore();
}

#[test]
fn an_archive_that_is_written_to_is_served_no_more() {
    let site = Site::new(&[]);
    let mut download = Download::begin(&site.registry, &site.path);
    download.receive(10_000);
    thread::sleep(Duration::from_millis(500));
    site.rewrite();
    let (status, body) = download.finish();
    assert_eq!(status, 200);
    assert!(body.len() < site.original.len() / 2, "{} bytes came", body.len());
    let log = site.registry.log();
    let line = log.lines().find(|line| line.contains("response cut")).unwrap_or_else(|| panic!("{log}"));
    let which = format!("{}: it is not the file that was hashed", site.archive.display());
    assert!(line.contains(&which), "{line}");

    // The configuration states a digest that these bytes do not have.
    let (status, body) = raw(&site.registry, &site.path);
    let body = String::from_utf8_lossy(&body);
    assert!(status == 422 && body.contains("is not a valid image"), "{status}: {body}");
    site.restore();
    site.registry.pull("packages/numbers", "latest");
}
