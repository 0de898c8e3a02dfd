//! What happens on a connection, and since when nothing has.
//!
//! hyper has a time limit for headers and none for idle connections (its `header_read_timeout` runs between requests
//! as well, so one number would have to do for both), nor one for clients that stop reading. So the connection's
//! bytes and requests leave marks here, and `connection` acts on them.

use super::{limits::ServerLimits, tls};
use http::StatusCode;
use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// The marks of one connection. Times are milliseconds since it was opened, plus one; zero is never. Each mark is
/// read for itself, so relaxed ordering suffices.
#[derive(Debug)]
pub struct Activity {
    opened: Instant,
    http2: AtomicBool,
    /// Requests whose response has not been written.
    in_flight: AtomicUsize,
    /// Those of them whose body has not come to its end.
    receiving: AtomicUsize,
    /// Those of them whose response waits for the client rather than for the registry.
    sending: AtomicUsize,
    /// The first byte of a request that is not complete.
    head_since: AtomicU64,
    /// The end of the last response; zero before the first request.
    idle_since: AtomicU64,
    /// The socket has taken nothing of what was offered.
    blocked_since: AtomicU64,
    /// A stream of an HTTP/2 connection took a chunk.
    streamed_at: AtomicU64,
    /// There has been a request since all that was written reached the socket: what is written is its response.
    responding: AtomicBool,
    /// The first byte of all was that of a TLS handshake.
    tls: AtomicBool,
    /// The status with which hyper answered a request that it could not read; zero if it did not.
    refused: AtomicU16,
    /// The kernel did not find the bytes that it was to send.
    lost: AtomicBool,
    /// The connection began to wait for its client, or no longer does: something may be due earlier than it was.
    pub changed: Notify,
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// No request came, or not all of it.
    NoRequest,
    /// Nothing has been asked for in a while.
    Idle,
    /// The client does not take its response.
    Stalled,
}

impl Activity {
    /// Of a connection that was opened just now.
    pub fn new() -> Self {
        Self {
            opened: Instant::now(),
            http2: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            sending: AtomicUsize::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            streamed_at: AtomicU64::new(0),
            responding: AtomicBool::new(false),
            tls: AtomicBool::new(false),
            refused: AtomicU16::new(0),
            lost: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).map_or(u64::MAX, |ms| ms.saturating_add(1))
    }

    fn at(&self, mark: u64, after: Duration) -> Instant {
        self.opened + Duration::from_millis(mark.saturating_sub(1)) + after
    }

    /// Whether nothing is under way but what the client has yet to send: a handshake, a head, a body, the next request.
    pub fn awaits_client(&self) -> bool {
        self.in_flight.load(Relaxed) == self.receiving.load(Relaxed) && self.blocked_since.load(Relaxed) == 0
    }

    /// Since when, if it does: since its request began, or its last response ended, or it was opened.
    pub fn awaited_since(&self) -> Instant {
        let (idle, head) = (self.idle_since.load(Relaxed), self.head_since.load(Relaxed));
        self.at(if head == 0 { idle } else { head }, Duration::ZERO)
    }

    /// Whether it has had no response yet.
    pub fn is_new(&self) -> bool {
        self.idle_since.load(Relaxed) == 0
    }

    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Whether not one byte has come yet.
    pub fn is_silent(&self) -> bool {
        self.in_flight.load(Relaxed) == 0
            && self.idle_since.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == 0
    }

    /// What will be due first if nothing happens until then; `None` while only the registry is waited for.
    pub fn due(&self, limits: &ServerLimits) -> Option<(Instant, Due)> {
        let stalled = |mark: u64| (mark != 0).then(|| (self.at(mark, limits.write_timeout), Due::Stalled));
        let blocked = stalled(self.blocked_since.load(Relaxed));
        if self.in_flight.load(Relaxed) > 0 {
            // A stream that the client gives no window to does not block the socket.
            let stream = self.http2.load(Relaxed) && self.sending.load(Relaxed) > 0;
            let stream = stream.then(|| stalled(self.streamed_at.load(Relaxed))).flatten();
            return [blocked, stream].into_iter().flatten().min_by_key(|(at, _)| *at);
        }
        if blocked.is_some() {
            // The last of a response is still on its way: hyper takes all of a body before it has written it.
            return blocked;
        }
        Some(match (self.idle_since.load(Relaxed), self.head_since.load(Relaxed)) {
            (0, _) => (self.at(0, limits.header_timeout), Due::NoRequest),
            (idle, 0) => (self.at(idle, limits.idle_timeout), Due::Idle),
            (_, head) => (self.at(head, limits.header_timeout), Due::NoRequest),
        })
    }

    /// When a connection that was told at `told` that it is being closed has had `time` to take leave; `None` while
    /// a response is on its way.
    pub fn farewell(&self, told: Instant, time: Duration) -> Option<Instant> {
        let busy = self.in_flight.load(Relaxed) > 0 || self.blocked_since.load(Relaxed) != 0;
        (!busy).then(|| self.at(self.idle_since.load(Relaxed), time).max(told + time))
    }

    pub(super) fn wrote<T>(&self, polled: &Poll<io::Result<T>>) {
        match polled {
            Poll::Pending if self.blocked_since.load(Relaxed) == 0 => {
                self.blocked_since.store(self.now(), Relaxed);
            }
            Poll::Pending => {}
            Poll::Ready(result) => {
                if self.blocked_since.load(Relaxed) != 0 {
                    self.blocked_since.store(0, Relaxed);
                    if self.awaits_client() {
                        self.changed.notify_one();
                    }
                }
                let code = result.as_ref().err().and_then(io::Error::raw_os_error);
                if code == Some(libc::EFAULT) {
                    self.lost.store(true, Relaxed);
                }
            }
        }
    }

    /// Whether the connection fails because a mapped file has become shorter than what was to be sent of it; said once.
    pub fn lost_bytes(&self) -> bool {
        self.lost.swap(false, Relaxed)
    }

    /// With which status hyper answered a request that it could not read, if it did. The answer was held back.
    pub fn refused(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.refused.load(Relaxed)).ok()
    }

    /// Whether `bytes` are an answer that hyper gives by itself: it has no body, and nothing follows it. hyper reads a
    /// request when the response to the one before has been written, so without one these bytes begin a response.
    pub(super) fn refuses(&self, bytes: &[u8]) -> bool {
        if self.responding.load(Relaxed) {
            return false;
        }
        if self.refused().is_none() && bytes.starts_with(b"HTTP/1.") {
            let status = bytes.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok());
            self.refused.store(status.map_or(0, |status| status.as_u16()), Relaxed);
        }
        self.refused().is_some()
    }

    pub(super) fn flushed(&self) {
        if self.in_flight.load(Relaxed) == 0 {
            self.responding.store(false, Relaxed);
        }
    }

    /// Whether what cannot be read was TLS.
    pub fn began_with_tls(&self) -> bool {
        self.tls.load(Relaxed)
    }

    pub(super) fn read(&self, bytes: &[u8]) {
        if self.is_silent() && bytes.first() == Some(&tls::HANDSHAKE) {
            self.tls.store(true, Relaxed);
        }
        // An HTTP/2 connection reads frames that belong to no request; hyper's own limits take care of those.
        if self.in_flight.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == 0
            && !self.http2.load(Relaxed)
        {
            self.head_since.store(self.now(), Relaxed);
            self.changed.notify_one();
        }
    }

    /// A request has come, up to its body if it has one.
    pub(super) fn begin(&self, http2: bool, has_body: bool) {
        self.http2.store(http2, Relaxed);
        self.responding.store(true, Relaxed);
        if has_body {
            self.receiving.fetch_add(1, Relaxed);
        } else {
            self.head_since.store(0, Relaxed);
        }
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// The body of a request has come to its end, or is not waited for any more.
    pub(super) fn received(&self) {
        self.head_since.store(0, Relaxed);
        self.receiving.fetch_sub(1, Relaxed);
    }

    /// The registry has answered a request; from now on it is the client's turn.
    pub(super) fn answered(&self) {
        self.sending.fetch_add(1, Relaxed);
        self.progress();
    }

    /// A chunk of a response was taken.
    pub(super) fn progress(&self) {
        self.streamed_at.store(self.now(), Relaxed);
    }

    /// A request is done with.
    pub(super) fn end(&self, answered: bool) {
        if answered {
            self.sending.fetch_sub(1, Relaxed);
        }
        self.idle_since.store(self.now(), Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
        if self.awaits_client() {
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "activity_tests.rs"]
mod tests;
