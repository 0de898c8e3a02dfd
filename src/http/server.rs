//! Listeners, the connection limit, and the end.

use super::{
    api::Api,
    connection::{Client, Phase, Shared},
    limits::ServerLimits,
    peer::Peer,
    service::Service,
    tls::Tls,
};
use crate::{access::Source, blob::Sight, metrics};
use std::{future::Future, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// Plain HTTP over TCP.
    Tcp(TcpListener),
    /// Plain HTTP over a Unix socket.
    Unix(UnixListener),
    /// HTTPS over TCP.
    Tls(TcpListener, Arc<Tls>),
}

enum Stream {
    Tcp(TcpStream),
    Tls(TcpStream, Arc<Tls>),
    Unix(UnixStream),
}

impl Listener {
    fn kind(&self) -> metrics::Listener {
        match self {
            Self::Tcp(_) => metrics::Listener::Tcp,
            Self::Tls(..) => metrics::Listener::Tls,
            Self::Unix(_) => metrics::Listener::Unix,
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = accept_tcp(listener).await?;
                Ok((Stream::Tcp(stream), peer))
            }
            Self::Tls(listener, tls) => {
                let (stream, peer) = accept_tcp(listener).await?;
                Ok((Stream::Tls(stream, tls.clone()), peer))
            }
            Self::Unix(listener) => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

async fn accept_tcp(listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
    let (stream, address) = listener.accept().await?;
    // Chunks are large and headers go out together with the first one: nothing is gained by waiting.
    // Fails only if the client has gone already, which will be seen soon enough.
    let _ = stream.set_nodelay(true);
    Ok((stream, Peer::Inet(address)))
}

/// Serves on all `listeners` until `shutdown` completes. Then nothing new is accepted, responses in flight have
/// `grace` to be finished, and what is left is cut. Returns how many connections were.
///
/// Dropping the future stops all of it at once.
pub async fn serve<A: Api>(
    listeners: Vec<Listener>,
    service: Service<A>,
    limits: ServerLimits,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> u32 {
    service.limit_connections(limits.max_connections);
    let shared = Arc::new(Shared::new(service, limits));
    let (phase, watcher) = watch::channel(Phase::Running);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, shared.clone(), watcher.clone()));
    }
    drop(watcher);

    shutdown.await;
    phase.send_replace(Phase::Draining);
    let drained = async {
        // The listeners are closed when their tasks are gone.
        while accepting.join_next().await.is_some() {}
        shared.room.empty().await;
    };
    if tokio::time::timeout(grace, drained).await.is_ok() {
        return 0;
    }
    accepting.shutdown().await;
    let left = shared.room.taken();
    phase.send_replace(Phase::Cut);
    shared.room.empty().await;
    left
}

async fn accept<A: Api>(listener: Listener, shared: Arc<Shared<A>>, mut phase: watch::Receiver<Phase>) {
    loop {
        let stopped = phase.wait_for(|phase| *phase != Phase::Running);
        let accepted = tokio::select! {
            _ = stopped => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // The client went while it was in the queue.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                // Too many open files, most likely.
                tracing::warn!(%error, "cannot accept a connection");
                shared.room.make_room();
                shared.room.emptier(Duration::from_millis(500)).await;
                continue;
            }
        };
        let source = peer.source();
        let is_shared = source == Source::Unix || shared.service.guard().trusts(source);
        let Some(place) = shared.crowd.enter((!is_shared).then_some(source)) else {
            tracing::debug!(client = %peer, "the connection limit of one client is exceeded (MAX_CLIENT_CONNECTIONS)");
            continue;
        };
        // Also when the server is stopped meanwhile: the client was not refused, so it is to have its answer. Later clients
        // wait in the listen queue: one that is served a little late is better off than one that is refused.
        let (metrics, kind) = shared.service.connections(listener.kind());
        let seated = shared.room.enter(source, is_shared, || metrics.delayed(kind)).await;
        let counted = metrics.connect(kind);
        let client = Client { peer, place, seated };
        let (shared, phase) = (shared.clone(), phase.clone());
        tokio::spawn(async move {
            match stream {
                Stream::Tcp(stream) => shared.run(stream, client, Sight::Kernel, phase).await,
                Stream::Tls(stream, tls) => shared.run_tls(stream, &tls, client, phase).await,
                Stream::Unix(stream) => shared.run(stream, client, Sight::Kernel, phase).await,
            }
            drop(counted);
        });
    }
}
