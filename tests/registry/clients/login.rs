//! Logging in, with every client, and what each prints when that does not suffice.

use super::{Folder, Outcome, containerd::Containerd, docker::Docker, outcome, podman::Podman};
use crate::{
    access::{Files, TOKEN},
    support::{Flake, Registry},
};

/// Who may build, who may read what was built, and what anybody may read.
const RULES: &str = "allow read anonymous packages/hello-flat\nallow build root *\nallow build ci *\nallow read alice packages/*\n";

struct Guarded {
    registry: Registry,
    _flake: Flake,
    _files: Files,
}

impl Guarded {
    fn start() -> Self {
        let (flake, files) = (Flake::new(""), Files::new(&["alice", "root"], RULES));
        let registry = files.registry(&flake, &[("AUTH_MAX_FAILURES", "1000")]);
        Self { registry, _flake: flake, _files: files }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/packages/{name}:latest", self.registry.address)
    }
}

/// `login` as a user with a password; `pull` as whoever has logged in.
fn logs_in_and_pulls(
    guarded: &Guarded,
    login: impl Fn(&str, &str) -> Outcome,
    pull: impl Fn(&str) -> Outcome,
    not_logged_in: &str,
) {
    let image = guarded.image("hello-plain");
    let printed = pull(&image).expect_failure().to_owned();
    assert!(printed.contains(not_logged_in), "{printed}");
    for (user, password) in [("alice", "wrong"), ("eve", "alice-password")] {
        let printed = login(user, password).expect_failure().to_owned();
        assert!(!printed.contains("Succeeded"), "{printed}");
    }
    assert!(login("alice", "alice-password").expect().contains("Login Succeeded"));
    // Not built yet, and she may only read.
    let printed = pull(&image).expect_failure().to_owned();
    assert!(printed.contains("has not been built, and user alice may not have it built"), "{printed}");
    let other = format!("{}/applications/demo/web:latest", guarded.registry.address);
    let printed = pull(&other).expect_failure().to_owned();
    assert!(printed.contains("user alice may not read applications/demo/web"), "{printed}");

    assert!(login("token", TOKEN).expect().contains("Login Succeeded"));
    pull(&image).expect();
    pull(&guarded.image("hello-flat")).expect();
    assert!(login("alice", "alice-password").expect().contains("Login Succeeded"));
    pull(&guarded.image("hello-flat")).expect();
    for user in ["user=\"alice\"", "user=\"ci\""] {
        assert!(guarded.registry.logged(user) > 0);
    }
}

#[test]
fn podman_logs_in_and_pulls() {
    let (guarded, podman, dir) = (Guarded::start(), Podman::new(), Folder::new());
    let (logins, none) = (dir.join("logins.json"), dir.join("none.json"));
    for file in [&logins, &none] {
        std::fs::write(file, "{}").unwrap();
    }
    let pull = |logins: &str, image: &str| {
        podman.podman(&["pull", "--tls-verify=false", "--authfile", logins, image])
    };
    let login = |user: &str, password: &str| {
        let address = &guarded.registry.address;
        podman.podman(&[
            "login",
            "--tls-verify=false",
            "--authfile",
            &logins,
            "-u",
            user,
            "-p",
            password,
            address,
        ])
    };
    logs_in_and_pulls(
        &guarded,
        login,
        |image| pull(&logins, image),
        "whoever has not logged in may not read",
    );
    // Without a login it says that it is nobody, and gets what nobody may.
    pull(&none, &guarded.image("hello-flat")).expect();
}

#[test]
fn skopeo_logs_in_and_copies() {
    let (guarded, dir) = (Guarded::start(), Folder::new());
    let (logins, none) = (dir.join("logins.json"), dir.join("none.json"));
    for file in [&logins, &none] {
        std::fs::write(file, "{}").unwrap();
    }
    let copy = |logins: &str, image: &str| {
        let (from, to) = (format!("docker://{image}"), format!("oci:{}", dir.join("layout:x")));
        outcome("skopeo", ["copy", "--src-tls-verify=false", "--authfile", logins, &from, &to])
    };
    let login = |user: &str, password: &str| {
        let address = &guarded.registry.address;
        outcome(
            "skopeo",
            ["login", "--tls-verify=false", "--authfile", &logins, "-u", user, "-p", password, address],
        )
    };
    logs_in_and_pulls(
        &guarded,
        login,
        |image| copy(&logins, image),
        "whoever has not logged in may not read",
    );
    copy(&none, &guarded.image("hello-flat")).expect();
}

#[test]
fn docker_logs_in_and_pulls() {
    let (guarded, docker, dir) = (Guarded::start(), Docker::start(), Folder::new());
    let (logins, address) = (dir.join("logins"), &guarded.registry.address);
    let login = |user: &str, password: &str| {
        docker.docker(&["--config", &logins, "login", "-u", user, "-p", password, address])
    };
    let pull = |image: &str| docker.docker(&["--config", &logins, "pull", image]);
    logs_in_and_pulls(&guarded, login, pull, "no basic auth credentials");
    // It has to be told that it is nobody.
    docker.docker(&["--config", &logins, "logout", address]).expect();
    assert!(pull(&guarded.image("hello-flat")).expect_failure().contains("no basic auth credentials"));
    login("anonymous", "anonymous").expect();
    pull(&guarded.image("hello-flat")).expect();
}

#[test]
fn containerd_pulls_with_a_password_a_token_and_a_header() {
    let (guarded, containerd, dir) = (Guarded::start(), Containerd::start(), Folder::new());
    let image = guarded.image("hello-plain");
    let pull = |options: &[&str], image: &str| {
        let arguments = ["images", "pull", "--snapshotter=native"];
        containerd.ctr(&[&arguments, options, &[image]].concat())
    };
    let as_user = |login: &str, image: &str| pull(&["--plain-http", "--user", login], image);
    assert!(pull(&["--plain-http"], &image).expect_failure().contains("401"));
    assert!(as_user("alice:wrong", &image).expect_failure().contains("401"));
    let printed = as_user("alice:alice-password", &image).expect_failure().to_owned();
    assert!(printed.contains("user alice may not have it built"), "{printed}");
    as_user(&format!("token:{TOKEN}"), &image).expect();
    as_user("alice:alice-password", &image).expect();

    let address = &guarded.registry.address;
    let hosts = dir.path().join("hosts").join(address);
    std::fs::create_dir_all(&hosts).unwrap();
    let text = format!(
        "[host.\"http://{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  \
         [host.\"http://{address}\".header]\n    Authorization = \"Bearer {TOKEN}\"\n"
    );
    std::fs::write(hosts.join("hosts.toml"), text).unwrap();
    pull(&["--hosts-dir", &dir.join("hosts")], &guarded.image("hello-flat")).expect();
    // What anybody may read needs nothing.
    pull(&["--plain-http"], &guarded.image("hello-flat")).expect();
}

#[test]
fn containerd_with_a_stale_password_locks_nobody_out() {
    let (flake, files) = (Flake::new(""), Files::new(&["alice", "bob"], "allow build authenticated *\n"));
    let registry = files.registry(&flake, &[("AUTH_MAX_FAILURES", "3"), ("AUTH_FAILURE_WINDOW", "1h")]);
    let containerd = Containerd::start();
    let image = format!("{}/packages/hello-plain:latest", registry.address);
    let pull = |login: &str| {
        let options = ["images", "pull", "--snapshotter=native", "--plain-http", "--user", login];
        containerd.ctr(&[&options[..], &[&image]].concat())
    };
    for _ in 0..4 {
        assert!(pull("alice:former").expect_failure().contains("401"));
    }
    let sent = registry.logged("the user name, the password or the token is wrong");
    assert!(sent > 4, "containerd sent the stale password {sent} times");
    pull("alice:alice-password").expect();
    // Guesses are limited as before, and who was right is let in.
    assert!(pull("bob:1").expect_failure().contains("401"));
    // containerd repeats the third wrong one as well, and prints what it got last.
    assert!(pull("bob:2").expect_failure().contains("429"));
    assert!(pull("bob:bob-password").expect_failure().contains("429"));
    pull("alice:alice-password").expect();
    pull(&format!("token:{TOKEN}")).expect();
}
