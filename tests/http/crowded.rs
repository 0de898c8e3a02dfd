//! What happens at the limit of connections, by addresses of the loopback network.

use crate::stub::{Client, Server, large_digest};
use forge_registry::http::ServerLimits;
use h2::client::SendRequest;
use http::Request;
use std::{net::Ipv4Addr, time::Duration};
use tokio::net::{TcpSocket, TcpStream};

/// Limits under which nothing but a newcomer ends a connection.
fn limits(max_connections: u32) -> ServerLimits {
    let never = Duration::from_secs(3600);
    ServerLimits {
        max_connections,
        header_timeout: never,
        idle_timeout: never,
        write_timeout: never,
        ping_interval: never,
        ..ServerLimits::default()
    }
}

async fn connect(server: &Server, from: u8) -> Client {
    Client::of(stream(server, from).await)
}

async fn stream(server: &Server, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 3, from), 0).into()).unwrap();
    socket.connect(server.address).await.unwrap()
}

async fn ping(client: &mut Client) -> u16 {
    client.request("GET", "/v2/", &[]).await;
    client.answer(false).await.map_or(0, |answer| answer.status)
}

/// Connections of one address that hold half a request each.
async fn hold(server: &Server, from: u8, count: usize, half: &[u8]) -> Vec<Client> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut client = connect(server, from).await;
        client.send(half).await;
        held.push(client);
    }
    held
}

#[tokio::test]
async fn idle_connections_make_room_the_oldest_first() {
    let server = Server::start(limits(3)).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(connect(&server, 1).await);
    }
    // Not in the order in which they were opened.
    for n in [1, 0, 2] {
        assert_eq!(ping(&mut clients[n]).await, 200);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut newcomers = Vec::new();
    for (n, closed) in [1, 0, 2].into_iter().enumerate() {
        newcomers.push(connect(&server, 2 + n as u8).await);
        assert_eq!(ping(&mut newcomers[n]).await, 200);
        assert!(clients[closed].is_closed().await);
    }
}

/// Heads, first bytes of either version, bodies, and nothing at all.
#[tokio::test]
async fn whatever_is_half_sent_makes_room_for_another_address() {
    let halves: [&[u8]; 6] = [
        b"",
        b"G",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ",
        b"PRI * HTTP/2.0\r\n",
        b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
        b"nonsense\r\n\r\n",
    ];
    for half in halves {
        let server = Server::start(limits(40)).await;
        let held = [hold(&server, 1, 20, half).await, hold(&server, 2, 20, half).await];
        for _ in 0..10 {
            assert_eq!(ping(&mut connect(&server, 3).await).await, 200, "{half:?}");
        }
        drop(held);
    }
}

/// HTTP/2 connections that are idle and answer no GOAWAY, and some with half of the head of a request.
#[tokio::test]
async fn http2_connections_make_room_whether_they_take_leave_or_not() {
    let server = Server::start(limits(40)).await;
    let mut held = Vec::new();
    for n in 0..40 {
        // Preface, SETTINGS, and HEADERS of stream 1 for every other one, without END_HEADERS.
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        if n % 2 == 0 {
            bytes.extend(b"\0\0\x01\x01\0\0\0\0\x01\x82");
        }
        held.extend(hold(&server, 1 + n % 2, 1, &bytes).await);
    }
    for _ in 0..10 {
        assert_eq!(ping(&mut connect(&server, 3).await).await, 200);
    }
    drop(held);

    let server = Server::start(limits(40)).await;
    let mut held: Vec<(SendRequest<bytes::Bytes>, _)> = Vec::new();
    for n in 0..40 {
        let (mut sender, connection) = h2::client::handshake(stream(&server, 1 + n % 2).await).await.unwrap();
        let mut connection = Box::pin(connection);
        let request = Request::get("http://x/v2/").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let status = tokio::select! {
            response = response => response.unwrap().status(),
            _ended = &mut connection => panic!("the connection ended"),
        };
        assert_eq!(status.as_u16(), 200);
        // From here on nobody drives it.
        held.push((sender, connection));
    }
    for _ in 0..10 {
        assert_eq!(ping(&mut connect(&server, 3).await).await, 200);
    }
}

#[tokio::test]
async fn the_address_with_most_makes_room() {
    let server = Server::start(limits(30)).await;
    let mut few = hold(&server, 1, 5, b"").await;
    for client in &mut few {
        assert_eq!(ping(client).await, 200);
    }
    let _many = hold(&server, 2, 25, b"GET /v2/ HTTP/1.1\r\nX: ").await;
    let mut newcomers = Vec::new();
    for _ in 0..15 {
        newcomers.push(connect(&server, 3).await);
        assert_eq!(ping(newcomers.last_mut().unwrap()).await, 200);
    }
    // What they were before: they are idle for longer than all others.
    for client in &mut few {
        assert_eq!(ping(client).await, 200);
    }
}

/// Of either version: by HTTP/2 the last of a response waits in the server for the client's window, and not in the socket.
#[tokio::test]
async fn a_response_under_way_is_never_cut_for_a_newcomer() {
    let server = Server::start(limits(3)).await;
    let path = format!("/v2/a/blobs/{}", large_digest());
    let mut first = connect(&server, 1).await;
    first.request("GET", &path, &[]).await;
    let mut whole = first.head().await.unwrap();

    let (mut sender, connection) = h2::client::handshake(stream(&server, 1).await).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://x{path}")).header("range", "bytes=0-200000").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();

    for _ in 0..20 {
        assert_eq!(ping(&mut connect(&server, 2).await).await, 200);
    }
    let mut received = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("the rest");
        received += chunk.len();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        assert_eq!(ping(&mut connect(&server, 2).await).await, 200);
    }
    assert_eq!(received, 200_001);
    first.body(&mut whole).await;
    assert_eq!(whole.length(), Some(whole.body.len() as u64));
}

#[tokio::test]
async fn five_thousand_idle_connections_do_not_end_accepting() {
    let server = Server::start(limits(64)).await;
    let mut idle = Vec::new();
    for n in 0..5000 {
        let mut client = connect(&server, 1 + (n % 5) as u8).await;
        assert_eq!(ping(&mut client).await, 200, "connection {n}");
        idle.push(client);
        // Those of them that the server has closed are not kept open by this side either.
        if idle.len() > 256 {
            idle.remove(0);
        }
    }
    assert_eq!(ping(&mut connect(&server, 9).await).await, 200);
}
