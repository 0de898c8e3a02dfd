//! Starts the program, and asks it things.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Long enough for anything on a busy machine; only a hang takes this long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What `dev/testbed` exported.
pub fn testbed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: these tests need nix-daemon and run through `make test`")
    })
}

/// Runs one of Nix's own commands on the testbed.
pub fn nix(command: &str, arguments: &[&str]) -> std::process::Output {
    Command::new(Path::new(&testbed("TESTBED_NIX")).join(command)).args(arguments).output().unwrap()
}

/// A number that no other test of any run has.
pub fn nonce() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{now}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A flake of the example images that nobody has built yet.
pub struct Flake {
    pub dir: TempDir,
}

impl Flake {
    /// `arguments` are those of `examples/default.nix`, `slowSeconds = 3;` for instance.
    pub fn new(arguments: &str) -> Self {
        let flake = Self { dir: tempfile::tempdir().unwrap() };
        flake.write(arguments);
        flake
    }

    /// Changes it, so that everything in it is another derivation.
    pub fn write(&self, arguments: &str) {
        let text = format!(
            "{{ outputs = _: let e = import <examples> {{ system = \"x86_64-linux\"; nonce = \"{}\"; {arguments} }}; in {{ \
             packages.x86_64-linux = e.packages; legacyPackages.x86_64-linux = e.legacyPackages; }}; }}",
            nonce()
        );
        self.write_text(&text);
    }

    /// Any flake at all.
    pub fn write_text(&self, text: &str) {
        // Replaced at once: an evaluation never sees half of it.
        let new = self.dir.path().join(".new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.dir.path().join("flake.nix")).unwrap();
    }

    /// A flake whose package `name` has a `.image` that is built by the shell script `script`, for each of them. In the
    /// script, `$hello` is an example image, `$nonce` is new, and busybox's commands are on the PATH.
    pub fn of_scripts(scripts: &[(&str, &str)]) -> Self {
        let derivations: Vec<_> = scripts.iter().map(|(name, script)| (*name, *script, "")).collect();
        Self::of_derivations(&derivations)
    }

    /// The same, with further attributes of each derivation.
    pub fn of_derivations(derivations: &[(&str, &str, &str)]) -> Self {
        let flake = Self { dir: tempfile::tempdir().unwrap() };
        flake.write_derivations(derivations);
        flake
    }

    pub fn write_derivations(&self, derivations: &[(&str, &str, &str)]) {
        let mut packages = String::new();
        for (name, script, attributes) in derivations {
            let script = serde_json::to_string(script).unwrap().replace('$', "\\$");
            packages += &format!(
                "\"{name}\" = {{ type = \"derivation\"; image = make \"{name}\" {script} {{ {attributes} }}; }};\n"
            );
        }
        self.write_text(&format!(
            r#"{{ outputs = _: let
                nonce = "{}";
                busybox = import <examples/busybox.nix>;
                example = import <examples> {{ system = "x86_64-linux"; }};
                hello = example.packages.hello-plain.image;
                make = name: script: attributes: derivation ({{
                  inherit name nonce hello;
                  system = "x86_64-linux";
                  builder = "${{busybox}}/busybox";
                  args = [ "sh" "-c" "mkdir c; ${{busybox}}/busybox --install -s $PWD/c; PATH=$PWD/c; ${{script}}" ];
                }} // attributes);
              in {{ packages.x86_64-linux = {{ {packages} }}; }}; }}"#,
            nonce()
        ));
    }

    pub fn reference(&self) -> String {
        format!("path:{}", self.dir.path().display())
    }
}

/// A running registry with a state folder of its own.
pub struct Registry {
    pub address: String,
    pub state: PathBuf,
    environment: BTreeMap<String, String>,
    child: Option<Child>,
    log: PathBuf,
    _dir: TempDir,
}

impl Registry {
    /// Starts it on the flake, with further settings.
    pub fn start(flake: &Flake, settings: &[(&str, &str)]) -> Self {
        let reference = flake.reference();
        Self::start_with(&[&[("FLAKE", reference.as_str())], settings].concat())
    }

    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut environment: BTreeMap<String, String> =
            ["NIX_DAEMON_SOCKET", "EVALUATOR_SOCKET", "FETCHER_SOCKET", "NIX_STORE_DIR"]
                .map(|name| (name.to_owned(), testbed(name)))
                .into();
        environment.insert("STATE_DIR".into(), state.display().to_string());
        environment.insert("LOG_LEVEL".into(), "DEBUG".into());
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let log = dir.path().join("log");
        let mut registry = Self { address: String::new(), state, environment, child: None, log, _dir: dir };
        registry.run();
        registry
    }

    /// Changes a setting; it holds from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.into(), value.into());
    }

    /// A command of the program with this registry's settings, and nothing else in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forge-registry"));
        command.args(arguments).env_clear().envs(&self.environment);
        command
    }

    /// Starts the program, after it was stopped or killed.
    pub fn run(&mut self) {
        assert!(self.child.is_none());
        // A port that the kernel chooses while it gives it to the program, so that no other test can have it; kept over
        // restarts, as clients expect.
        let address = if self.address.is_empty() { "127.0.0.1:0" } else { &self.address };
        self.environment.insert("LISTEN".into(), address.into());
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let listening = |log: &str| {
            // In the log's other format the message ends with a quote.
            let place = |line: &str| Some(line.split_once("listening on ")?.1.split('"').next()?.to_owned());
            log.lines().filter_map(place).collect()
        };
        let before: Vec<String> = listening(&self.log());
        let child = self.command(&[]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        let begin = Instant::now();
        loop {
            let starts: Vec<String> = listening(&self.log());
            if starts.len() > before.len() {
                self.address.clone_from(&starts[before.len()]);
                break;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < PATIENCE, "it does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.environment.insert("LISTEN".into(), self.address.clone());
    }

    /// Runs the program until it ends by itself; what it printed, and how it ended.
    pub fn run_to_its_end(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
        (text, output.status.code())
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY is not needed where kill(1) is.
        let status =
            Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(15);
        self.wait()
    }

    /// How it ends, once it does.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many lines of the log contain `text`.
    pub fn logged(&self, text: &str) -> usize {
        BufReader::new(File::open(&self.log).unwrap())
            .lines()
            .filter(|l| l.as_ref().unwrap().contains(text))
            .count()
    }

    /// Where it listens for HTTPS, once it does.
    pub fn https_address(&self) -> String {
        let mut address = None;
        eventually("it listens for HTTPS", || {
            let log = self.log();
            address = log.lines().find_map(|l| Some(l.split_once("listening on https://")?.1.to_owned()));
            address.is_some()
        });
        address.unwrap_or_default()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[])
    }

    /// A request that accepts everything, with further headers.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request_at(&self.address, method, path, headers)
    }

    /// The same, of another of its addresses.
    pub fn request_at(&self, address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .build()
            .into();
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = agent.run(request.body(()).unwrap()).unwrap();
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut body = Vec::new();
        response.into_body().into_reader().read_to_end(&mut body).unwrap();
        Answer { status, headers, body }
    }

    pub fn manifest(&self, name: &str, reference: &str) -> Answer {
        self.get(&format!("/v2/{name}/manifests/{reference}"))
    }

    pub fn blob(&self, name: &str, digest: &str) -> Answer {
        self.get(&format!("/v2/{name}/blobs/{digest}"))
    }

    /// Pulls an image as a client would: the manifest, its configuration and its layers, every digest checked.
    /// Gives the manifest's digest.
    pub fn pull(&self, name: &str, reference: &str) -> String {
        let mut manifest = self.manifest(name, reference);
        let begin = Instant::now();
        // Clients come back as well; only on a very busy machine there is reason to.
        while manifest.status == 429 && begin.elapsed() < PATIENCE {
            manifest = self.manifest(name, reference);
        }
        assert_eq!(manifest.status, 200, "{}\n{}", manifest.text(), self.log());
        let digest = manifest.header("docker-content-digest").to_owned();
        assert_eq!(digest, sha256(&manifest.body));
        let manifest = manifest.json();
        for descriptor in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            let wanted = descriptor["digest"].as_str().unwrap();
            let blob = self.blob(name, wanted);
            assert_eq!(blob.status, 200, "{wanted}: {}\n{}", blob.text(), self.log());
            assert_eq!(sha256(&blob.body), wanted);
            assert_eq!(blob.body.len() as u64, descriptor["size"].as_u64().unwrap());
        }
        digest
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the registry\n{}", self.log());
        }
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Asserts that this is an error of the given status and code, and gives its message.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str) -> String {
        let (found, message) = self.error();
        assert_eq!((self.status, found.as_str()), (status, code), "{message}");
        message
    }

    /// The code and message of an OCI error body.
    /// The message of an error with one of these statuses.
    pub fn is_error_of(&self, statuses: &[u16]) -> String {
        assert!(statuses.contains(&self.status), "{}: {}", self.status, self.text());
        self.error().1
    }

    pub fn error(&self) -> (String, String) {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.text());
        let error = &self.json()["errors"][0];
        (error["code"].as_str().unwrap().into(), error["message"].as_str().unwrap().into())
    }
}

/// The digests of a manifest's layers, the first first.
pub fn layers(manifest: &Answer) -> Vec<String> {
    let manifest = manifest.json();
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "it never came to be that {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
