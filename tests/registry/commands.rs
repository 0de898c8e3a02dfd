//! The program's commands, and whether it is well.

use crate::{
    clients::root,
    support::{Flake, Registry},
};
use forge_registry::nix::strip_ansi;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

#[test]
fn check_names_every_part_and_what_to_do_about_those_that_fail() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    let (text, code) = registry.run_to_its_end(&["check"]);
    assert_eq!(code, Some(0), "{text}");
    for part in
        ["STATE_DIR", "NIX_STORE_DIR", "nix-daemon of Nix 2.", "EVALUATOR_SOCKET", ": Nix 2.", "FLAKE"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }

    registry.set("NIX_DAEMON_SOCKET", "/nowhere/nix");
    registry.set("EVALUATOR_SOCKET", "/nowhere/evaluator");
    registry.set("CATALOG", "/nowhere/catalog.json");
    registry.set("STATE_DIR", "/proc/nowhere");
    registry.set("NIX_STORE_DIR", "/nowhere/store");
    let (text, code) = registry.run_to_its_end(&["check"]);
    assert_eq!(code, Some(1), "{text}");
    for name in ["NIX_DAEMON_SOCKET", "EVALUATOR_SOCKET", "CATALOG", "STATE_DIR", "NIX_STORE_DIR"] {
        let advice = text.lines().skip_while(|line| !line.contains(&format!("BAD {name}: "))).nth(1);
        assert!(advice.is_some_and(|advice| !advice.trim().is_empty()), "{name} in {text}");
    }
    assert!(text.ends_with("5 to mend\n"), "{text}");
}

#[test]
fn check_looks_at_every_address_and_leaves_none_taken() {
    let flake = Flake::new("");
    let folder = tempfile::Builder::new().prefix("check.").tempdir_in("/tmp").unwrap();
    let [images, metrics, other] = ["images", "metrics", "file"].map(|name| folder.path().join(name));
    let mut registry = Registry::start(&flake, &[("METRICS_LISTEN", metrics.to_str().unwrap())]);
    let addresses = |registry: &Registry| {
        let (text, code) = registry.run_to_its_end(&["check"]);
        let lines = text.lines().filter(|line| line.contains("LISTEN: ") || line.contains("ADMIN_SOCKET: "));
        (lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>(), code, text.clone())
    };
    let (tcp, admin) = (registry.address.clone(), registry.state.join("admin.socket"));
    let (metrics, admin) = (format!("unix:{}", metrics.display()), format!("unix:{}", admin.display()));
    let (lines, code, text) = addresses(&registry);
    let used =
        |name: &str, address: &str| format!("ok  {name}: {address} is in use, by this registry if it runs");
    let expected = [("LISTEN", &tcp), ("METRICS_LISTEN", &metrics), ("ADMIN_SOCKET", &admin)];
    assert_eq!(
        (lines, code),
        (expected.map(|(name, address)| used(name, address)).to_vec(), Some(0)),
        "{text}"
    );

    registry.stop();
    registry.set("LISTEN", images.to_str().unwrap());
    let (lines, code, text) = addresses(&registry);
    let images = format!("unix:{}", images.display());
    let expected = [("LISTEN", &images), ("METRICS_LISTEN", &metrics), ("ADMIN_SOCKET", &admin)];
    let free = expected.map(|(name, address)| format!("ok  {name}: {address} is free")).to_vec();
    assert_eq!((lines, code), (free, Some(0)), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    fs::write(&other, "kept").unwrap();
    registry.set("ADMIN_SOCKET", other.to_str().unwrap());
    registry.set("LISTEN", "unix:/nowhere/socket");
    let (lines, code, text) = addresses(&registry);
    assert!(lines[0].starts_with("BAD LISTEN: unix:/nowhere/socket: ") && code == Some(1), "{text}");
    assert!(lines[2].starts_with("BAD ADMIN_SOCKET: ") && lines[2].contains("is no socket"), "{text}");
    assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
}

#[test]
fn build_prints_the_digests_that_a_pull_gets_beside_a_running_registry_or_without_one() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    let digests = |registry: &Registry, name: &str| {
        let output = registry.command(&["build", name]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let beside = digests(&registry, "packages/hello");
    let digest = registry.pull("packages/hello", "latest");
    assert!(beside.contains(&format!("{digest} application/vnd.oci.image.manifest.v1+json")), "{beside}");
    registry.stop();
    for name in ["packages/hello", "packages/hello:1.0.0"] {
        assert_eq!(digests(&registry, name), beside);
    }
}

#[test]
fn build_tells_of_each_step_a_line_where_there_is_no_terminal() {
    let flake = Flake::new("slowSeconds = \"2\";");
    let mut registry = Registry::start(&flake, &[("LOG_LEVEL", "INFO")]);
    registry.stop();
    let output = registry.command(&["build", "packages/slow"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let mut lines = text.lines();
    for beginning in [
        "evaluating packages/slow:latest",
        "evaluated in ",
        "building docker-image-slow.tar.gz",
        "built 1 in ",
        "reading",
        "read ",
    ] {
        assert!(lines.any(|line| line.starts_with(beginning)), "{beginning:?} in its place in {text}");
    }
    assert!(!text.contains(['\r', '\x1b']), "{text:?}");
    // The second time the answer is there.
    let again = registry.command(&["build", "packages/slow"]).output().unwrap();
    assert_eq!((again.stdout, again.stderr.as_slice()), (output.stdout, &b""[..]));
}

#[test]
fn build_shows_a_bar_on_a_terminal_with_the_log_above_it() {
    let flake = Flake::new("slowSeconds = \"2\";");
    let mut registry = Registry::start(&flake, &[]);
    registry.stop();
    let build = registry.command(&["build", "packages/slow"]);
    let program = build.get_program().to_str().unwrap();
    let mut command = Command::new("script");
    command.args(["-qec", &format!("stty cols 120; {program} build packages/slow"), "/dev/null"]);
    command.env_clear().envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output =
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "xterm").output().unwrap();
    let raw = String::from_utf8(output.stdout).unwrap();
    assert!(raw.contains("] 0/1 building docker-image-slow.tar.gz"), "{raw}");
    assert!(raw.contains("evaluating packages/slow:latest"), "{raw}");
    // Of a bar that was drawn over nothing remains: what does are lines, each whole.
    let lines: Vec<String> = strip_ansi(&raw).lines().map(|line| line.trim().to_owned()).collect();
    let log = lines.iter().find(|line| line.contains("0 of 2 seconds have passed")).expect(&raw);
    let end = "DEBUG 0 of 2 seconds have passed derivation=\"docker-image-slow.tar.gz\"";
    assert!(log.starts_with("20") && log.ends_with(end), "{log}");
    for beginning in ["evaluated in ", "built 1 in ", "read ", "sha256:"] {
        assert!(lines.iter().any(|line| line.starts_with(beginning)), "{beginning:?} in {lines:#?}");
    }
}

#[test]
fn build_leaves_nothing_in_the_state_folder_of_another_user() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    let digest = registry.pull("packages/hello", "latest");
    registry.stop();
    let own = |owner: &str| {
        let status = root("chown").args(["-R", owner]).arg(&registry.state).status().unwrap();
        assert!(status.success());
    };
    let files = || {
        let output = root("find").arg(&registry.state).args(["-printf", "%p %U %T@\n"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    own("65534:65534");
    let before = files();
    // As root, where there is a service's folder that only it can write to.
    let output = registry.command(&["build", "packages/hello"]).output().unwrap();
    let after = files();
    own(&fs::metadata("/proc/self").unwrap().uid().to_string());
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains(&digest), "{output:?}");
    assert!(before.contains("index.redb 65534 "), "{before}");
    assert_eq!(after, before);
}

#[test]
fn output_that_nobody_reads_ends_a_command_quietly() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[("LOG_LEVEL", "INFO")]);
    registry.stop();
    for arguments in [&["check"][..], &["build", "packages/hello"], &["--help"], &["--version"]] {
        // Closed before the first line.
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = registry.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains("panic") && !text.contains("pipe"), "{arguments:?}: {text}");
        if !arguments[0].starts_with("--") {
            assert_eq!(output.status.code(), Some(141), "{arguments:?}: {text}");
        }
    }
    // Nor does the log.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = registry.command(&["build", "packages/hello-zstd"]).stderr(writer).output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"sha256:"), "{output:?}");
}

#[test]
fn a_build_that_fails_says_why() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    registry.stop();
    for (name, part) in [
        ("packages/failing", "hello.c:3:5: error: expected expression before return"),
        ("packages/helo", "near misses: hello"),
        ("packages//x", "cannot stand in a repository name"),
        ("hello:a b", "is not a tag"),
    ] {
        let (text, code) = registry.run_to_its_end(&["build", name]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(part), "{name}: {text}");
    }
}

#[test]
fn help_documents_every_setting_and_version_is_the_packages() {
    let flake = Flake::new("");
    let registry = Registry::start(&flake, &[]);
    let (help, _) = registry.run_to_its_end(&["--help"]);
    let example = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example")).unwrap();
    let names: Vec<&str> =
        example.lines().filter_map(|l| l.strip_prefix('#')?.split_once('=')).map(|(n, _)| n).collect();
    assert!(names.len() > 30);
    for name in names {
        assert!(help.contains(&format!("  {name}")), "{name} in {help}");
    }
    let version = format!("forge-registry {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(registry.run_to_its_end(&["--version"]).0, version);
}

#[test]
fn readiness_is_that_of_the_daemon_and_the_evaluator_and_health_is_not() {
    let flake = Flake::new("");
    let mut registry = Registry::start(&flake, &[]);
    assert_eq!(registry.get("/readyz").status, 200);
    registry.stop();
    for (setting, part) in [("NIX_DAEMON_SOCKET", "nix-daemon"), ("EVALUATOR_SOCKET", "evaluator")] {
        registry.set("NIX_DAEMON_SOCKET", &crate::support::testbed("NIX_DAEMON_SOCKET"));
        registry.set(setting, "/nowhere/socket");
        registry.run();
        let message = registry.get("/readyz").is_error(503, "UNAVAILABLE");
        assert!(
            message.starts_with(&format!("{part}: ")) && message.contains("/nowhere/socket"),
            "{message}"
        );
        assert_eq!(registry.get("/healthz").status, 200);
        registry.stop();
    }
}
