//! The root of an image that is made of packages: `/bin` and friends as links into the store, and the few files that
//! programs expect anywhere.

use crate::{
    image::{Reader, limits::LimitExceeded},
    layer::{Item, Listed, What},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Folders whose contents have no place at the root: the store, and what only Nix' builds look at.
const LEFT_OUT: [&str; 2] = ["nix", "nix-support"];
/// Where programs are, in the order in which they are looked for.
const PROGRAMS: [&str; 4] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"];
/// Where nixpkgs' `cacert` has its certificates.
pub(super) const CERTIFICATES: &str = "etc/ssl/certs/ca-bundle.crt";
/// Where the two families of programs look for them.
const CERTIFICATE_FILES: [&str; 2] = ["/etc/ssl/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt"];

/// Folders within each other that several packages have.
const MAX_DEPTH: usize = 200;
/// Bytes that a link takes besides its name and target.
const NODE: u64 = 256;
/// Bytes that a name takes in a list besides its own, twice: as it is, and with its folder.
const NAME: u64 = 512;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";

/// What is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder(u32),
    /// A link to this place in the store.
    Link(PathBuf),
    File(&'static str),
}

/// What lies at the root, besides the store.
#[derive(Debug)]
pub(super) struct Root<'r> {
    reader: &'r Reader,
    nodes: BTreeMap<PathBuf, Node>,
    has_certificates: bool,
}

impl<'r> Root<'r> {
    /// Links to everything in these packages, each an absolute path. Their first folders are folders in the image, so that
    /// packages and users can add to them; what is in these is a link, unless it is a folder that several packages have.
    /// Of two files of one name the first package's is taken.
    pub(super) fn of(
        reader: &'r Reader,
        packages: &[PathBuf],
        certificates: Option<&Path>,
    ) -> Result<Self, LimitExceeded> {
        let mut root = Self { reader, nodes: BTreeMap::new(), has_certificates: certificates.is_some() };
        for package in packages {
            for name in root.names(package)? {
                if LEFT_OUT.iter().any(|left_out| name == *left_out) {
                    continue;
                }
                let (at, source) = (Path::new("/").join(&name), package.join(&name));
                if root.is_folder(&source) {
                    root.folder(&at);
                }
                root.place(at, source, 0)?;
            }
        }
        for (file, text) in [("/etc/passwd", PASSWD), ("/etc/group", GROUP)] {
            root.file(file, Node::File(text))?;
        }
        if let Some(certificates) = certificates {
            for file in CERTIFICATE_FILES {
                root.file(file, Node::Link(certificates.join(CERTIFICATES)))?;
            }
        }
        // Where scripts look for their interpreter.
        if let Some(env @ Node::Link(_)) = root.nodes.get(Path::new("/bin/env")).cloned() {
            root.file("/usr/bin/env", env)?;
        }
        for (folder, mode) in [("/bin", 0o755), ("/root", 0o700), ("/tmp", 0o1777)] {
            root.nodes.insert(folder.into(), Node::Folder(mode));
        }
        Ok(root)
    }

    /// `PATH`, and where the certificates are.
    pub(super) fn variables(&self) -> Vec<String> {
        let is_there = |folder: &&str| matches!(self.nodes.get(Path::new(folder)), Some(Node::Folder(_)));
        let folders: Vec<&str> = PROGRAMS.into_iter().filter(is_there).collect();
        let mut variables = vec![format!("PATH={}", folders.join(":"))];
        if self.has_certificates {
            variables.push(format!("SSL_CERT_FILE={}", CERTIFICATE_FILES[0]));
        }
        variables
    }

    /// As the contents of a layer, which depend on nothing but names and links.
    pub(super) fn into_layer(self) -> Listed {
        let item = |(at, node): (PathBuf, Node)| {
            let name = at.into_os_string().into_encoded_bytes();
            match node {
                Node::Folder(mode) => Item::new(name, What::Folder).with_mode(mode),
                Node::Link(target) => {
                    Item::new(name, What::Link(target.into_os_string().into_encoded_bytes()))
                }
                Node::File(text) => Item::new(name, What::Inline(text.into())),
            }
        };
        Listed { roots: Vec::new(), items: self.nodes.into_iter().map(item).collect() }
    }

    fn place(&mut self, at: PathBuf, source: PathBuf, depth: usize) -> Result<(), LimitExceeded> {
        match self.nodes.get(&at) {
            None => {
                let limit = self.reader.limits.max_members;
                if self.nodes.len() >= limit {
                    return Err(LimitExceeded::Count { what: "files", limit });
                }
                let names = at.as_os_str().len() + source.as_os_str().len();
                self.reader.budget.charge(NODE + 2 * names as u64, "its links to the packages")?;
                self.nodes.insert(at, Node::Link(source));
            }
            Some(Node::Folder(_)) => self.place_all(&at, &source, depth)?,
            Some(Node::Link(first)) if *first != source => {
                let first = first.clone();
                if self.is_folder(&first) && self.is_folder(&source) {
                    self.folder(&at);
                    self.place_all(&at, &first, depth)?;
                    self.place_all(&at, &source, depth)?;
                }
            }
            Some(Node::Link(_) | Node::File(_)) => {}
        }
        Ok(())
    }

    /// Places what is in the folder `source`.
    fn place_all(&mut self, at: &Path, source: &Path, depth: usize) -> Result<(), LimitExceeded> {
        if depth > MAX_DEPTH {
            return Err(LimitExceeded::Count { what: "folders within each other", limit: MAX_DEPTH });
        }
        for name in self.names(source)? {
            self.place(at.join(&name), source.join(&name), depth + 1)?;
        }
        Ok(())
    }

    /// Puts a file of ours into folders that packages may have made; what a package has in that place, stays.
    fn file(&mut self, file: &str, node: Node) -> Result<(), LimitExceeded> {
        let file = Path::new(file);
        let mut folders: Vec<&Path> = file.ancestors().skip(1).filter(|f| *f != Path::new("/")).collect();
        folders.reverse();
        for folder in folders {
            match self.nodes.get(folder) {
                Some(Node::Folder(_)) => {}
                None => self.folder(folder),
                Some(Node::Link(source)) if self.is_folder(source) => {
                    let source = source.clone();
                    self.folder(folder);
                    self.place_all(folder, &source, 0)?;
                }
                Some(other) => {
                    tracing::info!(?folder, ?other, "is not a folder in a package, so {file:?} is left out");
                    return Ok(());
                }
            }
        }
        match self.nodes.get(file) {
            None => drop(self.nodes.insert(file.into(), node)),
            Some(own) if *own == node => {}
            Some(own) => {
                tracing::info!(?own, "a package has its own {file:?}, which takes the place of ours")
            }
        }
        Ok(())
    }

    fn folder(&mut self, at: &Path) {
        self.nodes.insert(at.into(), Node::Folder(0o755));
    }

    /// Whether this is a folder in the store, or leads to one.
    fn is_folder(&self, path: &Path) -> bool {
        let found = self.reader.store.follow(path);
        found.is_ok_and(|found| found.is_some_and(|found| found.metadata().is_dir()))
    }

    /// What is in a folder of the store, sorted; nothing if it is none.
    fn names(&self, folder: &Path) -> Result<BTreeSet<OsString>, LimitExceeded> {
        let found = self.reader.store.follow(folder).ok().flatten();
        let entries = found.and_then(|found| fs::read_dir(found.path()).ok());
        // One more than can be taken, so that there being too many is noticed.
        let limit = self.reader.limits.max_members + 1;
        let entries = entries.into_iter().flatten().take(limit).flatten().map(|entry| entry.file_name());
        entries
            .map(|name| {
                self.reader.budget.in_time()?;
                self.reader.budget.charge(NAME + name.len() as u64, "the names in the packages")?;
                Ok(name)
            })
            .collect()
    }
}

/// The programs in a package's `bin`, or the package itself if it is a program. What wrappers hide is none of them.
pub(super) fn programs(reader: &Reader, package: &Path) -> Result<Vec<PathBuf>, LimitExceeded> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| {
        let found = reader.store.follow(path).ok().flatten();
        found.is_some_and(|found| {
            found.metadata().is_file() && found.metadata().permissions().mode() & 0o111 != 0
        })
    };
    let itself = package.to_owned();
    if is_program(&itself) {
        return Ok(vec![itself]);
    }
    let bin = package.join("bin");
    let root = Root { reader, nodes: BTreeMap::new(), has_certificates: false };
    let hidden = |name: &OsStr| name.as_bytes().starts_with(b".");
    let names = root.names(&bin)?.into_iter().filter(|name| !hidden(name));
    Ok(names.map(|name| bin.join(name)).filter(is_program).collect())
}
