use crate::stub::{Answer, PATIENCE, SMALL, Server, Stub, large_digest};
use forge_registry::{http::ServerLimits, oci::Digest};
use std::io::{Read, Write};

/// Several chunks, and a part of one.
const LENGTH: u64 = (5 << 20) + 123;

async fn server() -> Server {
    beginning_with(b"large").await
}

async fn beginning_with(bytes: &[u8]) -> Server {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Server::with(Stub::of(file, LENGTH), ServerLimits::default(), PATIENCE).await
}

fn large() -> String {
    format!("/v2/a/blobs/{}", large_digest())
}

/// What the stub's large blob begins with; zeroes follow.
fn assert_large(decoder: impl Read) {
    let mut decoder = std::io::BufReader::new(decoder);
    let mut head = [0; 5];
    decoder.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"large");
    let (mut buffer, mut length) = (vec![0; 1 << 20], 5);
    loop {
        match decoder.read(&mut buffer).unwrap() {
            0 => break,
            n => {
                assert!(buffer[..n].iter().all(|byte| *byte == 0));
                length += n as u64;
            }
        }
    }
    assert_eq!(length, LENGTH);
}

fn decoded(answer: &Answer) -> Box<dyn Read + '_> {
    match answer.header("content-encoding") {
        Some("gzip") => Box::new(flate2::read::GzDecoder::new(answer.body.as_slice())),
        Some("zstd") => Box::new(zstd::stream::read::Decoder::new(answer.body.as_slice()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_blob_is_encoded_for_a_client_that_accepts_it() {
    let server = server().await;
    for (accepted, coding) in
        [("gzip", "gzip"), ("zstd", "zstd"), ("gzip, zstd", "zstd"), ("zstd;q=0.1, gzip", "gzip")]
    {
        let answer = server.ask("GET", &large(), &[&format!("Accept-Encoding: {accepted}")]).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, Some(coding)));
        // The length is not known before the end, so the response must have another one.
        assert_eq!((answer.length(), answer.header("transfer-encoding")), (None, Some("chunked")));
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.header("etag"), Some(format!("W/\"{}\"", large_digest()).as_str()));
        assert_eq!(answer.header("docker-content-digest"), Some(large_digest().to_string().as_str()));
        assert!(answer.body.len() < (LENGTH / 100) as usize);
        assert_large(decoded(&answer));
    }
}

#[tokio::test]
async fn whoever_does_not_ask_for_it_or_counts_bytes_gets_the_blob_as_it_is() {
    let server = server().await;
    let accept = "Accept-Encoding: zstd, gzip";
    let head = server.ask("HEAD", &large(), &[accept]).await;
    assert_eq!((head.length(), head.header("content-encoding")), (Some(LENGTH), None));
    assert_eq!(head.header("vary"), Some("Accept-Encoding"));
    let etag = format!("\"{}\"", large_digest());
    assert_eq!(head.header("etag"), Some(etag.as_str()));
    for (range, status, length) in
        [("bytes=1-4", 206, 4), ("lines=1-4", 200, LENGTH), ("bytes=0-", 206, LENGTH)]
    {
        let answer = server.ask("GET", &large(), &[accept, &format!("Range: {range}")]).await;
        assert_eq!((answer.status, answer.length()), (status, Some(length)), "{range}");
        assert_eq!(answer.header("content-encoding"), None, "{range}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{range}");
    }
    // A weak tag names no bytes that a range could be taken of (RFC 9110, section 13.1.5).
    let weak = format!("If-Range: W/{etag}");
    let answer = server.ask("GET", &large(), &[accept, "Range: bytes=1-4", &weak]).await;
    assert_eq!((answer.status, answer.length()), (200, Some(LENGTH)));
    for accepted in ["identity", "gzip;q=0", "*", "br"] {
        let answer = server.ask("GET", &large(), &[&format!("Accept-Encoding: {accepted}")]).await;
        assert_eq!((answer.length(), answer.header("content-encoding")), (Some(LENGTH), None), "{accepted}");
    }
    // Not worth it.
    let small = format!("/v2/a/blobs/{}", Digest::of(SMALL));
    assert_eq!(server.ask("GET", &small, &[accept]).await.body, SMALL);
    // Before HTTP/1.1 there is no way to tell that a response without a length was cut.
    let mut client = server.connect().await;
    client.send(format!("GET {} HTTP/1.0\r\n{accept}\r\n\r\n", large()).as_bytes()).await;
    let old = client.head().await.unwrap();
    assert_eq!((old.length(), old.header("content-encoding")), (Some(LENGTH), None));
}

#[tokio::test]
async fn a_client_that_has_the_blob_in_any_coding_is_told_so() {
    let server = server().await;
    for tag in [format!("\"{}\"", large_digest()), format!("W/\"{}\"", large_digest())] {
        for accepted in ["gzip", "identity"] {
            let condition = format!("If-None-Match: {tag}");
            let accept = format!("Accept-Encoding: {accepted}");
            let answer = server.ask("GET", &large(), &[&accept, &condition]).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0));
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        }
    }
}

#[tokio::test]
async fn what_is_compressed_already_is_not_encoded() {
    for magic in [&b"\x1f\x8b\x08"[..], b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\xfd7zXZ\0", b"BZh9"] {
        let server = beginning_with(magic).await;
        let answer = server.ask("GET", &large(), &["Accept-Encoding: gzip"]).await;
        assert_eq!((answer.length(), answer.header("content-encoding")), (Some(LENGTH), None), "{magic:?}");
        assert!(answer.body.starts_with(magic));
    }
}

#[tokio::test]
async fn clients_that_leave_take_no_encoder_with_them() {
    let server = server().await;
    // More than there are encoders.
    for _ in 0..20 {
        let mut client = server.connect().await;
        client.request("GET", &large(), &["Accept-Encoding: zstd"]).await;
        assert_eq!(client.head().await.unwrap().header("content-encoding"), Some("zstd"));
    }
    let answer = server.ask("GET", &large(), &["Accept-Encoding: zstd"]).await;
    // Without an encoder its chunks would have been stored.
    assert!(answer.body.len() < (LENGTH / 100) as usize);
    assert_large(decoded(&answer));
}

#[tokio::test]
async fn any_number_of_clients_at_once_get_the_right_bytes() {
    let server = server().await;
    let (path, gzip, zstd) = (large(), ["Accept-Encoding: gzip"], ["Accept-Encoding: zstd"]);
    let asked = (0..6).map(|n| server.ask("GET", &path, if n % 2 == 0 { &gzip } else { &zstd }));
    for answer in futures_util::future::join_all(asked).await {
        assert_large(decoded(&answer));
    }
}
