//! Certificates, made with openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// An authority of its own, whose certificate is `ca.pem`, and what it has signed.
pub struct Authority {
    pub dir: TempDir,
}

pub fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 3 -subj /CN=authority";
        openssl(dir.path(), &ca.split(' ').collect::<Vec<_>>());
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same, as a setting.
    pub fn setting(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Signs `name.pem`, with the key `name.key`, for this machine; valid for so many days from now.
    pub fn sign(&self, name: &str, days: &str) {
        self.sign_for(name, days, "DNS:localhost,IP:127.0.0.1,IP:::1");
    }

    /// The same, for other names and addresses.
    pub fn sign_for(&self, name: &str, days: &str, names: &str) {
        let dir = self.dir.path();
        let [key, request, certificate] = ["key", "csr", "pem"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/CN={name}");
        let curve = "ec_paramgen_curve:P-256";
        openssl(
            dir,
            &[
                "req", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-keyout", &key, "-out", &request,
                "-subj", &subject,
            ],
        );
        fs::write(dir.join("ext"), format!("subjectAltName={names}\n")).unwrap();
        openssl(
            dir,
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                days,
                "-extfile",
                "ext",
                "-out",
                &certificate,
            ],
        );
    }

    /// Puts one file in the place of another.
    pub fn install(&self, from: &str, to: &str) {
        let new = self.path("new");
        fs::copy(self.path(from), &new).unwrap();
        fs::rename(new, self.path(to)).unwrap();
    }
}
