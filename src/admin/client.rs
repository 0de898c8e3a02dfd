//! The commands' end of the admin socket.

use super::Request;
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};
use tokio::net::UnixStream;

/// Bytes of an answer: about 500 bytes an image.
const MAX_ANSWER: usize = 256 << 20;

/// Asks the registry whose admin socket this is.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no forge-registry listens on {0:?}")]
    NotRunning(PathBuf),
    /// The socket is not for this user.
    #[error("{0:?} is for root and the registry's own user alone: run this as root")]
    Denied(PathBuf),
    /// The connection failed.
    #[error("{path:?}: {error}")]
    Connection {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry says no.
    #[error("{message}")]
    Refused {
        /// The code of the distribution specification.
        code: String,
        /// Why.
        message: String,
    },
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

impl Client {
    /// A client of the registry that listens at `path`; connects when it asks.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// The answer to a request.
    pub async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ClientError> {
        let path = || self.path.clone();
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                ClientError::NotRunning(path())
            }
            ErrorKind::PermissionDenied => ClientError::Denied(path()),
            _ => ClientError::Connection { path: path(), error: error.into() },
        })?;
        let (status, body) = exchange(stream, request)
            .await
            .map_err(|error| ClientError::Connection { path: path(), error })?;
        let unreadable = |error: serde_json::Error| ClientError::Connection {
            path: path(),
            error: format!("the registry's answer ({status}) is not what this version understands: {error}")
                .into(),
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(unreadable);
        }
        let Errors { errors } = serde_json::from_slice(&body).map_err(unreadable)?;
        let Refusal { code, message } =
            errors.into_iter().next().unwrap_or(Refusal { code: String::new(), message: status.to_string() });
        Err(ClientError::Refused { code, message })
    }
}

async fn exchange(
    stream: UnixStream,
    request: &Request,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let (method, path, body) = request.to_http();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "forge-registry")
        .body(Full::<Bytes>::from(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}
