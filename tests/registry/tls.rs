//! HTTPS: what is spoken, who may connect, and how a certificate is replaced. Unix sockets, too.

use crate::{
    certificates::Authority,
    support::{Flake, PATIENCE, Registry, eventually, layers, sha256},
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// A registry that speaks HTTPS.
struct Site {
    registry: Registry,
    address: String,
    authority: Authority,
    _flake: Flake,
}

impl Site {
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::with(settings, "")
    }

    fn with(settings: &[(&str, &str)], arguments: &str) -> Self {
        let (authority, flake) = (Authority::new(), Flake::new(arguments));
        for name in ["one", "two", "client"] {
            authority.sign(name, "2");
        }
        authority.install("one.pem", "served.pem");
        authority.install("one.key", "served.key");
        let [certificate, key, ca] =
            ["served.pem", "served.key", "ca.pem"].map(|name| authority.setting(name));
        let tls = [("TLS_LISTEN", "127.0.0.1:0"), ("TLS_CERTIFICATE", &*certificate), ("TLS_KEY", &*key)];
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, if *value == "CA" { &*ca } else { *value }))
            .collect();
        let registry = Registry::start(&flake, &[&tls, &*settings].concat());
        let address = registry.https_address();
        Self { registry, address, authority, _flake: flake }
    }

    /// What curl prints; none if it fails.
    fn curl(&self, path: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--cacert", &self.authority.setting("ca.pem")])
            .args(arguments)
            .arg(format!("https://{}{path}", self.address))
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What openssl finds out about a handshake, whose certificate it verifies.
    fn handshake(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &self.address,
                "-verify_return_error",
                "-CAfile",
                &self.authority.setting("ca.pem"),
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Whose certificate new connections get.
    fn subject(&self) -> String {
        let (_, text) = self.handshake(&[]);
        let line = text.lines().find_map(|line| line.strip_prefix("subject=CN = "));
        line.unwrap_or_else(|| panic!("{text}\n{}", self.registry.log())).to_owned()
    }

    /// A connection that has been accepted, and has sent nothing yet.
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Connections are accepted in their order.
        assert!(self.curl("/healthz", &[]).is_some());
        stream
    }

    /// Speaks TLS from the handshake on.
    fn client(&self, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority.path("ca.pem")).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(client, stream)
    }

    /// Reloads, and waits until that is done.
    fn reload(&self, logs: &str) {
        let before = self.registry.logged(logs);
        self.registry.signal(1);
        eventually("it is reloaded", || self.registry.logged(logs) > before);
    }
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let site = Site::new(&[]);
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (accepted, text) = site.handshake(&[version]);
        assert!(accepted && text.contains(&format!("New, {name}")), "{text}");
    }
    let (accepted, text) = site.handshake(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(!accepted && text.contains("no peer certificate available"), "{text}");
    eventually("it is refused", || site.registry.logged("DEBUG the TLS handshake failed") == 1);
    assert_eq!(site.curl("/healthz", &[]).as_deref(), Some("ok\n"));
}

#[test]
fn http_2_and_http_1_1_are_negotiated() {
    let site = Site::new(&[]);
    for (protocol, version) in [("h2", "--http2"), ("http/1.1", "--http1.1")] {
        let (_, text) = site.handshake(&["-alpn", protocol]);
        assert!(text.contains(&format!("ALPN protocol: {protocol}")), "{text}");
        let printed =
            site.curl("/v2/", &[version, "--output", "/dev/null", "--write-out", "%{http_version}"]);
        assert_eq!(printed.as_deref(), Some(protocol.trim_start_matches('h').trim_start_matches("ttp/")));
    }
    assert!(!site.handshake(&["-alpn", "smtp"]).0);
}

#[test]
fn a_session_is_resumed_until_the_files_are_read_again() {
    let site = Site::new(&[]);
    let session = site.authority.setting("session");
    for version in ["-tls1_2", "-tls1_3"] {
        // Tickets of TLS 1.3 come with the answer.
        let ask = |arguments: &[&str]| {
            let mut child = Command::new("openssl")
                .args(["s_client", "-connect", &site.address, "-ign_eof", version])
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            child.stdin.take().unwrap().write_all(request).unwrap();
            String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
        };
        assert!(ask(&["-sess_out", &session]).contains("New, TLS"));
        let again = ask(&["-sess_in", &session]);
        assert!(again.contains("Reused, TLS") && again.contains("200 OK"), "{again}");
        site.reload("INFO certificate: ");
        let anew = ask(&["-sess_in", &session]);
        assert!(anew.contains("New, TLS") && anew.contains("200 OK"), "{anew}");
    }
}

#[test]
fn plain_http_and_tls_and_a_unix_socket_are_served_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut site = Site::new(&[("LISTEN_MODE", "0600")]);
    site.registry.stop();
    // The port that it had, and the socket.
    let plain = site.registry.address.clone();
    site.registry.address = format!("{plain},unix:{}", path.display());
    site.registry.set("TLS_LISTEN", &site.address);
    site.registry.run();
    site.registry.address = plain;
    eventually("all of it listens", || site.registry.logged("listening on https://") == 2);
    assert_eq!(site.registry.get("/healthz").status, 200);
    assert!(site.curl("/healthz", &[]).is_some());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    site.registry.stop();
    assert!(!path.exists());
}

#[test]
fn whoever_speaks_the_wrong_protocol_is_told_so() {
    let site = Site::new(&[]);
    let mut stream = TcpStream::connect(&site.address).unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("this is https, and the request came in plain HTTP"), "{answer}");

    let output = Command::new("openssl")
        .args(["s_client", "-connect", &site.registry.address])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let line = "this is plain HTTP, and the client speaks TLS";
    eventually("that is logged", || site.registry.logged(line) == 1);
}

#[test]
fn a_handshake_has_an_end_and_those_that_fail_are_told_at_debug() {
    let site = Site::new(&[("HEADER_TIMEOUT", "1")]);
    let mut silent = TcpStream::connect(&site.address).unwrap();
    let mut begun = TcpStream::connect(&site.address).unwrap();
    begun.write_all(&[22, 3, 1]).unwrap();
    // Meanwhile others are served.
    assert!(site.curl("/healthz", &[]).is_some());
    for stream in [&mut silent, &mut begun] {
        assert_eq!(stream.read(&mut [0; 100]).unwrap_or(0), 0, "it was answered");
    }
    let line = "the TLS handshake took longer than HEADER_TIMEOUT";
    eventually("both are told", || site.registry.logged(line) == 2);
    let mut broken = TcpStream::connect(&site.address).unwrap();
    broken.write_all(&[22; 100]).unwrap();
    eventually("it fails", || site.registry.logged("DEBUG the TLS handshake failed") == 1);
}

#[test]
fn a_handshake_that_a_stop_comes_into_leads_to_an_answer_and_no_wait() {
    const LONG: &str = "1h";
    let settings = [("SHUTDOWN_GRACE", LONG), ("HEADER_TIMEOUT", LONG), ("IDLE_TIMEOUT", LONG)];
    let mut site = Site::new(&settings);
    let stream = site.connect();
    site.registry.signal(15);
    eventually("nothing new is accepted", || TcpStream::connect(&site.address).is_err());
    let mut client = site.client(stream);
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok\n"), "{answer}");
    assert!(site.registry.wait().success());
}

#[test]
fn a_handshake_takes_from_the_time_for_the_first_request() {
    let site = Site::new(&[("HEADER_TIMEOUT", "5")]);
    let first = site.connect();
    let pause = || std::thread::sleep(Duration::from_millis(300));
    pause();
    let second = TcpStream::connect(&site.registry.address).unwrap();
    assert_eq!(site.registry.get("/healthz").status, 200);
    pause();
    let clients = [&first, &second].map(|stream| format!("client={} ", stream.local_addr().unwrap()));
    let mut client = site.client(first);
    client.conn.complete_io(&mut client.sock).unwrap();
    let closed = || -> Vec<usize> {
        let log = site.registry.log();
        let closed =
            log.lines().filter_map(|line| line.split_once("connection closed ")).map(|(_, rest)| rest);
        closed.filter_map(|rest| clients.iter().position(|client| rest.contains(client))).collect()
    };
    eventually("both are closed", || closed().len() == 2);
    assert_eq!(closed(), [0, 1], "the one that came first has the first end");
}

#[test]
fn a_certificate_is_replaced_while_a_download_goes_on() {
    let site = Site::with(&[], "largeMiB = 64;");
    let digest = layers(&site.registry.manifest("packages/large", "latest")).remove(1);
    let path = format!("/v2/packages/large/blobs/{digest}");
    for version in ["--http1.1", "--http2"] {
        assert_eq!(site.subject(), "one");
        let mut download = Command::new("curl")
            .args(["--silent", "--show-error", "--no-buffer", "--limit-rate", "1G", version, "--cacert"])
            .args([site.authority.setting("ca.pem"), format!("https://{}{path}", site.address)])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut body = vec![0; 1 << 20];
        let mut stdout = download.stdout.take().unwrap();
        // The rest does not fit on the way to whoever does not read.
        stdout.read_exact(&mut body).unwrap();
        site.authority.install("two.key", "served.key");
        site.authority.install("two.pem", "served.pem");
        site.reload("certificate: ");
        assert_eq!(site.subject(), "two");
        stdout.read_to_end(&mut body).unwrap();
        assert!(download.wait().unwrap().success());
        assert_eq!(sha256(&body), digest, "{version}");
        site.authority.install("one.key", "served.key");
        site.authority.install("one.pem", "served.pem");
        site.reload("certificate: ");
    }
}

#[test]
fn files_that_cannot_be_used_leave_the_old_certificate_in_force() {
    let mut site = Site::new(&[]);
    fs::write(site.authority.path("empty"), "").unwrap();
    for (file, by, problem) in [
        ("served.pem", "empty", "it holds no certificate"),
        ("served.pem", "two.pem", "it is not the key of TLS_CERTIFICATE="),
        ("served.key", "empty", "it holds no private key"),
    ] {
        site.authority.install(by, file);
        site.reload("not reloaded, the last good certificate stays: TLS_");
        assert!(site.registry.log().contains(problem), "{}", site.registry.log());
        assert_eq!(site.subject(), "one");
        for file in ["served.pem", "served.key"] {
            site.authority.install(&file.replace("served", "one"), file);
        }
    }
    site.reload("INFO certificate: ");
    // A start has nothing to fall back on.
    site.registry.stop();
    site.authority.install("two.pem", "served.pem");
    let (text, code) = site.registry.run_to_its_end(&[]);
    let line =
        format!("TLS_KEY={}: it is not the key of TLS_CERTIFICATE=", site.authority.setting("served.key"));
    assert!(text.contains(&line) && code == Some(1), "{text}");
    let key = fs::read_to_string(site.authority.path("one.key")).unwrap();
    assert!(!site.registry.log().contains(key.lines().nth(1).unwrap()));
}

#[test]
fn clients_need_a_certificate_of_the_authority_where_that_is_asked_for() {
    let other = Authority::new();
    other.sign("client", "2");
    for (auth, without) in [("required", false), ("optional", true)] {
        let site = Site::new(&[("TLS_CLIENT_CA", "CA"), ("TLS_CLIENT_AUTH", auth)]);
        let with = |authority: &Authority| {
            let [certificate, key] = ["client.pem", "client.key"].map(|name| authority.setting(name));
            site.curl("/healthz", &["--cert", &certificate, "--key", &key]).is_some()
        };
        assert_eq!(site.curl("/healthz", &[]).is_some(), without, "{auth}");
        assert!(with(&site.authority), "{auth}: {}", site.registry.log());
        assert!(!with(&other), "{auth}: a stranger");
    }
}

#[test]
fn another_authority_of_clients_holds_from_a_reload_on() {
    let other = Authority::new();
    other.sign("client", "2");
    let site = Site::new(&[("TLS_CLIENT_CA", "CA"), ("TLS_CLIENT_AUTH", "required")]);
    // The certificate of the server stays what it is.
    site.authority.install("ca.pem", "of-server.pem");
    let with = |authority: &Authority| {
        let [certificate, key] = ["client.pem", "client.key"].map(|name| authority.setting(name));
        let trusted = site.authority.setting("of-server.pem");
        site.curl("/healthz", &["--cert", &certificate, "--key", &key, "--cacert", &trusted]).is_some()
    };
    assert!(with(&site.authority) && !with(&other));
    fs::copy(other.path("ca.pem"), site.authority.path("ca.pem")).unwrap();
    site.reload("INFO certificate: ");
    assert!(!with(&site.authority) && with(&other), "{}", site.registry.log());
}

#[test]
fn check_looks_at_the_certificate_and_warns_before_clients_do() {
    let mut site = Site::new(&[]);
    fs::set_permissions(site.authority.path("served.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let (text, _) = site.registry.run_to_its_end(&["check"]);
    assert!(text.contains("ok  TLS_CERTIFICATE: localhost, 127.0.0.1, ::1, until "), "{text}");
    fs::set_permissions(site.authority.path("served.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let (text, code) = site.registry.run_to_its_end(&["check"]);
    assert!(text.contains("BAD TLS_KEY: ") && text.contains("(mode 644)") && code == Some(1), "{text}");
    site.authority.sign("old", "-1");
    site.authority.install("old.pem", "served.pem");
    site.authority.install("old.key", "served.key");
    let (text, code) = site.registry.run_to_its_end(&["check"]);
    assert!(
        text.contains("BAD TLS_CERTIFICATE: ") && text.contains("has expired") && code == Some(1),
        "{text}"
    );
    // It serves all the same: a client that does not look at the time is better off.
    site.reload(" WARN TLS_CERTIFICATE=");
    site.registry.stop();
    site.registry.set("TLS_LISTEN", "");
    let (text, code) = site.registry.run_to_its_end(&[]);
    assert!(text.contains("nothing listens for HTTPS: set TLS_LISTEN") && code == Some(1), "{text}");
}

/// Silent, or with half of a ClientHello: what has been accepted and encrypts nothing yet makes room as well.
#[test]
fn handshakes_that_do_not_end_make_room_for_another_address() {
    let site = Site::new(&[("MAX_CONNECTIONS", "32"), ("HEADER_TIMEOUT", "1h")]);
    let mut held = Vec::new();
    for n in 0..64 {
        let mut stream = TcpStream::connect(&site.address).unwrap();
        if n % 2 == 0 {
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
        }
        held.push(stream);
    }
    for _ in 0..5 {
        let answer = site.curl("/healthz", &["--interface", "127.0.3.1"]);
        assert_eq!(answer.as_deref(), Some("ok\n"));
    }
}
