//! Where a request ends, and for whom it is: what two readers of the same bytes could take for different requests is refused
//! (RFC 9112, sections 2.2, 3.2, 5 and 6).

use crate::stub::{Answer, Client, Server};
use forge_registry::http::ServerLimits;

async fn ask(server: &Server, request: &[u8]) -> (Client, Answer) {
    let mut client = server.connect().await;
    client.send(request).await;
    let answer = client.answer(false).await.expect("an answer");
    (client, answer)
}

#[tokio::test]
async fn a_request_has_one_host() {
    let server = Server::start(ServerLimits::default()).await;
    for (head, reason) in [
        ("GET /v2/ HTTP/1.1\r\n", "no Host header"),
        ("GET /v2/ HTTP/1.1\r\nX-Host: x\r\n", "no Host header"),
        ("GET /v2/ HTTP/1.1\r\nHost: x\r\nhost: x\r\n", "more than one Host header"),
        ("GET /v2/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n", "more than one Host header"),
        ("GET /v2/ HTTP/1.0\r\nHost: x\r\nHost: y\r\n", "more than one Host header"),
        ("GET http://x/v2/ HTTP/1.1\r\n", "no Host header"),
        ("GET /v2/ HTTP/1.1\r\nHost: x y\r\n", "not a host"),
        ("GET /v2/ HTTP/1.1\r\nHost: a@x\r\n", "not a host"),
        ("GET /v2/ HTTP/1.1\r\nHost: x:8o\r\n", "not a host"),
        ("GET /v2/ HTTP/1.1\r\nHost: x, y z\r\n", "not a host"),
    ] {
        let (mut client, answer) = ask(&server, format!("{head}\r\n").as_bytes()).await;
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{head:?}");
        let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(reason), "{head:?}: {message}");
        assert!(client.is_closed().await, "{head:?}");
    }
    for head in [
        "GET /v2/ HTTP/1.0\r\n",
        "GET /v2/ HTTP/1.0\r\nHost: x\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: registry.test:6443\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: [::1]:6443\r\n",
        "GET /v2/ HTTP/1.1\r\nHost:\r\n",
        "GET http://x/v2/ HTTP/1.1\r\nHost: x\r\n",
    ] {
        assert_eq!(ask(&server, format!("{head}\r\n").as_bytes()).await.1.status, 200, "{head:?}");
    }
}

/// "A recipient MAY recognize a single LF as a line terminator and ignore any preceding CR": of the start line and of
/// headers. A CR that no LF follows is neither that nor white space.
#[tokio::test]
async fn a_line_ends_with_a_line_feed_and_with_nothing_else() {
    let server = Server::start(ServerLimits::default()).await;
    for request in [
        "GET /v2/ HTTP/1.1\nHost: x\n\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\n\r\n",
        "\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\n",
    ] {
        assert_eq!(ask(&server, request.as_bytes()).await.1.status, 200, "{request:?}");
    }
    for request in [
        // Bare CR: in the start line, a name, a value, at the end of a line, and in front of one.
        "GET /v2/\r HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v2/ HTTP/1.1\rHost: x\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nA\r: b\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\rX: y\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\n\rA: b\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n",
        // Lines that continue others (obs-fold), white space before the first and before a colon.
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\r\n c: d\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\n\tc: d\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    ] {
        let (mut client, answer) = ask(&server, request.as_bytes()).await;
        assert_eq!(answer.status, 400, "{request:?}");
        assert!(client.is_closed().await, "{request:?}");
    }
}

/// The second request of each is one for a reader that ends the first one's body elsewhere.
#[tokio::test]
async fn a_body_ends_in_one_place() {
    let server = Server::start(ServerLimits::default()).await;
    let next = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let post =
        |headers: &str, body: &str| format!("POST /v2/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}{next}");
    // Both lengths: that of the chunks counts, and the connection ends.
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let (mut client, answer) = ask(&server, post(headers, "0\r\n\r\n").as_bytes()).await;
        assert_eq!((answer.status, answer.header("connection")), (405, Some("close")), "{headers:?}");
        assert!(client.is_closed().await, "{headers:?}");
    }
    // Refused with the head, or, where the body is wrong, the end of the connection.
    for (headers, body) in [
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "12345"),
        ("Content-Length: 5, 6\r\n", "12345"),
        ("Content-Length: +5\r\n", "12345"),
        ("Content-Length: 0x5\r\n", "12345"),
        ("Transfer-Encoding: chunked\r\n", "5\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\n12345\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0x5\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "-5\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;a\nb\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "ffffffffffffffff0\r\n12345\r\n0\r\n\r\n"),
    ] {
        let (mut client, answer) = ask(&server, post(headers, body).as_bytes()).await;
        assert!(matches!(answer.status, 400 | 405), "{headers:?} {body:?}: {answer:?}");
        assert!(client.is_closed().await, "{headers:?} {body:?}: another answer");
    }
}
