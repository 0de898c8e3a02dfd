use crate::stub::{LARGE, PATIENCE, Server, large_digest};
use bytes::Bytes;
use forge_registry::http::ServerLimits;
use h2::{RecvStream, client::SendRequest};
use http::{Request, Response};
use std::time::Duration;
use tokio::{net::TcpStream, task::JoinHandle};

type Connection = (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>);

async fn connect(server: &Server) -> Connection {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn ask(sender: &SendRequest<Bytes>, method: &str, path: &str) -> Response<RecvStream> {
    let request =
        Request::builder().method(method).uri(format!("http://registry.test{path}")).body(()).unwrap();
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    tokio::time::timeout(PATIENCE, response).await.expect("an answer").unwrap()
}

/// The bytes that come before the end or the cut.
async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = tokio::time::timeout(PATIENCE, body.data()).await.expect("bytes or an end") {
        let chunk = chunk?;
        bytes.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok(bytes)
}

#[tokio::test]
async fn streams_are_served_side_by_side() {
    let server = Server::start(ServerLimits::default()).await;
    let (sender, _connection) = connect(&server).await;
    let large = format!("/v2/a/blobs/{}", large_digest());
    let (mut blob, slow, head, post) = tokio::join!(
        ask(&sender, "GET", &large),
        ask(&sender, "GET", "/v2/slow/manifests/latest"),
        ask(&sender, "HEAD", "/v2/a/manifests/latest"),
        ask(&sender, "POST", "/v2/a/blobs/uploads/"),
    );
    assert_eq!(
        (slow.status(), head.status(), post.status().as_u16()),
        (200.try_into().unwrap(), slow.status(), 405)
    );
    assert_eq!(head.headers()["content-length"], "14");
    assert_eq!(read(blob.body_mut()).await.unwrap().len() as u64, LARGE);
}

#[tokio::test]
async fn a_bug_in_one_stream_leaves_the_others_alone() {
    let server = Server::start(ServerLimits::default()).await;
    let (sender, _connection) = connect(&server).await;
    let (slow, buggy) = tokio::join!(
        ask(&sender, "GET", "/v2/slow/manifests/latest"),
        ask(&sender, "GET", "/v2/buggy/manifests/latest"),
    );
    assert_eq!((slow.status().as_u16(), buggy.status().as_u16()), (200, 500));
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused_in_so_many_words() {
    let limits = ServerLimits { max_header_bytes: 8192, max_headers: 20, ..ServerLimits::default() };
    let server = Server::start(limits).await;
    let (sender, _connection) = connect(&server).await;
    let large = Request::get("http://registry.test/v2/").header("x", "a".repeat(9000));
    let many = (0..21).fold(Request::get("http://registry.test/v2/"), |r, n| r.header("x", n));
    for request in [large, many] {
        let request = request.body(()).unwrap();
        let (response, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
        let mut response = tokio::time::timeout(PATIENCE, response).await.expect("an answer").unwrap();
        let body = read(response.body_mut()).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(response.status().as_u16(), 431);
        assert_eq!(body["errors"][0]["code"], "SIZE_INVALID");
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("MAX_HEADER_BYTES is 8192, MAX_HEADERS is 20"), "{message}");
    }
    assert_eq!(ask(&sender, "GET", "/v2/").await.status().as_u16(), 200);
}

/// Nothing of such a request reaches the registry, and frames leave no room for a reason.
#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_without_a_body() {
    let limits = ServerLimits { max_header_bytes: 8192, ..ServerLimits::default() };
    let server = Server::start(limits).await;
    let (sender, _connection) = connect(&server).await;
    let request = Request::get("http://registry.test/v2/").header("x", "a".repeat(40_000)).body(()).unwrap();
    let (response, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let mut response = tokio::time::timeout(PATIENCE, response).await.expect("an answer").unwrap();
    assert_eq!((response.status().as_u16(), read(response.body_mut()).await.unwrap().len()), (431, 0));

    for length in ["x", "3"] {
        let request =
            Request::get("http://registry.test/v2/").header("content-length", length).body(()).unwrap();
        let (response, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
        let refused = tokio::time::timeout(PATIENCE, response).await.expect("an answer").unwrap_err();
        assert!(refused.is_remote() && refused.is_reset(), "{length}: {refused}");
        assert_eq!(refused.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{length}");
    }
    // The connection and its other streams go on.
    assert_eq!(ask(&sender, "GET", "/v2/").await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_stream_that_is_given_no_window_is_cut() {
    let write_timeout = Duration::from_millis(150);
    let server = Server::start(ServerLimits { write_timeout, ..ServerLimits::default() }).await;
    let (sender, connection) = connect(&server).await;
    let _unread = ask(&sender, "GET", &format!("/v2/a/blobs/{}", large_digest())).await;
    let ended = tokio::time::timeout(PATIENCE, connection).await.expect("an end");
    let _ = ended.unwrap();
}

#[tokio::test]
async fn shutting_down_finishes_open_streams() {
    let mut server = Server::start(ServerLimits::default()).await;
    let (sender, connection) = connect(&server).await;
    let mut blob = ask(&sender, "GET", &format!("/v2/a/blobs/{}", large_digest())).await;
    server.stop();
    assert_eq!(read(blob.body_mut()).await.unwrap().len() as u64, LARGE);
    drop((sender, blob));
    assert_eq!(server.ended().await, 0);
    connection.await.unwrap().unwrap();
}
