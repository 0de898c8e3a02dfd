//! Answers to requests that hyper cannot read.
//!
//! hyper answers them by itself, with a status, `Content-Length: 0` and no reason, and then fails. That answer is held
//! back (`io`), and once hyper has failed and said why, one with an error body is written in its place.

use bytes::Bytes;
use http::{Response, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;
use std::{io, time::SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much more of the request is read, so that the client gets to read the answer: a connection that is closed with
/// unread bytes is reset, and what was sent on it may be lost.
const LINGER: u64 = 1 << 20;

/// Writes `response` as HTTP/1.1, and that it is the last.
pub async fn send<I, B>(io: &mut I, response: Response<B>) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    let head = head(&response);
    let mut body = response.into_body();
    io.write_all(&head).await?;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            io.write_all(&data).await?;
        }
    }
    // The line in the log does not wait for the client to leave.
    drop(body);
    io.shutdown().await
}

/// Leaves the client the time to take it.
pub async fn linger<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<()> {
    tokio::io::copy(&mut io.take(LINGER), &mut tokio::io::sink()).await.map(drop)
}

/// The status line and headers (RFC 9112, sections 4 and 5).
fn head<B>(response: &Response<B>) -> Vec<u8> {
    let status = response.status();
    let canonical = status.canonical_reason().unwrap_or_default();
    let reason = response.extensions().get::<ReasonPhrase>();
    let mut head = format!("HTTP/1.1 {} ", status.as_str()).into_bytes();
    head.extend_from_slice(reason.map_or(canonical.as_bytes(), ReasonPhrase::as_bytes));
    let date = httpdate::fmt_http_date(SystemTime::now());
    let headers = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in headers.chain([(header::DATE.as_str(), date.as_bytes())]) {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
    }
    head.extend_from_slice(b"\r\n\r\n");
    head
}
