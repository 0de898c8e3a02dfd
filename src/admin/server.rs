//! The registry's end of the admin socket.

use super::Request;
use crate::{
    oci::{ErrorBody, ErrorCode, ErrorEntry},
    registry::{Registry, RegistryError},
    unix_socket::{BindError, UnixSocket},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

/// Connections at a time; further ones wait. Operators are few.
const MAX_CONNECTIONS: usize = 8;
/// Bytes of a request's body.
const MAX_BODY: usize = 16 << 10;
/// How long a client may take to send a request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long a connection may last, with the work that is asked for.
const CONNECTION_TIME: Duration = Duration::from_secs(600);

/// The bound socket, which is removed in the end.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    _socket: UnixSocket,
    own_uid: u32,
}

impl Server {
    /// Binds the socket, for the registry's own user alone.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let own_uid = UnixStream::pair().and_then(|(own, _)| own.peer_cred())?.uid();
        // Until the mode is set, each peer is checked by its credentials all the same.
        let (socket, listener) = UnixSocket::bind(path, 0o600)?;
        Ok(Self { listener, _socket: socket, own_uid })
    }

    /// Answers until it is dropped.
    pub async fn run(self, registry: Arc<Registry>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _unnamed)) => {
                    let (registry, allowed) = (registry.clone(), self.allows(&stream));
                    tokio::spawn(async move {
                        let _ = timeout(CONNECTION_TIME, serve(stream, registry, allowed)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the admin socket");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// Within a user namespace, as that of a unit with `PrivateUsers=`, root is root, and strangers are nobody.
    fn allows(&self, stream: &UnixStream) -> Result<(), String> {
        match stream.peer_cred().map(|peer| peer.uid()) {
            Ok(uid) if uid == 0 || uid == self.own_uid => Ok(()),
            Ok(uid) => Err(format!("user {uid} is neither root nor the registry's own user")),
            Err(error) => Err(format!("it cannot be seen who asks: {error}")),
        }
    }
}

async fn serve(stream: UnixStream, registry: Arc<Registry>, allowed: Result<(), String>) {
    let service = service_fn(|request| {
        let (registry, allowed) = (registry.clone(), allowed.clone());
        async move { Ok::<_, Infallible>(answer(request, registry, allowed).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(MAX_BODY)
        .keep_alive(false)
        // As of socat, whose input has ended.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the admin socket ended");
    }
}

async fn answer(
    request: http::Request<Incoming>,
    registry: Arc<Registry>,
    allowed: Result<(), String>,
) -> Response<Full<Bytes>> {
    if let Err(reason) = allowed {
        tracing::warn!("the admin socket: {reason}");
        return failure(StatusCode::FORBIDDEN, ErrorCode::Denied, reason);
    }
    let (head, body) = request.into_parts();
    let bad = |message| failure(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message);
    if http_body::Body::size_hint(&body).lower() > MAX_BODY as u64 {
        return bad(format!("the request's body has more than {MAX_BODY} bytes"));
    }
    let body = match timeout(REQUEST_TIME, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return bad(format!("the request's body: {error}")),
        Err(_elapsed) => return bad("the request's body takes too long".into()),
    };
    let request = match Request::from_http(&head.method, head.uri.path(), &body) {
        Ok(request) => request,
        Err(message) => return bad(message),
    };
    if head.method != Method::GET {
        tracing::info!(method = %head.method, path = head.uri.path(), "asked on the admin socket");
    }
    let done = tokio::task::spawn_blocking(move || carry_out(&registry, request)).await;
    match done {
        Ok(Ok(json)) => response(StatusCode::OK, json),
        Ok(Err(error)) => refusal(&error),
        Err(panic) => refusal(&RegistryError::Internal { message: panic.to_string() }),
    }
}

fn carry_out(registry: &Registry, request: Request) -> Result<Vec<u8>, RegistryError> {
    match request {
        Request::Images => registry.images().map(|images| json(&images)),
        Request::Inspect(name, tag) => registry.inspect(&name, tag.as_ref()).map(|images| json(&images)),
        Request::Forget(name, tag) => registry.forget(&name, tag.as_ref()).map(|dropped| json(&dropped)),
        Request::Collect(what) => registry.collect(what).map(|dropped| json(&dropped)),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Structs of strings, numbers and lists: there is nothing for which this fails.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Whoever may ask here may know everything, so messages are given as they are.
fn refusal(error: &RegistryError) -> Response<Full<Bytes>> {
    let message = error.to_string();
    match error {
        RegistryError::NameUnknown { .. } => failure(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, message),
        RegistryError::ManifestUnknown { .. } => {
            failure(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown, message)
        }
        _ => {
            tracing::error!("the admin socket: {message}");
            failure(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown, message)
        }
    }
}

fn failure(status: StatusCode, code: ErrorCode, message: String) -> Response<Full<Bytes>> {
    let entry = ErrorEntry::new(code, &message, serde_json::Value::Null);
    response(status, json(&ErrorBody { errors: vec![entry] }))
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
