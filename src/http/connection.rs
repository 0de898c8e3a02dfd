//! One connection, from its first byte to its last.

use super::{
    api::Api,
    crowd::{Crowd, Place},
    error::Failure,
    io::{Activity, Due, Flight, Watched},
    limits::ServerLimits,
    log::LoggedBody,
    peer::Peer,
    refusal,
    service::Service,
    tls::{Handshake, Tls},
};
use crate::blob::Sight;
use bytes::Bytes;
use http::{HeaderValue, Request, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    error::Error,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

/// How long a client has to take leave of a connection that is being closed.
const FAREWELL: Duration = Duration::from_secs(5);
/// How many times more headers HTTP/2 takes in than are allowed, so that they can be refused with a reason.
const HEADER_LEEWAY: u32 = 4;
/// Why the kernel does not find bytes that were there when they were handed to it.
const LOST_BYTES: &str = "the file that is being sent has become shorter";

/// How far a server is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// No new connections or requests; what is in flight is finished.
    Draining,
    /// Whatever is left is cut off.
    Cut,
}

/// What all connections of a server share.
#[derive(Debug)]
pub struct Shared<A> {
    pub service: Service<A>,
    pub limits: ServerLimits,
    /// Each permit asks one idle connection to make room.
    pub make_room: Notify,
    /// Who has how many connections.
    pub crowd: Crowd,
    builder: auto::Builder<TokioExecutor>,
}

impl<A: Api> Shared<A> {
    /// Prepares hyper with the limits.
    pub fn new(service: Service<A>, limits: ServerLimits) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // Ours is in `io`: it also covers the time before hyper knows the version.
            .header_read_timeout(None)
            // Bounds the headers. It bounds writing as well: a chunk is only taken from a body when less than this
            // is left of the ones before, so at most one chunk is held beyond the two of the body itself.
            .max_buf_size(limits.max_header_bytes.max(8192))
            .max_headers(limits.max_headers);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(
                u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX).saturating_mul(HEADER_LEEWAY),
            )
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout);
        let crowd = Crowd::new(limits.max_client_connections);
        Self { service, limits, make_room: Notify::new(), crowd, builder }
    }

    /// Serves a TLS connection, from its handshake on.
    pub async fn run_tls(
        &self,
        stream: TcpStream,
        tls: &Tls,
        peer: Peer,
        place: Place,
        phase: watch::Receiver<Phase>,
    ) {
        // One that waits takes notice of all phases on the way, and those that follow are to see them, too.
        let mut cut = phase.clone();
        // The handshake is part of the time that there is for the first request.
        let activity = Activity::new();
        let handshaken = tokio::select! {
            handshaken = timeout(self.limits.header_timeout, tls.handshake(stream)) => handshaken,
            _ended = cut.wait_for(|phase| *phase == Phase::Cut) => return,
        };
        match handshaken {
            Ok(Ok(Handshake::Done(stream))) => {
                self.run_since(activity, stream, peer, place, Sight::Program, phase).await;
            }
            Ok(Ok(Handshake::Plain(mut stream))) => {
                self.refuse(&mut stream, Failure::plain_http(), peer, phase).await;
            }
            Ok(Err(error)) => tracing::debug!(client = %peer, %error, "the TLS handshake failed"),
            Err(_) => tracing::debug!(client = %peer, "the TLS handshake took longer than HEADER_TIMEOUT"),
        }
    }

    /// Serves a connection until either side closes it, a limit is hit, or the server says so. `io` may as well be a
    /// TLS stream or a Unix socket. `sight` is who looks at the bytes that are written to it. What its place among those of
    /// the same client does not allow is refused.
    pub async fn run<I>(&self, io: I, peer: Peer, place: Place, sight: Sight, phase: watch::Receiver<Phase>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.run_since(Activity::new(), io, peer, place, sight, phase).await;
    }

    /// The same, for a connection that was opened a while ago.
    async fn run_since<I>(
        &self,
        activity: Activity,
        io: I,
        peer: Peer,
        place: Place,
        sight: Sight,
        mut phase: watch::Receiver<Phase>,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(activity);
        let io = Arc::new(Mutex::new(io));
        let seen = (&place, sight);
        let Err(error) = self.serve(io.clone(), &activity, &peer, seen, &mut phase).await else { return };
        let reason = Chain(&*error);
        if activity.lost_bytes() {
            // Of a response whose last chunk hyper had taken already.
            tracing::error!(client = %peer, error = LOST_BYTES, "response cut");
        }
        let (Some(status), Some(io)) = (activity.refused(), Arc::into_inner(io)) else {
            tracing::debug!(client = %peer, error = %reason, "connection ended");
            return;
        };
        let mut io = io.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failure = match activity.began_with_tls() {
            true => Failure::unexpected_tls(),
            false => Failure::unreadable(status, reason, &self.limits),
        };
        self.refuse(&mut io, failure, peer, phase).await;
    }

    /// Answers what cannot be read, which is the end of the connection.
    async fn refuse<I>(&self, io: &mut I, failure: Failure, peer: Peer, mut phase: watch::Receiver<Phase>)
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let response = self.service.refuse(failure, peer);
        tokio::select! {
            _sent_or_gone = timeout(FAREWELL, refusal::send(io, response)) => {}
            _ended = phase.wait_for(|phase| *phase == Phase::Cut) => {}
        }
    }

    /// hyper's part of a connection. Fails when hyper does.
    async fn serve<I>(
        &self,
        io: Arc<Mutex<I>>,
        activity: &Arc<Activity>,
        peer: &Peer,
        (place, sight): (&Place, Sight),
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(Watched::new(io, activity.clone()));
        let service = service_fn(|mut request: Request<Incoming>| {
            let http2 = request.version() == Version::HTTP_2;
            // An HTTP/2 connection copies the ends of bodies into its frames.
            request.extensions_mut().insert(if http2 { Sight::Program } else { sight });
            let mut flight = Flight::begin(activity.clone(), http2);
            let (service, peer) = (self.service.clone(), peer.clone());
            let refusal = place.refusal().or_else(|| Failure::oversized(&request, &self.limits));
            let closes = place.is_beyond() && !http2;
            async move {
                let mut response = service.call(request, peer, refusal).await;
                if closes {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                flight.answered();
                Ok::<_, Infallible>(response.map(|body| Tracked { body, flight }))
            }
        });
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let mut closing: Option<Instant> = None;
        let mut draining = (*phase.borrow() != Phase::Running).then(Instant::now);
        loop {
            // A client that has connected just now has its first request on the way, and would take a closed
            // connection for an error.
            if draining.is_some() && closing.is_none() && !activity.is_silent() {
                closing = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
            let due = activity.due(&self.limits);
            // A socket that blocks does so too often to wake this up each time, so look again now and then.
            let again = Instant::now() + self.limits.write_timeout;
            let farewell = match (closing, draining) {
                (Some(told), _) => activity.farewell(told, FAREWELL),
                (None, since) => since.map(|since| since + FAREWELL),
            };
            let wake = [due.map(|(at, _)| at), farewell].into_iter().flatten().fold(again, Instant::min);
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    // A request that has come in the meantime does not wake this up; then nothing is due any more.
                    match activity.due(&self.limits) {
                        Some((at, Due::Idle)) if at <= now && closing.is_none() => {}
                        Some((at, due)) if at <= now => {
                            tracing::debug!(client = %peer, ?due, "connection closed");
                            return Ok(());
                        }
                        _ if farewell.is_some_and(|at| at <= now) => return Ok(()),
                        _ => continue,
                    }
                }
                () = activity.changed.notified() => continue,
                changed = phase.changed() => {
                    if changed.is_err() || *phase.borrow() == Phase::Cut {
                        return Ok(());
                    }
                    draining = Some(Instant::now());
                    continue;
                }
                () = self.make_room.notified(), if closing.is_none() && activity.is_idle() => {}
            }
            if closing.is_none() {
                closing = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// An error with its causes: hyper's own messages rarely say enough.
struct Chain<'a>(&'a (dyn Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Keeps a request in flight until its body is dropped.
#[derive(Debug)]
struct Tracked {
    body: LoggedBody,
    flight: Flight,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if self.flight.lost_bytes() {
            self.body.cut(&LOST_BYTES);
        }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.flight.progress();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
