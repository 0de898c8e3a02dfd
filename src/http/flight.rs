//! A request in flight, from the end of its head until the last of its response is written.

use super::{activity::Activity, connection::LOST_BYTES, log::LoggedBody};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

/// Keeps a connection busy until the last reference is dropped.
#[derive(Debug)]
pub struct Flight {
    activity: Arc<Activity>,
    answered: AtomicBool,
}

impl Flight {
    /// A request has come, with a body that has yet to come or without one.
    pub fn begin(activity: Arc<Activity>, http2: bool, has_body: bool) -> Arc<Self> {
        activity.begin(http2, has_body);
        Arc::new(Self { activity, answered: AtomicBool::new(false) })
    }

    /// The registry has answered; from now on it is the client's turn.
    pub fn answered(&self) {
        if !self.answered.swap(true, Relaxed) {
            self.activity.answered();
        }
    }

    /// A chunk of the response was taken.
    pub fn progress(&self) {
        self.activity.progress();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.activity.end(self.answered.load(Relaxed));
    }
}

/// The body of a request. The client is waited for until it is dropped.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    /// Nothing where the request has no body.
    awaited: Option<Arc<Flight>>,
}

impl Upload {
    /// The body, of a flight that began with one unless it is empty.
    pub fn new(body: Incoming, flight: &Arc<Flight>) -> Self {
        let awaited = (!body.is_end_stream()).then(|| flight.clone());
        Self { body, awaited }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(flight) = &self.awaited {
            flight.activity.received();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response. Its request is in flight until the body and all chunks that were taken of it are dropped.
#[derive(Debug)]
pub struct Tracked {
    body: LoggedBody,
    flight: Arc<Flight>,
}

impl Tracked {
    /// The body of the response to this request.
    pub fn new(body: LoggedBody, flight: Arc<Flight>) -> Self {
        Self { body, flight }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if self.flight.activity.lost_bytes() {
            self.body.cut(&LOST_BYTES);
        }
    }
}

impl Body for Tracked {
    type Data = Chunk;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Chunk>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.flight.progress();
        }
        polled.map_ok(|frame| frame.map_data(|bytes| Chunk { bytes, _flight: self.flight.clone() }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes of a response. hyper takes all of a body before it has written it, and drops this when it has: HTTP/2 keeps what
/// the client gives no window to, and the socket does not block on that.
#[derive(Debug)]
pub struct Chunk {
    bytes: Bytes,
    _flight: Arc<Flight>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}
