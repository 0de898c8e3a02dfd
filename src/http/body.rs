//! Response bodies.

use super::multipart::MultipartBody;
use crate::blob::{BlobBody, EncodedBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// A response body. Blobs pass through as they come from [`crate::blob`]: hyper queues the chunks and hands them to
/// `writev`, so that the mapped pages are copied only once, by the kernel into the socket.
#[derive(Debug)]
pub enum Body {
    /// Nothing: the answer to a HEAD, a 304.
    Empty,
    /// A small document; `None` once it has been handed over.
    Full(Option<Bytes>),
    /// A blob or one range of it.
    Blob(BlobBody),
    /// A blob, compressed on the way.
    Encoded(Box<EncodedBody>),
    /// Several ranges of a blob.
    Multipart(MultipartBody),
}

impl Body {
    /// A small document.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Blob(body) => Pin::new(body).poll_frame(cx),
            Self::Encoded(body) => Pin::new(body).poll_frame(cx),
            Self::Multipart(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Blob(body) => body.is_end_stream(),
            Self::Encoded(body) => body.is_end_stream(),
            Self::Multipart(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Blob(body) => body.size_hint(),
            // How long it gets shows only at its end.
            Self::Encoded(_) => SizeHint::default(),
            Self::Multipart(body) => body.size_hint(),
        }
    }
}
