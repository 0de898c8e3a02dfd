//! Access control: who is let in, what they get, and what nobody learns.

use crate::{
    freshness::GitFlake,
    socket::Socket,
    support::{Answer, Flake, Registry, eventually, sha256},
};
use std::{collections::BTreeMap, fs, net::TcpStream};

/// Of `printf %s "$TOKEN" | sha256sum`.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The files of access control: users whose passwords are their names with `-password`, a token of `ci`, and rules.
pub struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    pub fn new(users: &[&str], rules: &str) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        let line = |user: &&str| format!("{user}:{}\n", bcrypt::hash(format!("{user}-password"), 4).unwrap());
        files.write("htpasswd", &users.iter().map(line).collect::<String>());
        files.write("tokens", &format!("ci:{}\n", sha256(TOKEN.as_bytes()).trim_start_matches("sha256:")));
        files.write("rules", rules);
        files
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A registry that goes by these files, with further settings.
    pub fn registry(&self, flake: &Flake, settings: &[(&str, &str)]) -> Registry {
        self.registry_of(&flake.reference(), settings)
    }

    pub fn registry_of(&self, flake: &str, settings: &[(&str, &str)]) -> Registry {
        let paths = self.settings();
        let paths: Vec<(&str, &str)> = paths.iter().map(|(name, path)| (*name, path.as_str())).collect();
        Registry::start_with(&[&[("FLAKE", flake)], &*paths, settings].concat())
    }

    pub fn settings(&self) -> [(&'static str, String); 3] {
        [("AUTH_HTPASSWD", "htpasswd"), ("AUTH_TOKENS", "tokens"), ("AUTH_RULES", "rules")]
            .map(|(setting, name)| (setting, self.path(name)))
    }
}

/// The header of a user with the password that `Files` gives them.
pub fn basic(user: &str) -> String {
    password(user, &format!("{user}-password"))
}

pub fn password(user: &str, password: &str) -> String {
    use base64::Engine;
    let text = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

pub fn ask(registry: &Registry, authorization: &str, method: &str, path: &str) -> Answer {
    registry.request(method, path, &[("authorization", authorization)])
}

pub fn get(registry: &Registry, user: &str, path: &str) -> Answer {
    ask(registry, &basic(user), "GET", path)
}

pub fn head(registry: &Registry, user: &str, path: &str) -> Answer {
    ask(registry, &basic(user), "HEAD", path)
}

pub const LATEST: &str = "/v2/hello/manifests/latest";

#[test]
fn whoever_has_not_logged_in_is_asked_to() {
    let files = Files::new(&["alice"], "allow build alice *\n");
    let registry = files.registry(&Flake::new(""), &[("AUTH_REALM", "images of ours")]);
    for path in ["/v2/", LATEST, "/v2/_catalog", "/v2/hello/tags/list", "/v2/no/such/manifests/latest"] {
        for authorization in ["", "Basic Og==", &password("anonymous", "x")] {
            let answer = match authorization {
                "" => registry.get(path),
                claim => ask(&registry, claim, "GET", path),
            };
            answer.is_error(401, "UNAUTHORIZED");
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge, r#"Basic realm="images of ours", charset="UTF-8""#, "{path}");
        }
    }
    for path in ["/", "/healthz", "/readyz"] {
        assert_eq!(registry.get(path).status, 200, "{path}");
        assert_eq!(ask(&registry, &password("eve", "x"), "GET", path).status, 200, "{path}");
    }
    assert_eq!(registry.logged("resolved"), 0, "the evaluator was asked");
}

#[test]
fn passwords_and_tokens_open_and_nothing_else_does() {
    let files = Files::new(&["alice"], "allow build alice *\nallow build ci *\n");
    let flake = Flake::new("");
    let registry = files.registry(&flake, &[("AUTH_MAX_FAILURES", "1000")]);
    for right in
        [basic("alice"), password("token", TOKEN), format!("Bearer {TOKEN}"), format!("bearer {TOKEN}")]
    {
        assert_eq!(ask(&registry, &right, "GET", "/v2/").status, 200);
        let manifest = ask(&registry, &right, "GET", LATEST);
        assert_eq!(manifest.status, 200, "{}", manifest.text());
        let digest = manifest.json()["config"]["digest"].as_str().unwrap().to_owned();
        let blob = ask(&registry, &right, "GET", &format!("/v2/hello/blobs/{digest}"));
        // A cache that several users share must not keep it.
        assert_eq!(
            (blob.status, blob.header("cache-control")),
            (200, "private, max-age=31536000, immutable")
        );
    }
    let wrong = [
        password("alice", "x"),
        password("alice", ""),
        password("bob", "alice-password"),
        password("", "alice-password"),
        "Basic %%%".into(),
        "Bearer alice-password".into(),
        "Digest x".into(),
    ];
    for wrong in wrong {
        for path in ["/v2/", LATEST] {
            let answer = ask(&registry, &wrong, "GET", path);
            answer.is_error(401, "UNAUTHORIZED");
            assert_ne!(answer.header("www-authenticate"), "");
        }
    }
    let log = registry.log();
    assert!(log.contains("user=\"alice\"") && log.contains("user=\"ci\""), "{log}");
    for secret in ["alice-password", TOKEN, "$2b$", sha256(TOKEN.as_bytes()).trim_start_matches("sha256:")] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// Everything of an answer that does not differ from one request to the next.
fn whole(answer: &Answer, name: &str) -> (u16, BTreeMap<String, String>, String) {
    let id = answer.header("x-request-id").to_owned();
    let mut headers = answer.headers.clone();
    headers.retain(|name, _| name != "date" && name != "x-request-id");
    (answer.status, headers, answer.text().replace(&id, "ID").replace(name, "NAME"))
}

#[test]
fn a_name_that_may_not_be_read_looks_like_one_that_does_not_exist() {
    let files = Files::new(
        &["alice", "root"],
        "allow build root *\nallow build alice packages/hello-*\nallow read anonymous public/*\n",
    );
    let flake = Flake::new("");
    let registry = files.registry(&flake, &[]);
    // It has been built and served, and so has something that she may see.
    let manifest = get(&registry, "root", "/v2/packages/greet/manifests/latest");
    assert_eq!(manifest.status, 200, "{}", manifest.text());
    assert_eq!(get(&registry, "alice", "/v2/packages/hello-plain/manifests/latest").status, 200);
    let (digest, json) = (manifest.header("docker-content-digest").to_owned(), manifest.json());
    let layer = json["layers"][0]["digest"].as_str().unwrap();
    let config = json["config"]["digest"].as_str().unwrap();
    let (hidden, missing) = ("packages/greet", "packages/gruet");
    assert_eq!(hidden.len(), missing.len());
    let evaluations = registry.logged("resolved");
    for rest in [
        "manifests/latest".to_owned(),
        "manifests/1.0".into(),
        format!("manifests/{digest}"),
        format!("blobs/{layer}"),
        format!("blobs/{config}"),
        "tags/list".into(),
        format!("referrers/{digest}"),
    ] {
        for method in ["GET", "HEAD"] {
            for authorization in [basic("alice"), "Basic Og==".into()] {
                let [a, b] = [hidden, missing].map(|name| {
                    whole(&ask(&registry, &authorization, method, &format!("/v2/{name}/{rest}")), name)
                });
                assert_eq!(a, b, "{method} {rest}");
                assert_eq!(a.0, if authorization == basic("alice") { 403 } else { 401 }, "{method} {rest}");
            }
        }
    }
    assert_eq!(registry.logged("resolved"), evaluations, "the evaluator was asked");
    // Through a name that she may read, she gets the blobs of that name's images alone.
    let blob = |rest: &str| get(&registry, "alice", &format!("/v2/packages/hello-plain/{rest}"));
    blob(&format!("blobs/{config}")).is_error(404, "BLOB_UNKNOWN");
    blob(&format!("manifests/{digest}")).is_error(404, "MANIFEST_UNKNOWN");
    // Lists have what she may read; near misses would be others' names.
    let names =
        |user| get(&registry, user, "/v2/_catalog").json()["repositories"].as_array().unwrap().clone();
    let all = names("root");
    assert!(all.contains(&"packages/greet".into()), "{all:?}");
    let hers = names("alice");
    assert!(hers.contains(&"packages/hello-plain".into()), "{hers:?}");
    assert!(hers.iter().all(|name| name.as_str().unwrap().starts_with("packages/hello-")), "{hers:?}");
    let near =
        get(&registry, "alice", "/v2/packages/hello-plan/manifests/latest").is_error(404, "NAME_UNKNOWN");
    assert_eq!(near, "there is no image packages/hello-plan");
    let near =
        get(&registry, "root", "/v2/packages/hello-plan/manifests/latest").is_error(404, "NAME_UNKNOWN");
    assert!(near.contains("hello-plain"), "{near}");
    let open = ask(&registry, "Basic Og==", "GET", "/v2/_catalog");
    assert_eq!(open.json()["repositories"], serde_json::json!([]));
}

#[test]
fn no_error_names_what_may_not_be_read() {
    let files = Files::new(&["alice", "root"], "allow build root *\nallow build alice packages/hello*\n");
    // What root is told, and what alice is.
    let both = |registry: &Registry, path: &str, status: u16, code: &str| {
        ["root", "alice"].map(|user| get(registry, user, path).is_error(status, code))
    };
    let flake = Flake::new("");
    flake.write_text(
        r#"{ outputs = _: let e = import <examples> { system = "x86_64-linux"; }; in {
            packages.x86_64-linux = throw "not on a monday";
            packages.aarch64-linux = { inherit (e.packages) hello-plain; };
          }; }"#,
    );
    let registry = files.registry(&flake, &[("SYSTEMS", "x86_64-linux,aarch64-linux")]);
    let path = "/v2/packages/hello-plai/manifests/latest";
    let [all, hers] = both(&registry, path, 422, "MANIFEST_UNKNOWN");
    for part in ["packages.x86_64-linux cannot", "not on a monday", "near misses: hello-plain"] {
        assert!(all.contains(part), "{all}");
    }
    assert_eq!(hers, "there is no image packages/hello-plai in what can be evaluated");

    let flake =
        Flake::of_scripts(&[("hello", "mkdir $out; cp $hello $out/web.tar; cp $hello $out/secret.tar")]);
    let registry = files.registry(&flake, &[]);
    let [all, hers] = both(&registry, "/v2/packages/hello/manifests/latest", 422, "MANIFEST_UNKNOWN");
    assert!(all.contains("it has: secret, web"), "{all}");
    assert_eq!(hers, "packages/hello is a folder of several images, and the request names none");

    let flake = GitFlake::new();
    let text = |name: &str| {
        format!(
            "{{ outputs = _: {{ packages.x86_64-linux.{name} = (import <examples> {{ system = \"x86_64-linux\"; \
             }}).packages.hello-plain; }}; }}"
        )
    };
    flake.commit(&text("hello-secret"));
    flake.git(&["tag", "v1"]);
    flake.commit(&text("hello-secre"));
    let registry = files.registry_of(&flake.reference(), &[]);
    let [all, hers] = both(&registry, "/v2/packages/hello-secre/manifests/v1", 404, "MANIFEST_UNKNOWN");
    assert!(all.contains("near misses: hello-secret"), "{all}");
    assert_eq!(hers, "packages/hello-secre has no such tag or manifest");
}

#[test]
fn anonymous_reads_what_is_open_and_is_asked_for_credentials_beyond() {
    let files = Files::new(&["root"], "allow read anonymous hello\nallow build root *\n");
    let flake = Flake::new("");
    let registry = files.registry(&flake, &[]);
    registry.get(LATEST).is_error(401, "UNAUTHORIZED");
    assert_eq!(registry.logged("resolved"), 0);
    assert_eq!(get(&registry, "root", LATEST).status, 200);
    let open = registry.get(LATEST);
    assert_eq!(open.status, 200);
    registry.get("/v2/hello-plain/manifests/latest").is_error(401, "UNAUTHORIZED");
    // Clients that send credentials only when `/v2/` asks for them would never do so.
    registry.get("/v2/").is_error(401, "UNAUTHORIZED");
    for nobody in ["Basic Og==", &password("anonymous", "whatever")] {
        assert_eq!(ask(&registry, nobody, "GET", "/v2/").status, 200);
        assert_eq!(ask(&registry, nobody, "GET", LATEST).body, open.body);
    }

    // Where nobody can log in, nobody is asked to.
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::write(&rules, "allow build anonymous hello\n").unwrap();
    let registry = Registry::start(&flake, &[("AUTH_RULES", rules.to_str().unwrap())]);
    assert_eq!(registry.get("/v2/").status, 200);
    assert_eq!(registry.get(LATEST).status, 200);
    registry.get("/v2/hello-plain/manifests/latest").is_error(401, "UNAUTHORIZED");
}

#[test]
fn files_are_read_again_on_sighup_and_a_broken_one_changes_nothing() {
    let files = Files::new(&["alice"], "allow read alice *\n");
    let registry = files.registry(&Flake::new(""), &[]);
    assert_eq!(get(&registry, "alice", "/v2/").status, 200);
    files.write("rules", "allow read bob *\nallow reed bob *\n");
    files.write("htpasswd", &format!("bob:{}\n", bcrypt::hash("bob-password", 4).unwrap()));
    registry.signal(1);
    let said = format!("AUTH_RULES: {}:2: \"reed\" is neither `read` nor `build`", files.path("rules"));
    eventually("it is said what is wrong", || registry.logged(&said) == 1);
    assert_eq!(get(&registry, "alice", "/v2/").status, 200);
    get(&registry, "bob", "/v2/").is_error(401, "UNAUTHORIZED");
    let (text, code) = registry.run_to_its_end(&["check"]);
    assert!(
        text.contains("BAD AUTH_RULES: ") && text.contains("rules:2: \"reed\"") && code == Some(1),
        "{text}"
    );
    let (text, code) = registry.run_to_its_end(&["serve"]);
    assert!(text.contains(&said) && code == Some(1), "{text}");

    files.write("rules", "allow read bob *\n");
    registry.signal(1);
    eventually("the files are in force", || registry.logged("anew: 1 users, 1 tokens, 1 rules") == 1);
    assert_eq!(get(&registry, "bob", "/v2/").status, 200);
    get(&registry, "alice", "/v2/").is_error(401, "UNAUTHORIZED");
    let (text, _) = registry.run_to_its_end(&["check"]);
    assert!(text.contains("ok  AUTH: 1 users, 1 tokens, 1 rules") && !text.contains("$2b$"), "{text}");
}

#[test]
fn a_client_has_no_more_work_and_connections_than_the_settings_say() {
    let files = Files::new(&["alice", "bob"], "allow build authenticated *\n");
    let flake = Flake::new("");
    let evaluator = Socket::of("EVALUATOR_SOCKET");
    let path = evaluator.path();
    let settings = [
        ("EVALUATOR_SOCKET", path.to_str().unwrap()),
        ("EVALUATION_TIMEOUT", "1h"),
        ("MAX_CLIENT_EVALUATIONS", "1"),
        ("PULL_WAIT", "1"),
    ];
    let registry = files.registry(&flake, &settings);
    evaluator.serve("silent", crate::socket::never_answers);
    let pull = |user, name| {
        let answer = get(&registry, user, &format!("/v2/{name}/manifests/latest"));
        assert_ne!(answer.header("retry-after"), "");
        answer.is_error(429, "TOOMANYREQUESTS")
    };
    assert!(pull("alice", "a").contains("still being evaluated"));
    let refused = pull("alice", "b");
    assert!(refused.contains("1 evaluations running or waiting (MAX_CLIENT_EVALUATIONS)"), "{refused}");
    // To wait for what is under way is nothing more, and others have their own.
    assert!(pull("alice", "a").contains("still being evaluated"));
    assert!(pull("bob", "b").contains("still being evaluated"));

    let flake = Flake::of_scripts(
        &["a", "b"].map(|name| (name, "echo it has begun >&2; sleep 100000; cp $hello $out")),
    );
    let registry = Registry::start(&flake, &[("MAX_CLIENT_BUILDS", "1"), ("PULL_WAIT", "1")]);
    let first = registry.manifest("a", "latest").is_error(429, "TOOMANYREQUESTS");
    eventually("the first is being built", || registry.logged("it has begun") == 1);
    let second = registry.manifest("b", "latest").is_error(429, "TOOMANYREQUESTS");
    assert!(second.contains("1 builds running or waiting (MAX_CLIENT_BUILDS)"), "{first} {second}");

    let registry = Registry::start(&flake, &[("MAX_CLIENT_CONNECTIONS", "2")]);
    let held = [(); 2].map(|()| TcpStream::connect(&registry.address).unwrap());
    let refused = registry.get("/v2/");
    let message = refused.is_error(429, "TOOMANYREQUESTS");
    assert!(message.contains("2 connections at a time (MAX_CLIENT_CONNECTIONS)"), "{message}");
    assert_eq!(refused.header("connection"), "close");
    drop(held);
    eventually("there is room again", || registry.get("/v2/").status == 200);
}

#[test]
fn passwords_over_plain_http_are_warned_of() {
    let files = Files::new(&["alice"], "allow read alice *\n");
    let registry = files.registry(&Flake::new(""), &[]);
    assert_eq!(registry.logged("is plain HTTP"), 0, "nobody else listens on the loopback interface");
    for (proxies, warnings) in [("", 1), ("127.0.0.1", 0)] {
        let mut command = registry.command(&["check"]);
        let output = command.env("LISTEN", "0.0.0.0:0").env("TRUSTED_PROXIES", proxies).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.matches("is plain HTTP").count(), warnings, "{text}");
    }
}
