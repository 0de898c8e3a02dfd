//! What the author of a flake can reach from its code, and from its lock file: his own source, what its inputs fetch, and
//! nothing of the host.

use crate::{
    bed::Bed,
    certificates::Authority,
    freshness::GitFlake,
    socket::Socket,
    support::{Flake, Registry, nix, nonce},
};
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tempfile::TempDir;

/// A folder of the host with something that is nobody's business in it, as a file, a flake and a git repository.
struct Secret {
    dir: TempDir,
    text: String,
}

impl Secret {
    fn new() -> Self {
        let (dir, text) = (tempfile::tempdir().unwrap(), format!("secret-{}", nonce()));
        fs::write(dir.path().join("secret"), &text).unwrap();
        fs::write(dir.path().join("secret.nix"), format!("\"{text}\"")).unwrap();
        let flake = "{ outputs = _: { it = builtins.readFile ./secret; }; }";
        fs::write(dir.path().join("flake.nix"), flake).unwrap();
        let secret = Self { dir, text };
        for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "."]] {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=x", "-c", "user.email=x@x", "-C", &secret.path()]).args(arguments);
            assert!(git.status().unwrap().success());
        }
        secret
    }

    fn path(&self) -> String {
        self.dir.path().display().to_string()
    }
}

/// A listener that counts who comes.
fn listener() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (port, count)
}

/// A flake with a package for each expression, that throws what the expression is.
fn telling(flake: &Flake, expressions: &[String]) {
    let packages: String = expressions
        .iter()
        .enumerate()
        .map(|(n, expression)| {
            format!("t{n}.image = throw \"it is <${{let r = ({expression}); in if builtins.isString r then r else builtins.toJSON r}}>\";\n")
        })
        .collect();
    flake
        .write_text(&format!("{{ outputs = {{ self }}: {{ packages.x86_64-linux = {{ {packages} }}; }}; }}"));
}

#[test]
fn no_expression_reads_the_host() {
    let (bed, secret, flake) =
        (Bed::up_with(&[("FORGE_TEST_SECRET", "secret-of-the-environment")]), Secret::new(), Flake::new(""));
    let p = secret.path();
    std::os::unix::fs::symlink(&p, flake.dir.path().join("link")).unwrap();
    let up = "/..".repeat(12);
    let own = flake.dir.path().display().to_string();
    // The cache of what was fetched lies there, too.
    let home = Path::new(&bed.store()).ancestors().nth(2).unwrap().join("home").display().to_string();
    let attempts = [
        format!("builtins.readFile \"{p}/secret\""),
        format!("builtins.readFile {p}/secret"),
        format!("builtins.readFile (./. + \"{up}{p}/secret\")"),
        "builtins.readFile ./link/secret".into(),
        "builtins.readFile (self + \"/link/secret\")".into(),
        format!("builtins.readDir {p}"),
        format!("builtins.readDir {home}"),
        "builtins.readDir builtins.storeDir".into(),
        format!("import {p}/secret.nix"),
        format!("builtins.scopedImport {{ }} {p}/secret.nix"),
        format!("builtins.hashFile \"sha256\" {p}/secret"),
        format!("builtins.readFileType {p}/secret"),
        format!(
            "builtins.readFile (builtins.findFile [ {{ prefix = \"x\"; path = \"{p}\"; }} ] \"x/secret\")"
        ),
        format!("builtins.readFile (\"${{{p}}}\" + \"/secret\")"),
        format!("builtins.readFile (builtins.path {{ path = {p}; }} + \"/secret\")"),
        format!("builtins.readFile (builtins.filterSource (_: _: true) {p} + \"/secret\")"),
        format!(
            "builtins.readFile ((builtins.fetchTree {{ type = \"path\"; path = \"{p}\"; }}) + \"/secret\")"
        ),
        format!("builtins.readFile ((builtins.fetchTree \"path:{p}\") + \"/secret\")"),
        format!("builtins.readFile ((builtins.fetchTree \"path:{own}{up}{p}\") + \"/secret\")"),
        format!(
            "builtins.readFile ((builtins.fetchTree {{ type = \"git\"; url = \"file://{p}\"; }}) + \"/secret\")"
        ),
        format!("builtins.readFile ((builtins.fetchGit \"{p}\") + \"/secret\")"),
        format!("builtins.readFile ((builtins.fetchGit {p}) + \"/secret\")"),
        format!("builtins.readFile (builtins.fetchurl \"file://{p}/secret\")"),
        format!("builtins.readFile (builtins.fetchTarball \"file://{p}\" + \"/secret\")"),
        format!("(builtins.getFlake \"path:{p}\").it"),
        format!("(builtins.getFlake \"{p}\").it"),
        format!("(builtins.getFlake \"git+file://{p}\").it"),
        // A build sees no more of the host than any other.
        format!(
            "builtins.readFile (derivation {{ name = \"x\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" \"read x <{p}/secret; echo $x >$out\" ]; }})"
        ),
        "builtins.getEnv \"FORGE_TEST_SECRET\"".into(),
        "builtins.getEnv \"HOME\"".into(),
        "builtins.readFile \"/proc/self/environ\"".into(),
        "builtins.readFile \"/etc/passwd\"".into(),
        "builtins.readFile \"/etc/nix/nix.conf\"".into(),
        format!("builtins.pathExists {p}/secret"),
        "import <nixpkgs> { }".into(),
        // Shows that what may be read does arrive: the source's own files, and what is built on the way.
        "builtins.readFile ./own + builtins.readFile (derivation { name = \"x\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" \"echo built >$out\" ]; })".into(),
    ];
    fs::write(flake.dir.path().join("own"), "own and ").unwrap();
    telling(&flake, &attempts);
    bed.nix("nix-store", &["--add", &format!("{p}/secret")]);
    let registry = bed.registry(&flake, &[("MAX_CLIENT_EVALUATIONS", "0")]);
    for (n, attempt) in attempts.iter().enumerate() {
        let message =
            registry.manifest(&format!("packages/t{n}"), "latest").is_error(422, "MANIFEST_UNKNOWN");
        if let Some((_, told)) = message.split_once("it is <") {
            let told = told.split('>').next().unwrap().trim();
            // Older Nix lists of a folder what may be read of it.
            let own = told.strip_prefix("{\"").and_then(|told| told.strip_suffix("-source\":\"directory\"}"));
            let is_own = own.is_some_and(|hash| hash.bytes().all(|b| b.is_ascii_alphanumeric()));
            assert!(is_own || ["", "own and built", "false"].contains(&told), "{attempt} gives {told:?}");
        }
        if n == attempts.len() - 1 {
            assert!(message.contains("it is <own and built"), "{message}");
        }
    }
    assert!(!registry.log().contains(&secret.text), "{}", registry.log());
    assert!(!registry.log().contains("secret-of-the-environment"));
}

#[test]
fn nothing_is_sent_to_this_host() {
    let (flake, (port, visits)) = (Flake::new(""), listener());
    let host = format!("http://127.0.0.1:{port}");
    let attempts = [
        format!("builtins.fetchurl \"{host}/x\""),
        format!("builtins.fetchTarball \"{host}/x\""),
        format!("builtins.fetchTree {{ type = \"tarball\"; url = \"{host}/x.tar\"; }}"),
        format!("builtins.fetchTree {{ type = \"file\"; url = \"{host}/x\"; }}"),
        format!("builtins.fetchTree \"{host}/x.tar\""),
        format!("builtins.fetchGit \"{host}/x\""),
        format!("builtins.fetchGit \"git://127.0.0.1:{port}/x\""),
        format!("builtins.fetchMercurial \"{host}/x\""),
        format!("builtins.getFlake \"{host}/x.tar\""),
        format!("(builtins.getFlake \"git+{host}/x\").it"),
    ];
    telling(&flake, &attempts);
    let registry = Registry::start(&flake, &[]);
    for (n, attempt) in attempts.iter().enumerate() {
        let message =
            registry.manifest(&format!("packages/t{n}"), "latest").is_error(422, "MANIFEST_UNKNOWN");
        assert!(!message.contains("it is <"), "{attempt}: {message}");
    }
    let lock = json!({ "type": "tarball", "url": format!("{host}/x.tar"), "narHash": HASH });
    with_input(&flake, "x", &lock, "inputs.x.outPath");
    registry.manifest("packages/t", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

const HASH: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// A flake with one input that is locked like this, and one package, `t`, that throws what the expression is.
fn with_input(flake: &Flake, name: &str, locked: &serde_json::Value, expression: &str) {
    fs::write(
        flake.dir.path().join("flake.nix"),
        format!(
            "{{ inputs.{name} = {{ url = \"github:o/r\"; flake = false; }}; outputs = inputs: {{ \
             packages.x86_64-linux.t.image = throw \"it is <${{{expression}}}>\"; }}; }}"
        ),
    )
    .unwrap();
    let lock = json!({
        "version": 7, "root": "root",
        "nodes": { "root": { "inputs": { name: "it" } }, "it": { "flake": false, "locked": locked } },
    });
    fs::write(flake.dir.path().join("flake.lock"), lock.to_string()).unwrap();
}

#[test]
fn a_lock_file_names_nothing_of_the_host() {
    let (secret, flake) = (Secret::new(), Flake::new(""));
    let p = secret.path();
    let up = "/..".repeat(12);
    let hash = nix("nix-hash", &["--type", "sha256", "--sri", &p]);
    let hash = String::from_utf8(hash.stdout).unwrap().trim().to_owned();
    let revision = Command::new("git").args(["-C", &p, "rev-parse", "HEAD"]).output().unwrap();
    let revision = String::from_utf8(revision.stdout).unwrap().trim().to_owned();
    let locks = [
        json!({ "type": "path", "path": p, "narHash": hash }),
        json!({ "type": "path", "path": p }),
        json!({ "type": "path", "path": format!("{}{up}{p}", flake.dir.path().display()) }),
        json!({ "type": "git", "url": format!("file://{p}"), "rev": revision }),
        json!({ "type": "git", "url": p, "rev": revision }),
        json!({ "type": "git", "url": format!("file://localhost{p}"), "rev": revision }),
        json!({ "type": "tarball", "url": format!("file://{p}"), "narHash": hash }),
        json!({ "type": "file", "url": format!("file://{p}/secret") }),
        json!({ "type": "indirect", "id": "nixpkgs" }),
    ];
    let registry = Registry::start(&flake, &[("FAILURE_TTL", "0")]);
    for locked in locks {
        for expression in ["builtins.readFile (inputs.x + \"/secret\")", "builtins.readFile inputs.x"] {
            with_input(&flake, "x", &locked, expression);
            let message = registry.manifest("packages/t", "latest").is_error(422, "MANIFEST_UNKNOWN");
            assert!(message.contains("no remote source"), "{locked}: {message}");
            assert!(!message.contains(&secret.text), "{locked}: {message}");
        }
    }
    // Relative to the flake is inside of it.
    let parent = json!({ "type": "path", "path": format!(".{up}{p}") });
    let lock = json!({
        "version": 7, "root": "root",
        "nodes": { "root": { "inputs": { "x": "it" } }, "it": { "flake": false, "locked": parent, "parent": [] } },
    });
    with_input(&flake, "x", &parent, "builtins.readFile (inputs.x.outPath + \"/secret\")");
    fs::write(flake.dir.path().join("flake.lock"), lock.to_string()).unwrap();
    let message = registry.manifest("packages/t", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(!message.contains("it is <") && !message.contains(&secret.text), "{message}");

    // Nor is an input fetched that no lock pins.
    fs::remove_file(flake.dir.path().join("flake.lock")).unwrap();
    flake.write_text(&format!(
        "{{ inputs.x = {{ url = \"path:{p}\"; flake = false; }}; outputs = {{ self, x }}: {{ \
         packages.x86_64-linux.t.image = throw (builtins.readFile (x + \"/secret\")); }}; }}"
    ));
    let message = registry.manifest("packages/t", "latest").is_error(422, "MANIFEST_UNKNOWN");
    assert!(message.contains("has the input x, which its flake.lock does not pin"), "{message}");
}

/// Files behind HTTPS, on this machine.
pub struct Server {
    child: Child,
    pub url: String,
    pub root: TempDir,
    pub authority: Authority,
}

impl Server {
    pub fn new() -> Self {
        let (root, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        authority.sign("server", "2");
        let program = "import http.server, os, ssl, sys\n\
             os.chdir(sys.argv[1])\n\
             class Quiet(http.server.SimpleHTTPRequestHandler):\n    \
             def log_message(self, *rest): pass\n    \
             def do_GET(self):\n        \
             if self.path.startswith('/to/'):\n            \
             self.send_response(302); self.send_header('Location', self.path[4:]); self.end_headers()\n        \
             elif self.path.startswith('/says'):\n            \
             self.send_response(404); self.send_header('Content-Type', 'text/plain'); self.end_headers()\n            \
             self.wfile.write(open('says', 'rb').read())\n        \
             else: super().do_GET()\n\
             server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet)\n\
             context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
             context.load_cert_chain(sys.argv[2], sys.argv[3])\n\
             server.socket = context.wrap_socket(server.socket, server_side=True)\n\
             print(server.server_port, flush=True)\n\
             server.serve_forever()\n";
        let mut child = Command::new("python3")
            .args(["-c", program])
            .arg(root.path())
            .args([authority.path("server.pem"), authority.path("server.key")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("https://127.0.0.1:{}", port.trim()), root, authority }
    }

    /// An archive of a flake, and its hash.
    pub fn tarball(&self, name: &str, flake: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("top");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("flake.nix"), flake).unwrap();
        let tar = Command::new("tar")
            .arg("-czf")
            .arg(self.root.path().join(name))
            .arg("-C")
            .arg(dir.path())
            .arg("top")
            .status();
        assert!(tar.unwrap().success());
        let hash = nix("nix-hash", &["--type", "sha256", "--sri", folder.to_str().unwrap()]);
        String::from_utf8(hash.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn locked_inputs_are_fetched_when_they_are_needed_and_what_code_fetches_is_too() {
    let server = Server::new();
    let ca = server.authority.setting("ca.pem");
    let bed = Bed::up_with(&[("NIX_SSL_CERT_FILE", &ca), ("GIT_SSL_CAINFO", &ca)]);
    let library = server
        .tarball("library.tar.gz", "{ outputs = { self, leaf }: { name = \"library-\" + leaf.name; }; }");
    let leaf = server.tarball("leaf.tar.gz", "{ outputs = _: { name = \"leaf\"; }; }");
    let data = server.tarball("data.tar.gz", "data");
    // A repository that plain files make up.
    let repository = GitFlake::new();
    let revision = repository.commit("{ outputs = _: { name = \"from-git\"; }; }");
    let bare = server.root.path().join("repository.git");
    let clone =
        Command::new("git").args(["clone", "-q", "--bare"]).arg(repository.folder()).arg(&bare).status();
    assert!(clone.unwrap().success());
    let info = Command::new("git").arg("-C").arg(&bare).arg("update-server-info").status();
    assert!(info.unwrap().success());

    let flake = Flake::new("");
    let url = &server.url;
    flake.write_text(&format!(
        r#"{{
          inputs.library.url = "{url}/library.tar.gz";
          inputs.repository.url = "git+{url}/repository.git";
          inputs.never.url = "github:nobody/nothing";
          outputs = {{ self, library, repository, never, ... }}:
            let
              data = builtins.fetchTarball {{ url = "{url}/data.tar.gz"; sha256 = "{data}"; }};
              text = library.name + " " + repository.name + " " + builtins.readFile (data + "/flake.nix") + " "
                + library.inputs.leaf.narHash;
            in {{
              packages.x86_64-linux.t.image = throw "it is <${{text}}>";
              packages.x86_64-linux.hello = (import <examples> {{ system = "x86_64-linux"; }}).packages.hello;
            }};
        }}"#
    ));
    let locked = |name: &str, hash: &str| json!({ "type": "tarball", "url": format!("{url}/{name}.tar.gz"), "narHash": hash });
    let lock = json!({ "version": 7, "root": "root", "nodes": {
        "root": { "inputs": { "library": "library", "repository": "git", "never": "never" } },
        "library": { "inputs": { "leaf": ["leaf-of-root"] }, "locked": locked("library", &library) },
        "git": { "locked": { "type": "git", "url": format!("{url}/repository.git"), "rev": revision } },
        "never": { "locked": { "type": "github", "owner": "nobody", "repo": "nothing", "rev": "0".repeat(40), "narHash": HASH } },
        "leaf": { "locked": locked("leaf", &leaf) },
    } });
    // What an input follows is named by the way to it from the root.
    let mut lock = lock;
    lock["nodes"]["root"]["inputs"]["leaf-of-root"] = json!("leaf");
    fs::write(flake.dir.path().join("flake.lock"), lock.to_string()).unwrap();

    let fetcher = Socket::before(bed.variable("FETCHER_SOCKET"));
    let fetches = fetcher.counted("counted");
    let path = fetcher.path();
    let settings = [("FETCHER_SOCKET", path.to_str().unwrap()), ("FAILURE_TTL", "0")];
    let registry = bed.registry(&flake, &settings);
    let expected = format!("it is <library-leaf from-git data {leaf}>");
    let ask = |expected: &str| {
        let message = registry.manifest("packages/t", "latest").is_error(422, "MANIFEST_UNKNOWN");
        assert!(message.contains(expected), "{message}");
    };
    ask(&expected);
    // The source, and each input when it turned out to be needed.
    assert_eq!(fetches.all.swap(0, Ordering::SeqCst), 4);
    ask(&expected);
    assert_eq!(fetches.all.swap(0, Ordering::SeqCst), 2, "its inputs are fetched together from then on");
    registry.pull("packages/hello", "latest");

    // What the lock file does not state is not taken.
    lock["nodes"]["leaf"]["locked"]["narHash"] = json!(HASH);
    fs::write(flake.dir.path().join("flake.lock"), lock.to_string()).unwrap();
    ask("hash mismatch");
}

#[test]
fn a_server_of_an_input_answers_for_nobody_and_leads_nowhere_else() {
    let (server, (port, visits)) = (Server::new(), listener());
    let ca = server.authority.setting("ca.pem");
    let bed = Bed::up_with(&[("NIX_SSL_CERT_FILE", &ca), ("GIT_SSL_CAINFO", &ca)]);
    let (flake, other) = (Flake::new(""), Flake::new(""));
    other.write_text("{ outputs = _: throw \"it is <somebody else's>\"; }");
    // What git prints of a server's answer stands among what Nix says.
    let hash = nix("nix-hash", &["--type", "sha256", "--sri", &other.dir.path().display().to_string()]);
    let hash = String::from_utf8(hash.stdout).unwrap().trim().to_owned();
    let tree = json!({ "path": bed.store().join("x"), "narHash": hash, "dir": "" });
    let says = json!({ "forgeRegistry": { "tree": tree, "inputs": { "it": tree } } });
    fs::write(server.root.path().join("says"), format!("{says}\n")).unwrap();
    let registry = bed.registry(&flake, &[("FAILURE_TTL", "0"), ("MAX_CLIENT_UNKNOWN", "0")]);
    let url = &server.url;
    let revision = "0".repeat(40);
    let locks = [
        json!({ "type": "git", "url": format!("{url}/says"), "rev": revision }),
        // Its server would name any file in place of a large one.
        json!({ "type": "git", "url": format!("{url}/says"), "rev": revision, "lfs": true }),
        json!({ "type": "file", "url": format!("{url}/to/http://127.0.0.1:{port}/x"), "narHash": HASH }),
        json!({ "type": "tarball", "url": format!("{url}/to/http://127.0.0.1:{port}/x.tar"), "narHash": HASH }),
        json!({ "type": "file", "url": format!("{url}/to/file:///etc/passwd") }),
    ];
    for locked in &locks {
        with_input(&flake, "x", locked, "builtins.readFile inputs.x");
        let message = registry.manifest("packages/t", "latest").is_error_of(&[422, 503]);
        assert!(!message.contains("it is <") && !message.contains("root:"), "{locked}: {message}");
        if locked["lfs"] == true {
            assert!(message.contains("inputs may not have lfs"), "{message}");
        }
    }
    fs::remove_file(flake.dir.path().join("flake.lock")).unwrap();
    let attempts = [
        format!("builtins.readFile (builtins.fetchurl \"{url}/to/http://127.0.0.1:{port}/x\")"),
        format!("builtins.readFile (builtins.fetchurl \"{url}/to/file:///etc/passwd\")"),
        format!("builtins.fetchTarball \"{url}/to/http://127.0.0.1:{port}/x.tar\""),
        // A git server can have files read, by LFS and submodules: there are few that code may ask.
        format!("builtins.fetchGit \"{url}/repository.git\""),
        format!("builtins.fetchTree {{ type = \"git\"; url = \"{url}/says\"; lfs = true; }}"),
        format!("builtins.fetchGit {{ url = \"{url}/says\"; submodules = true; }}"),
        format!("builtins.fetchGit \"ssh://127.0.0.1:{port}/x\""),
    ];
    telling(&flake, &attempts);
    for (n, attempt) in attempts.iter().enumerate() {
        let message =
            registry.manifest(&format!("packages/t{n}"), "latest").is_error(422, "MANIFEST_UNKNOWN");
        assert!(!message.contains("it is <"), "{attempt}: {message}");
        if attempt.contains("fetchGit") || attempt.contains("fetchTree") {
            // Older Nix knows no LFS.
            let refusals = ["is forbidden in restricted mode", "attribute 'lfs' not supported"];
            assert!(refusals.iter().any(|refusal| message.contains(refusal)), "{attempt}: {message}");
        }
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}
