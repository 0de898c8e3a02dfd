//! One request, one response.

use super::{
    accept, agent,
    answer::{self, Asked},
    api::Api,
    body::Body,
    error::{self, Failure},
    guard::{Guard, Visitor},
    list,
    log::{LoggedBody, RequestLog},
    peer::Peer,
    request_id::{RequestId, RequestIds},
    route::{self, Route, RouteLimits},
};
use crate::{
    blob::{Blob, Sight},
    encode::{Encoder, Encoders},
    metrics::{self, Metrics},
    oci::{RepositoryName, Tag},
    registry::Caller,
};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::json;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How much of a request's body is read and thrown away to keep the connection usable. Nothing here wants a body.
const DRAIN_LIMIT: u64 = 64 * 1024;
/// How long to wait for it.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Blobs below this many bytes fit in a packet or two as they are.
const ENCODED_FROM: u64 = 1 << 10;

/// Answers requests out of an [`Api`]. Cheap to clone.
#[derive(Debug)]
pub struct Service<A> {
    api: Arc<A>,
    limits: RouteLimits,
    encoders: Arc<Encoders>,
    guard: Arc<Guard>,
    ids: Arc<RequestIds>,
    metrics: Metrics,
    /// Whether it is operators who are served, and not images.
    for_operators: bool,
}

impl<A> Clone for Service<A> {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            limits: self.limits,
            encoders: self.encoders.clone(),
            guard: self.guard.clone(),
            ids: self.ids.clone(),
            metrics: self.metrics.clone(),
            for_operators: self.for_operators,
        }
    }
}

impl<A: Api> Service<A> {
    /// A service that answers from `api`.
    pub fn new(api: Arc<A>, limits: RouteLimits, encoders: Encoders) -> Self {
        let (encoders, ids) = (Arc::new(encoders), Arc::new(RequestIds::new()));
        let guard = Arc::default();
        Self { api, limits, encoders, guard, ids, metrics: Metrics::default(), for_operators: false }
    }

    /// Reports there.
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same for operators: metrics, liveness and readiness, and nothing else.
    pub fn for_operators(&self) -> Self {
        Self { for_operators: true, ..self.clone() }
    }

    /// What connections are counted in, and as what if they come by `listener`.
    pub(super) fn connections(&self, listener: metrics::Listener) -> (&metrics::Http, metrics::Listener) {
        (&self.metrics.http, if self.for_operators { metrics::Listener::Metrics } else { listener })
    }

    /// Says how many connections there may be.
    pub(super) fn limit_connections(&self, max: u32) {
        if !self.for_operators {
            self.metrics.http.limit_connections(max);
        }
    }

    /// The same, for those whom the guard lets in.
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = Arc::new(guard);
        self
    }

    /// Who lets requests in.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Answers one request of `peer`, with `refusal` if it is not to be looked at. Whatever happens, there is a response
    /// and a line in the log.
    pub async fn call<B>(
        &self,
        request: Request<B>,
        peer: Peer,
        refusal: Option<Failure>,
    ) -> Response<LoggedBody>
    where
        B: http_body::Body + Unpin,
    {
        let id = self.ids.next();
        let source = self.guard.source(peer.source(), request.headers());
        let is_local = source.is_local();
        let mut log = RequestLog::new(id, peer, &request, &self.metrics.http);
        log.client(source);
        let (parts, mut body) = request.into_parts();
        let drained = drain(&parts, &mut body).await;
        // From now on it is the registry that is waited for.
        drop(body);
        let asked = Asked {
            method: &parts.method,
            headers: &parts.headers,
            version: parts.version,
            is_local,
            sight: parts.extensions.get().copied().unwrap_or(Sight::Program),
        };

        let route = match refusal {
            Some(failure) => {
                log.error(&failure.message);
                Err(failure)
            }
            None if self.for_operators => {
                route::parse_for_operators(&parts.method, &parts.uri).map_err(Failure::from)
            }
            None => route::parse(&parts.method, &parts.uri, &self.limits).map_err(Failure::from),
        };
        let answered = match route {
            Err(failure) => Err(failure),
            Ok(route) => {
                log.route(&route);
                let answer = async {
                    let admitted = self.guard.admit(&route, &parts.headers, source).await;
                    let visitor = admitted.inspect_err(|failure| log.error(&failure.message))?;
                    log.user(visitor.identity());
                    self.answer(asked, route, &visitor, id).await
                };
                // A bug must not take the connection with it, nor the other streams of an HTTP/2 one.
                AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| {
                    let message = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                    let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
                    Err(Failure::internal(format!("panic: {}", message.unwrap_or_default())))
                })
            }
        };
        let mut response = answered.unwrap_or_else(|failure: Failure| {
            if failure.internal {
                tracing::error!(request = %id, error = failure.message, "internal error");
            }
            failure.into_response(id, parts.method == Method::HEAD)
        });

        let path = parts.uri.path();
        complete(&mut response, id, path == "/v2" || path.starts_with("/v2/"));
        self.guard.keep_private(response.headers_mut());
        if !drained && parts.version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        log.attach(response)
    }

    /// Answers a request of `peer` that cannot be read, after which the connection is of no use.
    pub fn refuse(&self, failure: Failure, peer: Peer) -> Response<LoggedBody> {
        let id = self.ids.next();
        let mut log = RequestLog::unreadable(id, peer, &self.metrics.http);
        log.error(&failure.message);
        let mut response = failure.into_response(id, false);
        complete(&mut response, id, true);
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        log.attach(response)
    }

    async fn answer(
        &self,
        asked: Asked<'_>,
        route: Route,
        visitor: &Visitor,
        id: RequestId,
    ) -> Result<Response<Body>, Failure> {
        let caller = |may_build| Caller {
            patience: agent::patience(asked.headers),
            may_build,
            client: Some(visitor.client()),
        };
        match route {
            Route::Home => Ok(answer::home(asked)),
            Route::Health => Ok(answer::plain(asked, "ok\n")),
            Route::Ready => {
                let readiness = self.api.readiness().await;
                match Failure::not_ready(&readiness) {
                    Some(failure) => Err(failure),
                    None => answer::ready(asked, &error::parts(&readiness)),
                }
            }
            Route::Metrics => {
                let (metrics, format) = (self.metrics.clone(), accept::metrics_format(asked.headers));
                let measured = self.api.measured().await;
                let text = tokio::task::spawn_blocking(move || metrics.text(&measured, format)).await;
                let text = text.map_err(|panic| Failure::internal(panic.to_string()))?;
                Ok(answer::metrics(asked, format, text))
            }
            Route::ApiVersion => Ok(answer::api_version(asked)),
            Route::Manifest { repository, reference } => {
                let caller = caller(visitor.may_build(&repository));
                let answer = self.api.manifest(&repository, &reference, &caller).await;
                let answer = answer.map_err(|error| visitor.failure(error, &repository))?;
                answer::manifest(asked, &reference, &answer)
            }
            Route::Blob { repository, digest } => {
                let caller = caller(visitor.may_build(&repository));
                let blob = self.api.blob(&repository, &digest, &caller).await;
                let blob = blob.map_err(|error| visitor.failure(error, &repository))?;
                let encoder = self.encoder(asked, &blob).await;
                answer::blob(asked, &digest, &blob, encoder, &format!("forge-registry-{id}"))
            }
            Route::Tags { repository, page } => {
                let tags = self.api.tags(&repository, &caller(visitor.may_build(&repository))).await;
                let tags = tags.map_err(|error| visitor.failure(error, &repository))?;
                let listing = list::list(&tags, Tag::as_str, |_| true, &page);
                let body = json!({ "name": repository.as_str(), "tags": listing.entries });
                answer::list(asked, &format!("/v2/{repository}/tags/list"), &page, &listing, &body)
            }
            Route::Catalog { page } => {
                let names = self.api.catalog(&caller(visitor.may_list())).await?;
                let all = visitor.may_read_all();
                let is_shown = |name: &RepositoryName| all || visitor.may_read(name);
                let listing = list::list(&names, RepositoryName::as_str, is_shown, &page);
                answer::list(
                    asked,
                    "/v2/_catalog",
                    &page,
                    &listing,
                    &json!({ "repositories": listing.entries }),
                )
            }
            Route::Referrers { artifact_type, .. } => answer::referrers(asked, artifact_type.as_deref()),
        }
    }

    /// What encodes a blob for this client, if that is worth it.
    async fn encoder(&self, asked: Asked<'_>, blob: &Blob) -> Option<Encoder> {
        let coding = asked.coding().filter(|_| self.encoders.are_enabled() && blob.len() >= ENCODED_FROM)?;
        // Why a blob cannot be read is going to show when it is sent.
        let plain = blob.is_compressed().await.is_ok_and(|compressed| !compressed);
        plain.then(|| Encoder::new(coding, self.encoders.clone(), asked.is_local))
    }
}

/// Adds the headers that do not depend on what is answered.
fn complete(response: &mut Response<Body>, id: RequestId, api: bool) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    if api {
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::SERVER, HeaderValue::from_static("forge-registry"));
}

/// Reads the body of a request, which nothing here wants, to its end or to a limit. Whether the end was reached: if
/// not, the connection cannot be used for another request.
async fn drain<B: http_body::Body + Unpin>(parts: &http::request::Parts, body: &mut B) -> bool {
    if body.is_end_stream() {
        return true;
    }
    // To read would be to ask for the body.
    if parts.headers.contains_key(header::EXPECT) || body.size_hint().lower() > DRAIN_LIMIT {
        return false;
    }
    let read = async {
        let mut left = DRAIN_LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| bytes::Buf::remaining(data) as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(DRAIN_TIME, read).await.unwrap_or(false)
}
