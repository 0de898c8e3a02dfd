//! Clients that look for signatures before they pull, as users who may only read.

use super::{Folder, Outcome, outcome, podman::Podman};
use crate::{
    access::{Files, get},
    socket::{Socket, never_answers},
    support::Flake,
};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A key that nothing is signed with.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEttkAs83LrS3lx6A4kh5V5yikD9EK
zXcB+qGA4lx/anlK6Tc8GG7opbnnFsM9jUULFlfHBwZbKnflszsRiiMIkw==
-----END PUBLIC KEY-----
";

#[test]
fn podman_looks_for_a_signature_and_pulls_what_the_index_has() {
    let files = Files::new(&["alice", "root"], "allow build root *\nallow read alice *\n");
    let (flake, evaluator) = (Flake::new(""), Socket::of("EVALUATOR_SOCKET"));
    let path = evaluator.path();
    let settings = [("EVALUATOR_SOCKET", path.to_str().unwrap()), ("EVALUATION_TIMEOUT", "1h")];
    let registry = files.registry(&flake, &settings);
    let built = get(&registry, "root", "/v2/packages/hello-plain/manifests/latest");
    assert_eq!(built.status, 200, "{}", built.text());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    evaluator.serve("silent", move |stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        never_answers(stream)
    });

    let dir = Folder::new();
    let configuration = dir.path().join(".config/containers/registries.d");
    fs::create_dir_all(&configuration).unwrap();
    let attachments = "default-docker:\n  use-sigstore-attachments: true\n";
    fs::write(configuration.join("default.yaml"), attachments).unwrap();
    let key = dir.join("cosign.pub");
    fs::write(&key, PUBLIC_KEY).unwrap();
    let policies = [
        ("open", r#"{ "type": "insecureAcceptAnything" }"#.to_owned()),
        ("signed", format!(r#"{{ "type": "sigstoreSigned", "keyPath": "{key}" }}"#)),
    ];
    for (name, requirement) in &policies {
        let policy = format!(r#"{{ "default": [ {requirement} ] }}"#);
        fs::write(dir.path().join(name), policy).unwrap();
    }
    let image = format!("{}/packages/hello-plain:latest", registry.address);
    let home = format!("HOME={}", dir.path().display());
    let arguments = |policy: &str| {
        let policy = format!("--signature-policy={}", dir.join(policy));
        ["pull", "--tls-verify=false", "--creds=alice:alice-password", &policy, &image].map(str::to_owned)
    };
    let pull = |policy: &str| -> Outcome {
        let podman = Podman::new();
        let arguments = arguments(policy);
        podman.podman_in(&[&home], &arguments.each_ref().map(String::as_str))
    };
    pull("open").expect();
    let signature = built.header("docker-content-digest").replace(':', "-") + ".sig";
    let looked_for = format!("reference=\"{signature}\" status=404");
    assert!(registry.logged(&looked_for) > 0, "{}", registry.log());
    // Where a signature is required, it is said that there is none.
    let printed = pull("signed").expect_failure().to_owned();
    assert!(printed.contains("A signature was required, but no signature exists"), "{printed}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the evaluator was asked");

    // skopeo, which asks as CRI-O does.
    let policy = dir.join("open");
    let (from, to) = (format!("docker://{image}"), format!("oci:{}", dir.join("layout:x")));
    let registries = configuration.display().to_string();
    let own = ["--policy", &policy, "--registries.d", &registries];
    let copy = ["copy", "--src-tls-verify=false", "--src-creds=alice:alice-password", &from, &to];
    outcome("skopeo", [&own[..], &copy].concat()).expect();
    assert_eq!(registry.logged(&looked_for), 3, "{}", registry.log());
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the evaluator was asked");
}
