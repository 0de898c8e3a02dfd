use crate::stub::{Client, LARGE, Server, large_digest};
use forge_registry::http::ServerLimits;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(150);

fn large() -> String {
    format!("/v2/a/blobs/{}", large_digest())
}

async fn ping(client: &mut Client) -> u16 {
    client.request("GET", "/v2/", &[]).await;
    client.answer(false).await.map_or(0, |answer| answer.status)
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = Server::start(ServerLimits::default()).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert_eq!(ping(&mut client).await, 200);
    }
    // All at once, answered in order.
    let requests = ["/v2/", "/v2/a/manifests/nope", "/v2/a/manifests/latest", "/healthz"];
    let all: String = requests.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    client.send(all.as_bytes()).await;
    for status in [200, 404, 200, 200] {
        assert_eq!(client.answer(false).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn what_writes_is_refused_without_reading_all_of_it() {
    let server = Server::start(ServerLimits::default()).await;
    let mut client = server.connect().await;
    for (method, path) in
        [("POST", "/v2/a/blobs/uploads/"), ("PUT", "/v2/a/manifests/x"), ("PATCH", "/v2/a/x")]
    {
        client.request(method, path, &["Content-Length: 5"]).await;
        client.send(b"hello").await;
        let answer = client.answer(false).await.expect("the connection is still of use");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(answer.json()["errors"][0]["code"], "UNSUPPORTED");
    }
    client.request("PUT", "/v2/a/manifests/x", &["Content-Length: 1000000000000"]).await;
    let answer = client.answer(false).await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (405, Some("close")));
    assert!(client.is_closed().await);

    let mut client = server.connect().await;
    client.request("PUT", "/v2/a/manifests/x", &["Content-Length: 9", "Expect: 100-continue"]).await;
    assert_eq!(client.answer(false).await.unwrap().status, 405, "rather than 100");
}

#[tokio::test]
async fn headers_have_a_limit() {
    let limits = ServerLimits { max_header_bytes: 8192, max_headers: 20, ..ServerLimits::default() };
    let server = Server::start(limits).await;
    let mut client = server.connect().await;
    client.request("GET", "/v2/", &[&format!("X: {}", "a".repeat(10_000))]).await;
    assert_eq!(client.answer(false).await.unwrap().status, 431);
    let mut client = server.connect().await;
    client.request("GET", "/v2/", &vec!["X: a"; 30]).await;
    assert_eq!(client.answer(false).await.unwrap().status, 431);
}

/// Docker with the containerd image store tries TLS first, and plain HTTP only when the answer begins with `HTTP`.
#[tokio::test]
async fn a_tls_greeting_is_answered_in_plain_http() {
    let server = Server::start(ServerLimits::default()).await;
    let mut client = server.connect().await;
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    client.send(&[0; 506]).await;
    assert_eq!(client.answer(false).await.expect("an answer").status, 400);
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_let_go() {
    let server = Server::start(ServerLimits { header_timeout: SHORT, ..ServerLimits::default() }).await;
    for beginning in ["", "PRI * HT", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-"] {
        let mut client = server.connect().await;
        client.send(beginning.as_bytes()).await;
        assert!(client.is_closed().await, "{beginning:?}");
    }
    // Likewise with a second request; but a pause before it is no fault.
    let mut client = server.connect().await;
    assert_eq!(ping(&mut client).await, 200);
    tokio::time::sleep(2 * SHORT).await;
    assert_eq!(ping(&mut client).await, 200);
    client.send(b"GET /v2/").await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let server = Server::start(ServerLimits { idle_timeout: SHORT, ..ServerLimits::default() }).await;
    let mut client = server.connect().await;
    client.request("GET", "/v2/slow/manifests/latest", &[]).await;
    assert_eq!(client.answer(false).await.expect("an answer").status, 200);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_request_head() {
    let limits = ServerLimits { header_timeout: SHORT, idle_timeout: SHORT, ..ServerLimits::default() };
    let server = Server::start(limits).await;
    let mut client = server.connect().await;
    client.request("GET", "/v2/slow/manifests/latest", &[]).await;
    assert_eq!(client.answer(false).await.unwrap().status, 200);
}

#[tokio::test]
async fn above_the_connection_limit_clients_wait() {
    let server = Server::start(ServerLimits { max_connections: 1, ..ServerLimits::default() }).await;
    let mut first = server.connect().await;
    first.request("GET", &large(), &[]).await;
    assert_eq!(first.head().await.unwrap().status, 200);
    let mut second = server.connect().await;
    second.request("GET", "/v2/", &[]).await;
    let waited = tokio::time::timeout(SHORT, second.answer(false)).await;
    assert!(waited.is_err(), "served beyond the limit: {waited:?}");
    drop(first);
    assert_eq!(second.answer(false).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut() {
    let server = Server::start(ServerLimits { write_timeout: SHORT, ..ServerLimits::default() }).await;
    let mut client = server.connect().await;
    client.request("GET", &large(), &[]).await;
    // Twice the limit is the longest that it takes; there is no sign of it on this side, so wait long enough.
    tokio::time::sleep(10 * SHORT).await;
    let answer = client.answer(false).await.unwrap();
    assert_eq!(answer.length(), Some(LARGE));
    assert!((answer.body.len() as u64) < LARGE, "the whole blob came");
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_served() {
    let server = Server::start(ServerLimits { write_timeout: 4 * SHORT, ..ServerLimits::default() }).await;
    let mut client = server.connect().await;
    client.request("GET", &large(), &["Range: bytes=0-16777215"]).await;
    let mut received = client.head().await.unwrap().body.len();
    let mut chunk = vec![0; 1 << 20];
    loop {
        tokio::time::sleep(SHORT / 3).await;
        let n = tokio::io::AsyncReadExt::read(&mut client.stream, &mut chunk).await.unwrap();
        received += n;
        if n == 0 || received >= (16 << 20) - (1 << 16) {
            break;
        }
    }
    assert!(received >= (16 << 20) - (1 << 16), "cut after {received} bytes");
}
