//! The bytes of a connection, which leave marks as they pass.

use super::activity::Activity;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection's bytes, leaving marks as they pass.
#[derive(Debug)]
pub struct Watched<I> {
    io: Arc<Mutex<I>>,
    activity: Arc<Activity>,
}

impl<I> Watched<I> {
    /// Watches over `io`, which whoever keeps a reference gets back when hyper is done with it.
    pub fn new(io: Arc<Mutex<I>>, activity: Arc<Activity>) -> Self {
        Self { io, activity }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut *lock(&self.io)).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read(&buf.filled()[before..]);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.activity.refuses(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut *lock(&self.io)).poll_write(cx, buf);
        self.activity.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.activity.refuses(bufs.first().map_or(&[], |buf| buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let polled = Pin::new(&mut *lock(&self.io)).poll_write_vectored(cx, bufs);
        self.activity.wrote(&polled);
        polled
    }

    // Without this, hyper would copy every chunk into one buffer.
    fn is_write_vectored(&self) -> bool {
        lock(&self.io).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *lock(&self.io)).poll_flush(cx);
        // Of a TLS stream, what is encrypted already may wait for the socket.
        self.activity.wrote(&polled);
        if let Poll::Ready(Ok(())) = polled {
            // hyper flushes when it has written all that it has.
            self.activity.flushed();
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.refused().is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *lock(&self.io)).poll_shutdown(cx)
    }
}
