//! Store paths that change between hashing and serving: mounted over, replaced, written to, truncated. No byte of what is
//! there now may come under the digest of what was there, unless the response is seen to have failed.

use crate::{
    bed::Bed,
    clients::root,
    support::{Flake, Registry, layers, sha256},
    wire::{Download, raw},
};
use std::{
    fs::{self, File, Permissions},
    io::Read,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// More than fits on the way to a client that does not read: the buffers of both sockets, and what is sent next.
pub const FILLER: u32 = 12_000_000;

/// A registry that serves an image of one layer.
///
/// In the layer are, in this order: `a-small`, which is copied into responses; `b-large`, which is mapped; `c-filler`, which
/// cannot be compressed;
/// `d-small` and `e-large`.
struct Site {
    registry: Registry,
    _flake: Flake,
    bed: Bed,
    /// What the layer is.
    layer: Vec<u8>,
    digest: String,
}

impl Site {
    /// With so many bytes of filler.
    fn new(filler: u32) -> Self {
        let flake = Flake::new("");
        flake.write_text(&format!(
            r#"{{ outputs = _: let
                busybox = import <examples/busybox.nix>;
                run = name: script: derivation {{
                  inherit name;
                  system = "x86_64-linux";
                  builder = "${{busybox}}/busybox";
                  args = [ "sh" "-euc" "mkdir c; ${{busybox}}/busybox --install -s $PWD/c; PATH=$PWD/c; ${{script}}" ];
                }};
                tree = run "tree" ''
                  mkdir -p $out/data; cd $out/data
                  yes a | head -c 1000 >a-small
                  yes b | head -c 300000 >b-large
                  head -c {filler} /dev/urandom >c-filler
                  yes d | head -c 1000 >d-small
                  yes e | head -c 300000 >e-large
                '';
                image = run "tree-conf.json" "echo '${{builtins.toJSON {{
                  architecture = "amd64";
                  config = {{ }};
                  created = "1970-01-01T00:00:01+00:00";
                  store_dir = builtins.storeDir;
                  store_layers = [ [ "${{tree}}" ] ];
                }}}}' >$out";
              in {{ packages.x86_64-linux.tree = {{ type = "derivation"; inherit image; }}; }}; }}"#,
        ));
        let bed = Bed::up();
        let registry = bed.registry(&flake, &[("TAG_TTL", "1h"), ("FAILURE_TTL", "0")]);
        let digest = layers(&registry.manifest("tree", "latest")).remove(0);
        let layer = registry.blob("tree", &digest).body;
        assert_eq!(sha256(&layer), digest);
        Self { registry, _flake: flake, bed, layer, digest }
    }

    fn tree(&self) -> PathBuf {
        self.bed.store_path("-tree").unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.tree().join("data").join(name)
    }

    fn path(&self) -> String {
        format!("/v2/tree/blobs/{}", self.digest)
    }

    /// Everything is as it was, so it is served: at once by a registry that knows nothing of what there was meanwhile.
    fn is_served_anew(&mut self) {
        self.registry.kill();
        fs::remove_dir_all(&self.registry.state).unwrap();
        self.registry.run();
        assert_eq!(layers(&self.registry.manifest("tree", "latest")), [&*self.digest]);
        assert!(raw(&self.registry, &self.path()) == (200, self.layer.clone()));
    }

    /// The change has been seen: the digest is not there any more, and with the image that there is now all is well.
    fn is_gone(&self, case: &str) {
        let gone = |status| matches!(status, 404 | 422);
        let (status, body) = raw(&self.registry, &self.path());
        assert!(gone(status), "{case}: {status}, {} bytes", body.len());
        let manifest = self.registry.manifest("tree", "latest");
        if manifest.status == 200 {
            assert_ne!(layers(&manifest), [&*self.digest], "{case}");
            self.registry.pull("tree", "latest");
        } else {
            assert!(gone(manifest.status), "{case}: {}", manifest.text());
        }
    }

    fn cuts(&self) -> usize {
        let log = self.registry.log();
        let cuts: Vec<&str> = log.lines().filter(|line| line.contains("a response was cut")).collect();
        assert!(cuts.iter().all(|line| line.contains("-tree/data/")), "which file it was: {cuts:?}");
        cuts.len()
    }
}

/// Something else in the place of a file or folder, for as long as this lives.
pub struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    pub fn over(target: &'a Path, source: &Path) -> Self {
        let status = root("mount").arg("--bind").args([source, target]).status().unwrap();
        assert!(status.success());
        Self(target)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let status = root("umount").arg("--lazy").arg(self.0).status().unwrap();
        assert!(status.success() || std::thread::panicking());
    }
}

/// What it is called, and what is done to a file.
type Change = (&'static str, fn(&Path));

const CHANGES: [Change; 7] = [
    ("removed", |file| fs::remove_file(file).unwrap()),
    ("replaced", |file| replace(file, |new| fs::write(new, vec![b'X'; 300_000]).unwrap())),
    ("replaced by a link", |file| replace(file, |new| symlink("/etc/passwd", new).unwrap())),
    ("replaced by a FIFO", |file| {
        replace(file, |new| assert!(Command::new("mkfifo").arg(new).status().unwrap().success()));
    }),
    ("replaced by a folder", |file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }),
    ("truncated", |file| writable(file).set_len(10).unwrap()),
    ("written to", |file| {
        let end = fs::metadata(file).unwrap().len() - 4;
        writable(file).write_all_at(b"else", end).unwrap();
    }),
];

fn replace(file: &Path, make: impl FnOnce(&Path)) {
    let new = file.with_extension("new");
    make(&new);
    fs::rename(new, file).unwrap();
}

fn writable(file: &Path) -> File {
    File::options().write(true).open(file).unwrap()
}

/// Puts the file back when that is done, whatever it is by then.
fn restored(file: &Path, after: impl FnOnce()) {
    let original = fs::read(file).unwrap();
    after();
    let _ = fs::remove_dir(file);
    replace(file, |new| {
        fs::write(new, original).unwrap();
        fs::set_permissions(new, Permissions::from_mode(0o444)).unwrap();
    });
}

#[test]
fn a_file_that_changed_after_it_was_hashed_cuts_the_response_before_its_first_byte() {
    let mut site = Site::new(1000);
    for name in ["a-small", "b-large"] {
        for (what, change) in CHANGES {
            let case = format!("{name} {what}");
            site.is_served_anew();
            let cuts = site.cuts();
            restored(&site.file(name), || {
                change(&site.file(name));
                let (_, body) = raw(&site.registry, &site.path());
                assert!(body.len() < site.layer.len() && site.layer.starts_with(&body), "{case}");
                assert_eq!(site.cuts(), cuts + 1, "{case}: {}", site.registry.log());
                site.is_gone(&case);
            });
        }
    }
    site.is_served_anew();
}

#[test]
fn a_file_that_changes_while_the_layer_is_sent_slowly_cuts_the_response() {
    let mut site = Site::new(FILLER);
    for (name, changes) in [
        // Being sent at that time.
        ("c-filler", ["replaced", "truncated", "written to"]),
        // Yet to come.
        ("d-small", ["removed", "replaced by a FIFO", "written to"]),
        ("e-large", ["replaced by a link", "replaced by a folder", "truncated"]),
    ] {
        for (what, change) in CHANGES.into_iter().filter(|(what, _)| changes.contains(what)) {
            let case = format!("{name} {what}");
            site.is_served_anew();
            let cuts = site.cuts();
            restored(&site.file(name), || {
                let mut download = Download::begin(&site.registry, &site.path());
                download.receive(400_000);
                change(&site.file(name));
                let (status, body) = download.finish();
                assert_eq!(status, 200, "{case}");
                if case == "c-filler replaced" {
                    // The file that is open is still the one that was hashed.
                    assert!(body == site.layer, "{case}: {} bytes", body.len());
                } else {
                    assert!(body.len() < site.layer.len(), "{case}: all came");
                    assert_eq!(site.cuts(), cuts + 1, "{case}: {}", site.registry.log());
                }
            });
        }
    }
}

#[test]
fn what_is_mounted_over_a_file_or_a_store_path_is_never_served_in_its_place() {
    let mut site = Site::new(FILLER);
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other");
    fs::write(&other, vec![b'X'; 300_000]).unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir_all(folder.join("data")).unwrap();
    fs::copy(&other, folder.join("data/a-small")).unwrap();
    let tree = site.tree();
    let copy = dir.path().join("copy");
    assert!(Command::new("cp").arg("-a").args([&tree, &copy]).status().unwrap().success());

    for name in ["a-small", "b-large"] {
        site.is_served_anew();
        let (file, cuts) = (site.file(name), site.cuts());
        let mount = Mount::over(&file, &other);
        let (_, body) = raw(&site.registry, &site.path());
        assert!(body.len() < site.layer.len() && site.layer.starts_with(&body), "{name}");
        assert_eq!(site.cuts(), cuts + 1, "{name}: {}", site.registry.log());
        site.is_gone(name);
        drop(mount);
        site.is_served_anew();
    }

    // Over the store path itself, which is looked at before a response begins; so nothing is cut.
    let cuts = site.cuts();
    let mount = Mount::over(&tree, &folder);
    site.is_gone("the store path");
    drop(mount);
    site.is_served_anew();
    // A copy is as good as the original.
    let mount = Mount::over(&tree, &copy);
    assert!(raw(&site.registry, &site.path()) == (200, site.layer.clone()));
    drop(mount);
    site.is_served_anew();
    assert_eq!(site.cuts(), cuts);

    // In the middle of a response.
    for name in ["d-small", "e-large"] {
        site.is_served_anew();
        let (file, cuts) = (site.file(name), site.cuts());
        let mut download = Download::begin(&site.registry, &site.path());
        download.receive(400_000);
        let mount = Mount::over(&file, &other);
        let (_, body) = download.finish();
        assert!(body.len() < site.layer.len() && site.layer.starts_with(&body), "{name}");
        assert_eq!(site.cuts(), cuts + 1, "{name}: {}", site.registry.log());
        site.is_gone(name);
        drop(mount);
    }
    site.is_served_anew();
}

/// The files that are yet to come, each with a change. What was cut is found in the log, with the file.
fn changes_while_it_is_sent(site: &mut Site, response: impl Fn(&Site, &dyn Fn())) {
    for (name, what) in
        [("d-small", "removed"), ("d-small", "replaced"), ("e-large", "replaced"), ("e-large", "written to")]
    {
        site.is_served_anew();
        let cuts = site.cuts();
        let (_, change) = CHANGES.into_iter().find(|(called, _)| *called == what).unwrap();
        let file = site.file(name);
        restored(&file, || {
            response(site, &|| change(&file));
            assert_eq!(site.cuts(), cuts + 1, "{name} {what}: {}", site.registry.log());
            let log = site.registry.log();
            let cut = log.lines().rfind(|line| line.contains("a response was cut")).unwrap();
            assert!(cut.contains(file.to_str().unwrap()), "{name} {what}: {cut}");
        });
    }
    site.is_served_anew();
}

#[test]
fn a_file_that_changes_while_the_layer_is_sent_over_http_2_resets_the_stream() {
    let mut site = Site::new(FILLER);
    changes_while_it_is_sent(&mut site, |site, change| {
        let mut curl = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--no-buffer", "--http2-prior-knowledge"])
            .args(["--write-out", "%{stderr}HTTP/%{http_version}"])
            .arg(format!("http://{}{}", site.registry.address, site.path()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut body = vec![0; 400_000];
        let mut stdout = curl.stdout.take().unwrap();
        stdout.read_exact(&mut body).unwrap();
        change();
        stdout.read_to_end(&mut body).unwrap();
        let outcome = curl.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&outcome.stderr);
        // curl's number for a stream that was reset.
        assert_eq!(outcome.status.code(), Some(92), "{said}");
        assert!(said.contains("HTTP/2"), "{said}");
        assert!(body.len() < site.layer.len() && site.layer.starts_with(&body), "{} bytes", body.len());
    });
}

#[test]
fn a_file_that_changes_while_the_layer_is_sent_encoded_cuts_the_response() {
    let mut site = Site::new(FILLER);
    for coding in ["gzip", "zstd"] {
        changes_while_it_is_sent(&mut site, |site, change| {
            let header = format!("Accept-Encoding: {coding}\r\n");
            let mut download = Download::begin_with(&site.registry, &site.path(), &header);
            download.receive(400_000);
            change();
            let (status, body, head) = download.finish_with_head();
            assert_eq!(status, 200);
            assert!(head.contains(&format!("content-encoding: {coding}\r\n")), "{head}");
            assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
            assert!(!body.ends_with(b"\r\n0\r\n\r\n"), "all came");
        });
    }
}
