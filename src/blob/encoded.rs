//! A blob on its way into a response that is encoded.

use super::body::Load;
use crate::encode::Encoder;
use bytes::Bytes;
use http_body::Frame;
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Yields an encoded blob. While a chunk is being sent, the next one is read and encoded on a blocking thread.
pub struct EncodedBody {
    load: Load,
    /// What has not been asked for yet.
    next: u64,
    end: u64,
    /// None while it is at work, and after the end.
    encoder: Option<Encoder>,
    /// The chunk that is being read and encoded, and how many bytes that are.
    working: Option<(usize, JoinHandle<Encoded>)>,
    /// What is left of the chunk that is being sent.
    ready: VecDeque<Bytes>,
    /// That chunk's bytes, and since when it is being sent.
    sending: Option<(usize, Instant)>,
    /// The same for the chunk before it, with how long that took.
    sent: Option<(usize, Duration)>,
}

/// A chunk's pieces, and the encoder for the next one.
type Encoded = io::Result<(Encoder, Vec<Bytes>)>;

impl std::fmt::Debug for EncodedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedBody").field("next", &self.next).finish_non_exhaustive()
    }
}

impl EncodedBody {
    pub(super) fn new(load: Load, length: u64, encoder: Encoder) -> Self {
        Self {
            load,
            next: 0,
            end: length,
            encoder: Some(encoder),
            working: None,
            ready: VecDeque::new(),
            sending: None,
            sent: None,
        }
    }

    /// Sets the encoder to work, unless it is already.
    fn proceed(&mut self) {
        let Some(mut encoder) = self.encoder.take() else { return };
        if self.next >= self.end {
            self.ready.extend(Some(encoder.end()).filter(|end| !end.is_empty()));
            return;
        }
        // What waits to be sent, if anything does, has a buffer already.
        let ahead = !self.ready.is_empty();
        let Some((length, load)) = self.load.next(self.next..self.end, ahead) else {
            self.encoder = Some(encoder);
            return;
        };
        self.next += length;
        let sent = self.sent.take();
        let work = tokio::task::spawn_blocking(move || {
            if let Some((bytes, time)) = sent {
                encoder.taken(bytes, time);
            }
            let pieces = encoder.chunk(load()?)?;
            Ok((encoder, pieces))
        });
        self.working = Some((length as usize, work));
    }
}

impl http_body::Body for EncodedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        loop {
            this.proceed();
            if let Some(piece) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if let Some((bytes, since)) = this.sending.take() {
                this.sent = Some((bytes, since.elapsed()));
            }
            let Some((length, work)) = &mut this.working else { return Poll::Ready(None) };
            let length = *length;
            let done = ready!(Pin::new(work).poll(cx)).map_err(io::Error::other).and_then(|done| done);
            this.working = None;
            match done {
                Ok((encoder, pieces)) => {
                    this.encoder = Some(encoder);
                    this.ready = pieces.into();
                    this.sending = Some((length, Instant::now()));
                }
                // Without its encoder it is at its end.
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.working.is_none() && self.ready.is_empty()
    }
}
