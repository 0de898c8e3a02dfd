//! `multipart/byteranges` (RFC 9110, section 14.6): several ranges of a blob in one body.
//!
//! ```text
//! --BOUNDARY CRLF
//! Content-Type: application/octet-stream CRLF
//! Content-Range: bytes 0-9/100 CRLF
//! CRLF
//! (the bytes) CRLF
//! --BOUNDARY …
//! --BOUNDARY-- CRLF
//! ```

use crate::blob::{Blob, BlobBody, Sight};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

/// Streams the parts one after the other; its exact length is known from the start.
#[derive(Debug)]
pub struct MultipartBody {
    pieces: VecDeque<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(Bytes),
    Blob(BlobBody),
}

impl MultipartBody {
    /// The given ranges of a blob. `boundary` must not occur in the blob, which holds for whatever was made up after
    /// the blob was.
    pub fn new(blob: &Blob, parts: &[Range<u64>], boundary: &str, sight: Sight) -> Self {
        let mut pieces = VecDeque::with_capacity(2 * parts.len() + 1);
        let mut line_end = "";
        for part in parts {
            let head = format!(
                "{line_end}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
                content_range(part, blob.len())
            );
            pieces.push_back(Piece::Text(head.into()));
            pieces.push_back(Piece::Blob(blob.body(part.clone(), sight)));
            line_end = "\r\n";
        }
        pieces.push_back(Piece::Text(format!("{line_end}--{boundary}--\r\n").into()));
        Self { pieces }
    }

    /// The bytes that are yet to come.
    pub fn remaining(&self) -> u64 {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.len() as u64,
                Piece::Blob(body) => body.size_hint().exact().unwrap_or(0),
            })
            .sum()
    }
}

/// `bytes first-last/length`; `part` is not empty.
pub fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

impl Body for MultipartBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let pieces = &mut self.get_mut().pieces;
        loop {
            let frame = match pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(Piece::Text(text)) => Some(Ok(Frame::data(std::mem::take(text)))),
                Some(Piece::Blob(body)) => match Pin::new(body).poll_frame(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
                    Poll::Ready(Some(Err(error))) => {
                        pieces.clear();
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(None) => None,
                },
            };
            pieces.pop_front();
            if frame.is_some() {
                return Poll::Ready(frame);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_parts_are_framed_and_the_length_is_true() {
        let blob = Blob::memory(Bytes::from_static(b"0123456789"));
        let body = MultipartBody::new(&blob, &[8..10, 1..5], "B", Sight::Kernel);
        let length = body.remaining();
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(
            std::str::from_utf8(&bytes).unwrap(),
            "--B\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n\
             --B\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 1-4/10\r\n\r\n1234\r\n\
             --B--\r\n"
        );
        assert_eq!(length, bytes.len() as u64);
    }
}
