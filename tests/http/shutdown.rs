use crate::stub::{LARGE, Server, Stub, large_digest};
use forge_registry::http::ServerLimits;
use std::time::Duration;
use tokio::net::TcpStream;

fn large() -> String {
    format!("/v2/a/blobs/{}", large_digest())
}

#[tokio::test]
async fn a_running_download_is_finished_and_nothing_new_begins() {
    let mut server = Server::start(ServerLimits::default()).await;
    let mut idle = server.connect().await;
    idle.request("GET", "/v2/", &[]).await;
    idle.answer(false).await.unwrap();
    let mut client = server.connect().await;
    client.request("GET", &large(), &[]).await;
    let mut waiting = server.connect().await;
    waiting.request("GET", "/v2/slow/manifests/latest", &[]).await;
    // The requests have arrived when the first response begins and the second has had time to.
    let head = client.head().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;

    server.stop();
    assert!(idle.is_closed().await);
    let address = server.address;
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(waiting.answer(false).await.expect("an answer").status, 200);
    let mut rest = Vec::new();
    assert_eq!(head.length(), Some(LARGE));
    while !client.is_closed_after(&mut rest).await {}
    assert_eq!(rest.len() as u64, LARGE);
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn what_is_not_finished_in_time_is_cut() {
    let grace = Duration::from_millis(200);
    let mut server = Server::with(Stub::new(), ServerLimits::default(), grace).await;
    let mut client = server.connect().await;
    client.request("GET", &large(), &[]).await;
    client.head().await.unwrap();
    server.stop();
    assert_eq!(server.ended().await, 1);
}

#[tokio::test]
async fn a_server_without_connections_ends_at_once() {
    let mut server = Server::start(ServerLimits::default()).await;
    server.stop();
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn a_client_that_has_just_connected_still_gets_its_answer() {
    let mut server = Server::start(ServerLimits::default()).await;
    let mut client = server.connect().await;
    // It has been accepted when a later one has been answered.
    let mut other = server.connect().await;
    other.request("GET", "/v2/", &[]).await;
    other.answer(false).await.unwrap();
    server.stop();
    assert!(other.is_closed().await);
    client.request("GET", "/v2/", &[]).await;
    assert_eq!(client.answer(false).await.expect("an answer").status, 200);
    assert!(client.is_closed().await);
    assert_eq!(server.ended().await, 0);
}
