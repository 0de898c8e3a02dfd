use crate::stub::{PATIENCE, Server, Stub, large_digest};
use forge_registry::{config::LogFormat, http::ServerLimits};
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};
use tracing_subscriber::{Layer, filter::LevelFilter, fmt::MakeWriter, layer::SubscriberExt};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Captured {
    /// What this thread logs at INFO and above, for as long as the guard lives; the tests' runtimes have no other.
    fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        let captured = Self::default();
        let writer = captured.clone();
        let lines = forge_registry::log::layer(LogFormat::Human, writer, false);
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(LevelFilter::INFO));
        (captured, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(Into::into).collect()
    }

    /// The line that comes once `n - 1` others have.
    async fn line(&self, n: usize) -> String {
        let wait = async {
            while self.lines().len() < n {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("a line");
        self.lines().swap_remove(n - 1)
    }
}

#[tokio::test]
async fn each_request_has_one_line_without_secrets() {
    let (log, _guard) = Captured::begin();
    let server = Server::start(ServerLimits::default()).await;
    let headers = ["Authorization: Basic secret", "User-Agent: test/1.0", "Cookie: secret"];
    let answer = server.ask("GET", "/v2/app/web/manifests/latest?token=secret", &headers).await;
    let line = log.line(1).await;
    let id = answer.header("x-request-id").unwrap();
    for part in [
        " INFO ",
        &format!("request={id} "),
        "client=127.0.0.1:",
        "method=GET",
        "name=\"app/web\"",
        "reference=\"latest\"",
        "status=200",
        "bytes=14",
        "ms=",
        "agent=\"test/1.0\"",
        "outcome=\"complete\"",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    server.ask("GET", "/healthz", &[]).await;
    server.ask("HEAD", "/nowhere", &[]).await;
    let line = log.line(2).await;
    assert!(line.contains("path=\"/nowhere\"") && line.contains("status=404 bytes=0"), "{line}");
    assert!(!log.lines().concat().contains("secret"));
}

#[tokio::test]
async fn a_response_that_is_cut_says_so() {
    let (log, _guard) = Captured::begin();
    let stub = Stub::new();
    let asked = stub.asked.clone();
    let server = Server::with(stub, ServerLimits::default(), PATIENCE).await;
    let mut client = server.connect().await;
    client.request("GET", &format!("/v2/a/blobs/{}", large_digest()), &[]).await;
    client.head().await.unwrap();
    drop(client);
    let line = log.line(1).await;
    assert!(line.contains("status=200") && line.contains("outcome=\"cut\""), "{line}");

    let mut client = server.connect().await;
    client.request("GET", "/v2/endless/manifests/latest", &[]).await;
    tokio::time::timeout(PATIENCE, asked.notified()).await.expect("a request");
    drop(client);
    let line = log.line(2).await;
    assert!(line.contains("name=\"endless\"") && line.contains("left before the answer"), "{line}");
}

#[tokio::test]
async fn a_request_that_cannot_be_read_has_a_line_as_well() {
    let (log, _guard) = Captured::begin();
    let server = Server::start(ServerLimits::default()).await;
    let mut client = server.connect().await;
    client.send(b"GET / HTTP/3.0\r\n\r\n").await;
    let answer = client.answer(false).await.unwrap();
    let line = log.line(1).await;
    let id = answer.header("x-request-id").unwrap();
    for part in [
        &format!("request={id} "),
        "client=127.0.0.1:",
        "status=400",
        &format!("bytes={}", answer.body.len()),
        "error=\"the request cannot be read: invalid HTTP version parsed\"",
        "outcome=\"complete\"",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[tokio::test]
async fn the_reason_of_an_internal_error_is_in_the_log() {
    let (log, _guard) = Captured::begin();
    let server = Server::start(ServerLimits::default()).await;
    let answer = server.get("/v2/buggy/manifests/latest").await;
    let line = log.line(1).await;
    let id = answer.header("x-request-id").unwrap();
    assert!(line.contains("ERROR") && line.contains(id) && line.contains("panic: secret"), "{line}");
}

/// Whatever a client puts into its request, it gets one line, which begins as ours do.
#[tokio::test]
async fn a_client_cannot_forge_lines() {
    let (log, _guard) = Captured::begin();
    let server = Server::start(ServerLimits::default()).await;
    let agent = "User-Agent: x\t2026-01-01T00:00:00Z  INFO request \" status=200";
    let paths = ["/v2/a%0a2026-01-01T00:00:00Z%20INFO/manifests/latest", "/x%1b[2J%e2%80%ae", "/%0d%0a"];
    for path in paths {
        let answer = server.ask("GET", path, &[agent]).await;
        assert!(answer.body.iter().all(|byte| matches!(byte, b' '..=b'~')), "{path}: {answer:?}");
    }
    let mut client = server.connect().await;
    client.send("GET /\u{202e} HTTP/1.1\r\nHost: \u{9b}\u{202e}x\r\n\r\n".as_bytes()).await;
    client.answer(false).await.expect("an answer");
    log.line(paths.len() + 1).await;
    let lines = log.lines();
    assert_eq!(lines.len(), paths.len() + 1, "{lines:?}");
    for line in lines {
        assert!(line.contains(" INFO request request="), "{line}");
        assert!(line.chars().all(|c| c == '\t' || (' '..='~').contains(&c)), "{line:?}");
    }
}
