//! One connection, from its first byte to its last.

use super::{
    activity::Due,
    api::Api,
    crowd::{Crowd, Place},
    error::Failure,
    flight::{Flight, Tracked, Upload},
    host,
    io::Watched,
    limits::ServerLimits,
    peer::Peer,
    refusal,
    room::{Room, Seated},
    service::Service,
    tls::{Handshake, Tls},
};
use crate::blob::Sight;
use http::{HeaderValue, Request, Version, header};
use hyper::{
    body::{Body, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

/// How long a client has to take leave of a connection that is being closed.
const FAREWELL: Duration = Duration::from_secs(5);
/// How many times more headers HTTP/2 takes in than are allowed, so that they can be refused with a reason.
const HEADER_LEEWAY: u32 = 4;
/// Why the kernel does not find bytes that were there when they were handed to it.
pub(super) const LOST_BYTES: &str = "the file that is being sent has become shorter";

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
    /// Who has how many connections.
    pub crowd: Crowd,
    /// How many there are together.
    pub room: Arc<Room>,
    builder: auto::Builder<TokioExecutor>,
}

/// The client at the other end of a connection.
#[derive(Debug)]
pub struct Client {
    /// Its address.
    pub peer: Peer,
    /// The connection's place among those of the same client.
    pub place: Place,
    /// Its place among all.
    pub seated: Seated,
}

impl Client {
    /// Tells that the connection was closed for another one.
    fn made_room(&self) {
        tracing::debug!(client = %self.peer, "connection closed to make room");
    }
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
        let room = Room::new(limits.max_connections);
        Self { service, limits, crowd, room, builder }
    }

    /// Serves a TLS connection, from its handshake on.
    pub async fn run_tls(&self, stream: TcpStream, tls: &Tls, client: Client, phase: watch::Receiver<Phase>) {
        // One that waits takes notice of all phases on the way, and those that follow are to see them, too.
        let mut cut = phase.clone();
        // The handshake is part of the time that there is for the first request.
        let handshaken = tokio::select! {
            handshaken = timeout(self.limits.header_timeout, tls.handshake(stream)) => handshaken,
            _ended = cut.wait_for(|phase| *phase == Phase::Cut) => return,
            () = client.seated.asked() => return client.made_room(),
        };
        let peer = &client.peer;
        match handshaken {
            Ok(Ok(Handshake::Done(stream))) => self.run(stream, client, Sight::Program, phase).await,
            Ok(Ok(Handshake::Plain(mut stream))) => {
                self.refuse(&mut stream, Failure::plain_http(), &client, phase).await;
            }
            Ok(Err(error)) => tracing::debug!(client = %peer, %error, "the TLS handshake failed"),
            Err(_) => tracing::debug!(client = %peer, "the TLS handshake took longer than HEADER_TIMEOUT"),
        }
    }

    /// Serves a connection until either side closes it, a limit is hit, or the server says so. `io` may as well be a
    /// TLS stream or a Unix socket. `sight` is who looks at the bytes that are written to it. What its place among those of
    /// the same client does not allow is refused.
    pub async fn run<I>(&self, io: I, client: Client, sight: Sight, mut phase: watch::Receiver<Phase>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = client.seated.activity();
        let io = Arc::new(Mutex::new(io));
        let Err(error) = self.serve(io.clone(), &client, sight, &mut phase).await else { return };
        let (reason, peer) = (Chain(&*error), &client.peer);
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
        self.refuse(&mut io, failure, &client, phase).await;
    }

    /// Answers what cannot be read, which is the end of the connection.
    async fn refuse<I>(
        &self,
        io: &mut I,
        failure: Failure,
        client: &Client,
        mut phase: watch::Receiver<Phase>,
    ) where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let response = self.service.refuse(failure, client.peer.clone());
        let flight = Flight::begin(client.seated.activity().clone(), false, false);
        let refused = async {
            refusal::send(io, response).await?;
            drop(flight);
            client.seated.waits();
            refusal::linger(io).await
        };
        let left = async {
            loop {
                client.seated.asked().await;
                if client.seated.activity().awaits_client() {
                    return client.made_room();
                }
                client.seated.stays();
            }
        };
        tokio::select! {
            _sent_or_gone = timeout(FAREWELL, refused) => {}
            _ended = phase.wait_for(|phase| *phase == Phase::Cut) => {}
            () = left => {}
        }
    }

    /// hyper's part of a connection. Fails when hyper does.
    async fn serve<I>(
        &self,
        io: Arc<Mutex<I>>,
        client: &Client,
        sight: Sight,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Client { peer, place, seated } = client;
        let activity = seated.activity();
        let io = TokioIo::new(Watched::new(io, activity.clone()));
        let service = service_fn(|mut request: Request<Incoming>| {
            let http2 = request.version() == Version::HTTP_2;
            // An HTTP/2 connection copies the ends of bodies into its frames.
            request.extensions_mut().insert(if http2 { Sight::Program } else { sight });
            let flight = Flight::begin(activity.clone(), http2, !request.body().is_end_stream());
            let request = request.map(|body| Upload::new(body, &flight));
            let (service, peer) = (self.service.clone(), peer.clone());
            let misnamed = host::refusal(&request);
            let closes =
                !http2 && (place.is_beyond() || misnamed.is_some() || host::ends_connection(&request));
            let refusal =
                misnamed.or_else(|| place.refusal()).or_else(|| Failure::oversized(&request, &self.limits));
            async move {
                let mut response = service.call(request, peer, refusal).await;
                if closes {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                flight.answered();
                Ok::<_, Infallible>(response.map(|body| Tracked::new(body, flight)))
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
                () = activity.changed.notified() => {
                    if activity.awaits_client() {
                        seated.waits();
                    }
                    continue;
                }
                changed = phase.changed() => {
                    if changed.is_err() || *phase.borrow() == Phase::Cut {
                        return Ok(());
                    }
                    draining = Some(Instant::now());
                    continue;
                }
                () = seated.asked() => {
                    // What has come already is answered.
                    if let Some(ended) = once(connection.as_mut()).await {
                        return ended;
                    }
                    if !activity.awaits_client() {
                        seated.stays();
                        continue;
                    }
                    // Which tells the client of an HTTP/2 connection, as far as the socket takes it.
                    connection.as_mut().graceful_shutdown();
                    closing = Some(Instant::now());
                    if let Some(ended) = once(connection.as_mut()).await {
                        return ended;
                    }
                    if activity.awaits_client() {
                        client.made_room();
                        return Ok(());
                    }
                    seated.stays();
                    continue;
                }
            }
            if closing.is_none() {
                closing = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The result of a future, if it takes no longer than now.
async fn once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut future).poll(cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    })
    .await
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
