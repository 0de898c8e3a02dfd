//! Every client pulls over HTTPS once it has the authority's certificate where it looks for it, and not before.

use super::{Client, Folder, Outcome, containerd::Containerd, docker::Docker, outcome, podman::Podman};
use crate::{
    certificates::Authority,
    support::{Flake, Registry},
};
use std::{fs, process::Command};

/// A registry, and folders in which clients find whom to trust: `certs.d/HOST:PORT/ca.crt` and `hosts.toml`.
struct Site {
    registry: Registry,
    address: String,
    dir: Folder,
    _flake: Flake,
}

impl Site {
    fn new() -> Self {
        let (authority, flake) = (Authority::new(), Flake::new(""));
        // Docker trusts everybody on the loopback interface.
        let addresses = Command::new("hostname").arg("-I").output().unwrap().stdout;
        let addresses = String::from_utf8(addresses).unwrap();
        let host = addresses.split_whitespace().find(|a| !a.contains(':')).unwrap_or("127.0.0.1").to_owned();
        authority.sign_for("registry", "2", &format!("IP:{host}"));
        let [certificate, key] = ["registry.pem", "registry.key"].map(|name| authority.setting(name));
        let listen = format!("{host}:0");
        let registry = Registry::start(
            &flake,
            &[("TLS_LISTEN", &listen), ("TLS_CERTIFICATE", &certificate), ("TLS_KEY", &key)],
        );
        let address = registry.https_address();
        let dir = Folder::new();
        let certs = dir.path().join("certs.d").join(&address);
        fs::create_dir_all(&certs).unwrap();
        fs::copy(authority.path("ca.pem"), certs.join("ca.crt")).unwrap();
        let hosts = format!(
            "server = \"https://{address}\"\n[host.\"https://{address}\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = {:?}\n",
            certs.join("ca.crt")
        );
        fs::write(certs.join("hosts.toml"), hosts).unwrap();
        fs::create_dir(dir.path().join("nobody")).unwrap();
        Self { registry, address, dir, _flake: flake }
    }

    fn image(&self) -> String {
        format!("{}/packages/hello:latest", self.address)
    }

    /// The folder for this registry.
    fn trusted(&self) -> String {
        format!("{}/{}", self.dir.join("certs.d"), self.address)
    }

    /// Pulls without and with the certificate.
    fn pulls(&self, pull: impl Fn(bool) -> Outcome) {
        let printed = pull(false);
        assert!(printed.expect_failure().contains("certificate signed by unknown authority"), "{printed:?}");
        pull(true).expect();
        assert!(self.registry.logged(" method=GET name=\"packages/hello\"") > 0, "{}", self.registry.log());
    }

    fn runs(&self, client: &dyn Client) {
        let printed = client.run(&self.image(), &[]).expect().to_owned();
        assert!(printed.contains("Hello from forge-registry"), "{printed}");
    }
}

#[test]
fn podman_pulls_over_https() {
    let (site, podman) = (Site::new(), Podman::new());
    let [nobody, trusted, image] = [site.dir.join("nobody"), site.trusted(), site.image()];
    site.pulls(|trusts| {
        podman.podman(&["pull", "--cert-dir", if trusts { &trusted } else { &nobody }, &image])
    });
    site.runs(&podman);
}

#[test]
fn skopeo_copies_over_https() {
    let site = Site::new();
    let [nobody, trusted] = [site.dir.join("nobody"), site.trusted()];
    let [from, to] = [format!("docker://{}", site.image()), format!("oci:{}:x", site.dir.join("layout"))];
    site.pulls(|trusts| {
        outcome("skopeo", ["copy", "--src-cert-dir", if trusts { &trusted } else { &nobody }, &from, &to])
    });
}

#[test]
fn containerd_pulls_over_https() {
    let (site, containerd) = (Site::new(), Containerd::start());
    let [nobody, trusted, image] = [site.dir.join("nobody"), site.dir.join("certs.d"), site.image()];
    site.pulls(|trusts| {
        let hosts = if trusts { &trusted } else { &nobody };
        containerd.ctr(&["images", "pull", "--hosts-dir", hosts, "--snapshotter=native", &image])
    });
    site.runs(&containerd);
}

#[test]
fn docker_pulls_over_https() {
    let site = Site::new();
    let [nobody, trusted] =
        ["nobody", "certs.d"].map(|name| Docker::start_trusting(Some(&site.dir.join(name))));
    site.pulls(|trusts| if trusts { &trusted } else { &nobody }.pull(&site.image()));
    site.runs(&trusted);
}
