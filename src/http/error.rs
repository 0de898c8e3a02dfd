//! From errors to status, code and body: the only place that decides, exhaustively.
//!
//! What the choice rests on are real clients (`docs/clients.md`):
//!
//! * skopeo, podman, docker and crane print the body's message, log lines and all, for any 4xx. For a 5xx most of them
//!   print only the status line. So whatever a user can do something about is a 4xx.
//! * containerd asks with HEAD and prints the status line, but for a 404 only "not found".
//! * podman asks three more times unless the code is `MANIFEST_UNKNOWN`, `NAME_UNKNOWN` or `DENIED`; containerd and
//!   newer podman ask again after most 5xx. A failed evaluation or build will not be mended by that.
//!
//! Hence a failed build is `422` with `MANIFEST_UNKNOWN`: there is no manifest, this is why, asked once, printed by all.

use super::{body::Body, limits::ServerLimits, reason, request_id::RequestId, route::RouteError};
use crate::{
    oci::{ErrorBody, ErrorCode, ErrorEntry},
    registry::{Readiness, RegistryError},
};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use serde_json::{Map, Value, json};
use std::{fmt::Display, time::Duration};

/// podman and skopeo wait as long as they are told to, without a word: rather let them ask once more, and print the
/// message, which has the true time.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// An answer other than success: everything that its response is made of but the request id.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The status.
    pub status: StatusCode,
    /// The code in the body.
    pub code: ErrorCode,
    /// What the client is told.
    pub message: String,
    /// The last lines of a build log.
    pub log: Vec<String>,
    /// When to ask again.
    pub retry_after: Option<Duration>,
    /// Further members of the body's `detail`.
    pub detail: Map<String, Value>,
    /// Further headers.
    pub headers: Vec<(header::HeaderName, HeaderValue)>,
    /// Whether the message is for the log and not for the client.
    pub internal: bool,
}

impl Failure {
    /// A failure without log, detail or extra headers.
    pub fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            log: Vec::new(),
            retry_after: None,
            detail: Map::new(),
            headers: Vec::new(),
            internal: false,
        }
    }

    fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// 500; the message is logged, and the client is told only where to look for it.
    pub fn internal(message: impl Into<String>) -> Self {
        let failure = Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown, message);
        Self { internal: true, ..failure }
    }

    /// 412: `If-Match` names other content.
    pub fn precondition() -> Self {
        let message = "the content is not what If-Match asks for";
        Self::new(StatusCode::PRECONDITION_FAILED, ErrorCode::Unknown, message)
    }

    /// 416 for content of `length` bytes (RFC 9110, section 15.5.17).
    pub fn range(length: u64) -> Self {
        let message = format!("no requested range lies within the {length} bytes");
        let mut failure = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::SizeInvalid, message);
        if let Ok(value) = HeaderValue::try_from(format!("bytes */{length}")) {
            failure.headers.push((header::CONTENT_RANGE, value));
        }
        failure
    }

    /// For a request that hyper could not read, with the status that it chose.
    pub fn unreadable(status: StatusCode, reason: impl Display, limits: &ServerLimits) -> Self {
        let ServerLimits { max_header_bytes, max_headers, .. } = limits;
        let (code, limits) = match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                ErrorCode::SizeInvalid,
                format!(" (MAX_HEADER_BYTES is {max_header_bytes}, MAX_HEADERS is {max_headers})"),
            ),
            StatusCode::URI_TOO_LONG => (ErrorCode::SizeInvalid, String::new()),
            _ => (ErrorCode::Unknown, String::new()),
        };
        Self::new(status, code, format!("the request cannot be read: {reason}{limits}"))
    }

    /// For a client that speaks plain HTTP where TLS is spoken.
    pub fn plain_http() -> Self {
        let message = "this is https, and the request came in plain HTTP: ask with https://";
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
    }

    /// For a client that speaks TLS where plain HTTP is spoken. It reads none of this, but Go's clients see that it is
    /// HTTP, and say so.
    pub fn unexpected_tls() -> Self {
        let message =
            "this is plain HTTP, and the client speaks TLS: ask with http://, or where TLS_LISTEN listens";
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
    }

    /// 431 for a request of HTTP/2 with more headers than are allowed; with many more, the connection answers by itself.
    pub fn oversized<B>(request: &Request<B>, limits: &ServerLimits) -> Option<Self> {
        // Counted as in RFC 9113, section 6.5.2, without the pseudo-header fields' names.
        let uri = request.uri();
        let line =
            [uri.scheme_str(), uri.authority().map(|a| a.as_str()), uri.path_and_query().map(|p| p.as_str())];
        let line: usize = line.into_iter().flatten().map(str::len).sum();
        let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
        let fits = line + fields.sum::<usize>() <= limits.max_header_bytes
            && request.headers().len() <= limits.max_headers;
        (request.version() == Version::HTTP_2 && !fits).then(|| {
            Self::unreadable(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "its headers are too large", limits)
        })
    }

    /// 503 for `/readyz`, if a part does not answer.
    pub fn not_ready(readiness: &Readiness) -> Option<Self> {
        let failed: Vec<String> = readiness
            .parts
            .iter()
            .filter_map(|(name, state)| Some(format!("{name}: {}", state.as_ref().err()?)))
            .collect();
        if failed.is_empty() {
            return None;
        }
        let mut failure =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, failed.join("; "));
        failure.detail.insert("parts".into(), parts(readiness));
        Some(failure)
    }

    /// The response. Its body is left out, but not its length, in the answer to a HEAD.
    pub fn into_response(self, id: RequestId, head: bool) -> Response<Body> {
        let message = if self.internal {
            format!("internal error: the registry's log has the reason under request {id}")
        } else {
            self.message
        };
        let mut detail = self.detail;
        detail.insert("requestId".into(), id.to_string().into());
        if !self.log.is_empty() {
            detail.insert("log".into(), self.log.clone().into());
        }
        let entry = ErrorEntry::new(self.code, &message, Value::Object(detail));
        let reason = reason::phrase(entry.message(), &self.log);
        // Strings and maps with string keys: there is no input for which this fails.
        let json = serde_json::to_vec(&ErrorBody { errors: vec![entry] }).unwrap_or_default();

        let mut response = Response::new(Body::Empty);
        *response.status_mut() = self.status;
        if let Some(reason) = reason {
            response.extensions_mut().insert(reason);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, json.len().into());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            // Rounded up, since zero would mean at once.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        headers.extend(self.headers);
        if !head {
            *response.body_mut() = Body::full(json);
        }
        response
    }
}

/// `{"nix-daemon": "ok", "evaluator": "connection refused"}`
pub fn parts(readiness: &Readiness) -> Value {
    let state = |state: &Result<(), String>| state.as_ref().err().cloned().unwrap_or_else(|| "ok".into());
    readiness
        .parts
        .iter()
        .map(|(name, s)| ((*name).to_owned(), json!(state(s))))
        .collect::<Map<_, _>>()
        .into()
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        use RegistryError as E;
        let message = error.to_string();
        match error {
            E::NameUnknown { .. } => Self::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, message),
            E::ManifestUnknown { .. } => {
                Self::new(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown, message)
            }
            E::BlobUnknown { .. } => Self::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, message),
            E::NameInvalid { .. } => Self::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, message),
            E::NotAnImage { .. } | E::EvaluationFailed { .. } | E::SourceBroken { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::ManifestUnknown, message)
            }
            E::BuildFailed { log_tail, .. } => {
                let failure =
                    Self::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::ManifestUnknown, message);
                Self { log: log_tail, ..failure }
            }
            E::MayNotBuild { .. } => Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message),
            // Unlike a failure, this may well go better the next time: a client's retry is welcome.
            E::TimedOut { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, ErrorCode::Unknown, message),
            E::InProgress { retry_after, .. }
            | E::Overloaded { retry_after, .. }
            | E::OverLimit { retry_after, .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message)
                    .retry_after(retry_after.min(MAX_RETRY_AFTER))
            }
            E::SourceUnreachable { retry_after, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message)
                    .retry_after(retry_after.min(MAX_RETRY_AFTER))
            }
            E::Unavailable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message)
                    .retry_after(Duration::from_secs(5))
            }
            E::StorageFull { .. } => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                ErrorCode::Unknown,
                "the registry's disk is full, so it cannot take this image; whoever runs it has to free some space",
            ),
            E::Internal { .. } => Self::internal(message),
        }
    }
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        use RouteError as E;
        let (status, code) = match &error {
            E::WriteUnsupported { .. } | E::MethodUnsupported { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported)
            }
            E::NotFound { .. } => (StatusCode::NOT_FOUND, ErrorCode::Unsupported),
            // The specification has no code for tags; the registries that had TAG_INVALID for one gave it up.
            E::Encoding(_) | E::Name(_) | E::Tag(_) => (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
            E::TagCannotExist(_) | E::ManifestDigestUnsupported(_) => {
                (StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown)
            }
            E::BlobDigestUnsupported(_) => (StatusCode::NOT_FOUND, ErrorCode::BlobUnknown),
            E::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
            E::PageSize { .. } => (StatusCode::BAD_REQUEST, ErrorCode::SizeInvalid),
        };
        let mut failure = Self::new(status, code, error.to_string());
        if status == StatusCode::METHOD_NOT_ALLOWED {
            failure.headers.push((header::ALLOW, HeaderValue::from_static("GET, HEAD")));
        }
        failure
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
