//! Requests that are not HTTP, or too large, are answered like any other: with an error body that gives the reason.

use crate::stub::{Answer, Client, LARGE, SMALL, Server, large_digest};
use forge_registry::{http::ServerLimits, oci::Digest};

fn limits() -> ServerLimits {
    ServerLimits { max_header_bytes: 128 * 1024, max_headers: 20, ..ServerLimits::default() }
}

/// The next answer, which must be complete, and the last of its connection.
async fn refusal(client: &mut Client) -> Answer {
    let answer = client.answer(false).await.expect("an answer");
    assert_eq!(answer.length(), Some(answer.body.len() as u64));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
    let error = answer.json()["errors"][0].clone();
    assert_eq!(error["detail"]["requestId"].as_str(), answer.header("x-request-id"));
    assert_eq!(error["message"].as_str(), Some(answer.reason.as_str()));
    assert!(client.is_closed().await, "the connection goes on");
    answer
}

#[tokio::test]
async fn each_is_told_what_is_wrong() {
    let server = Server::start(limits()).await;
    let get = |headers: &str| format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes();
    let table: Vec<(Vec<u8>, u16, &str, &str)> = vec![
        (b"\x00\x01\x02\x03\r\n\r\n".to_vec(), 400, "UNKNOWN", "invalid HTTP method"),
        (b"G@T /v2/ HTTP/1.1\r\n\r\n".to_vec(), 400, "UNKNOWN", "invalid HTTP method"),
        (b"GET /v2/\r\n\r\n".to_vec(), 400, "UNKNOWN", "invalid"),
        (b"GET /v2/ HTTP/3.0\r\n\r\n".to_vec(), 400, "UNKNOWN", "invalid HTTP version"),
        (b"GET /v2/ HTTP/2.0\r\n\r\n".to_vec(), 400, "UNKNOWN", "invalid HTTP version"),
        (b"GET /v2/\x07 HTTP/1.1\r\n\r\n".to_vec(), 400, "UNKNOWN", "invalid URI"),
        (get("X: a\x01b\r\n"), 400, "UNKNOWN", "invalid HTTP header"),
        (get("A B: c\r\n"), 400, "UNKNOWN", "invalid HTTP header"),
        (get("Content-Length: 1x\r\n"), 400, "UNKNOWN", "invalid content-length"),
        (get("Content-Length: -1\r\n"), 400, "UNKNOWN", "invalid content-length"),
        (get("Content-Length: 1\r\nContent-Length: 2\r\n"), 400, "UNKNOWN", "invalid content-length"),
        (get("Transfer-Encoding: gzip\r\n"), 400, "UNKNOWN", "transfer-encoding"),
        (get(&"X: a\r\n".repeat(30)), 431, "SIZE_INVALID", "MAX_HEADERS is 20"),
        (get(&format!("X: {}\r\n", "a".repeat(200_000))), 431, "SIZE_INVALID", "MAX_HEADER_BYTES is 131072"),
        (
            format!("GET /v2/{} HTTP/1.1\r\n\r\n", "a".repeat(70_000)).into(),
            414,
            "SIZE_INVALID",
            "URI too long",
        ),
    ];
    for (request, status, code, reason) in table {
        let shown = String::from_utf8_lossy(&request[..request.len().min(100)]).into_owned();
        let mut client = server.connect().await;
        client.send(&request).await;
        let answer = refusal(&mut client).await;
        let error = &answer.json()["errors"][0];
        assert_eq!((answer.status, error["code"].as_str()), (status, Some(code)), "{shown:?}");
        assert!(error["message"].as_str().unwrap().contains(reason), "{shown:?}: {answer:?}");
    }
}

#[tokio::test]
async fn the_requests_before_it_are_answered_first() {
    let server = Server::start(limits()).await;
    let small = Digest::of(SMALL);
    let mut client = server.connect().await;
    let good = format!("GET /v2/a/blobs/{small} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send(format!("{good}{good}nonsense\r\n\r\n").as_bytes()).await;
    for _ in 0..2 {
        assert_eq!(client.answer(false).await.unwrap().body, SMALL);
    }
    assert_eq!(refusal(&mut client).await.status, 400);

    // Even one that the client has not taken when the next is found to be unreadable, and an answer without a body.
    for (method, length) in [("GET", LARGE), ("HEAD", 0)] {
        let mut client = server.connect().await;
        client.request(method, &format!("/v2/a/blobs/{}", large_digest()), &[]).await;
        client.send(b"nonsense\r\n\r\n").await;
        let answer = client.answer(method == "HEAD").await.unwrap();
        assert_eq!((answer.status, answer.body.len() as u64), (200, length));
        assert_eq!(refusal(&mut client).await.status, 400);
    }

    let mut client = server.connect().await;
    client.send(b"GET /v2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\nnonsense\r\n\r\n").await;
    assert_eq!(client.answer(false).await.unwrap().status, 200);
    assert_eq!(refusal(&mut client).await.status, 400);
}

/// A connection that is closed with unread bytes is reset, and the answer lost, if the client is still sending.
#[tokio::test]
async fn a_client_that_goes_on_sending_reads_the_answer() {
    let server = Server::start(ServerLimits::default()).await;
    let mut client = server.connect().await;
    client.send(format!("GET /v2/ HTTP/1.1\r\nX: {}", "a".repeat(500_000)).as_bytes()).await;
    assert_eq!(refusal(&mut client).await.status, 431);
}
