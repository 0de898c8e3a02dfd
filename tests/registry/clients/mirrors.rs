//! Clients that know the registry by another name, as `docs/mirrors.md` says: the blocks there are what is tried here.

use super::{Client, Daemon, Folder, containerd::Containerd, outcome, podman::Podman};
use crate::{
    certificates::Authority,
    support::{Flake, Registry},
};
use std::{fs, net::TcpListener, path::Path, process::Command};

const NAME: &str = "images.example.org";
const IMAGE: &str = "images.example.org/packages/hello:latest";
const PRINTS: &str = "Hello from forge-registry";

/// The block of the documentation that has `part` in it, with the registry's address and other places.
fn documented(part: &str, replaced: &[(&str, &str)]) -> String {
    let text = include_str!("../../../docs/mirrors.md");
    let mut blocks = text.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap().1);
    let block = blocks.find(|block| block.contains(part)).unwrap_or_else(|| panic!("no block has {part}"));
    replaced.iter().fold(block.to_owned(), |block, (from, to)| {
        assert!(block.contains(from), "{from} is not in\n{block}");
        block.replace(from, to)
    })
}

#[test]
fn containerd_pulls_from_a_mirror() {
    let flake = Flake::new("");
    let (registry, containerd, dir) = (Registry::start(&flake, &[]), Containerd::start(), Folder::new());
    let hosts = documented("[host.", &[("127.0.0.1:6443", &registry.address)]);
    fs::create_dir(dir.path().join(NAME)).unwrap();
    fs::write(dir.path().join(NAME).join("hosts.toml"), hosts).unwrap();
    let folder = dir.path().display().to_string();
    let pull = |image: &str| {
        containerd.ctr(&["images", "pull", "--hosts-dir", &folder, "--snapshotter=native", image])
    };
    pull(IMAGE).expect();
    let failed = pull(&IMAGE.replace("hello", "failing"));
    assert!(failed.expect_failure().contains("expected expression before return"), "{}", failed.text);
    assert!(containerd.run(IMAGE, &[]).expect().contains(PRINTS));
}

#[test]
fn podman_pulls_by_another_name_and_by_none() {
    let flake = Flake::new("");
    let (registry, podman, dir) = (Registry::start(&flake, &[]), Podman::new(), Folder::new());
    let file = dir.path().join("registries.conf");
    fs::write(&file, documented("[[registry]]", &[("127.0.0.1:6443", &registry.address)])).unwrap();
    let variable = format!("CONTAINERS_REGISTRIES_CONF={}", file.display());
    let pull = |image: &str| podman.podman_in(&[&variable], &["pull", image]);
    pull(IMAGE).expect();
    assert!(podman.run(IMAGE, &[]).expect().contains(PRINTS));
    pull("packages/greet").expect();
}

#[test]
fn podman_pulls_through_nginx_with_https_and_the_log_has_its_address() {
    let (flake, authority, dir, podman) = (Flake::new(""), Authority::new(), Folder::new(), Podman::new());
    authority.sign("nginx", "2");
    let registry = Registry::start(&flake, &[("TRUSTED_PROXIES", "127.0.0.2")]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("localhost:{}", free.port());
    let server = documented(
        "proxy_pass",
        &[
            ("listen 443 ssl", &format!("listen {free} ssl")),
            ("/etc/nginx/images.example.org.pem", &authority.setting("nginx.pem")),
            ("/etc/nginx/images.example.org.key", &authority.setting("nginx.key")),
            // From another address than clients have, who are not trusted.
            ("127.0.0.1:6443;", &format!("{}; proxy_bind 127.0.0.2;", registry.address)),
        ],
    );
    let folder = dir.path().display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    let settings = format!(
        "daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;\nevents {{}}\n\
         http {{ access_log off;\n{temporary}{server}}}\n"
    );
    fs::write(dir.path().join("nginx.conf"), settings).unwrap();
    let file = dir.join("nginx.conf");
    let certificates = dir.path().join("certs");
    fs::create_dir(&certificates).unwrap();
    fs::copy(authority.path("ca.pem"), certificates.join("ca.crt")).unwrap();
    let url = format!("https://{address}/v2/");
    let log = dir.join("error.log");
    let _nginx = Daemon::start(Path::new(&dir.join("nginx.log")), program(), ["-e", &log, "-c", &file])
        .until(|| outcome("curl", ["--silent", "--fail", "--insecure", &url]));

    let image = format!("{address}/packages/hello:latest");
    let certificates = certificates.display().to_string();
    podman.podman(&["pull", "--cert-dir", &certificates, &image]).expect();
    assert!(podman.run(&image, &[]).expect().contains(PRINTS));
    let fields = ["status=200", "method=GET", "name=\"packages/hello\"", "client=127.0.0.1 "];
    let log = registry.log();
    assert!(log.lines().any(|line| fields.iter().all(|field| line.contains(field))), "{log}");
}

/// Debian has it in a folder for administrators.
fn program() -> &'static str {
    let is_there = Command::new("nginx").arg("-v").output().is_ok();
    if is_there { "nginx" } else { "/usr/sbin/nginx" }
}
