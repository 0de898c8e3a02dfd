//! One line in the log for each request, written when its response has been handed over or cut short.
//!
//! Neither headers nor the query are ever logged, so that no password or token can be.

use super::{body::Body, peer::Peer, request_id::RequestId, route::Route};
use crate::{
    access::{Identity, Source},
    metrics,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use http_body::{Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// What the line says. It is written on drop, so that there is one even if the client leaves before the answer.
#[derive(Debug)]
pub struct RequestLog {
    id: RequestId,
    peer: Peer,
    /// Where the request comes from, if a proxy that is trusted says so.
    client: Option<Source>,
    user: Option<String>,
    method: Option<Method>,
    path: Option<String>,
    version: Option<Version>,
    agent: Option<String>,
    name: Option<String>,
    reference: Option<String>,
    quiet: bool,
    error: Option<String>,
    encoding: Option<HeaderValue>,
    sent: u64,
    exchange: metrics::Exchange,
}

impl RequestLog {
    /// Notes who asks.
    pub fn new<B>(id: RequestId, peer: Peer, request: &Request<B>, metrics: &metrics::Http) -> Self {
        let mut log = Self::of(id, peer, metrics.begin(method(request.method())));
        log.method = Some(request.method().clone());
        log.path = Some(request.uri().path().chars().take(300).collect());
        log.version = Some(request.version());
        log.agent = agent(request.headers());
        log
    }

    /// Notes who asks something that cannot be read.
    pub fn unreadable(id: RequestId, peer: Peer, metrics: &metrics::Http) -> Self {
        Self::of(id, peer, metrics.begin(metrics::Method::Other))
    }

    fn of(id: RequestId, peer: Peer, exchange: metrics::Exchange) -> Self {
        Self {
            id,
            peer,
            client: None,
            user: None,
            method: None,
            path: None,
            version: None,
            agent: None,
            name: None,
            reference: None,
            quiet: false,
            error: None,
            encoding: None,
            sent: 0,
            exchange,
        }
    }

    /// Notes what is asked for.
    pub fn route(&mut self, route: &Route) {
        self.exchange.route(route.label());
        let (name, reference) = match route {
            Route::Manifest { repository, reference } => (Some(repository), Some(reference.to_string())),
            Route::Blob { repository, digest } => (Some(repository), Some(digest.to_string())),
            Route::Referrers { repository, subject, .. } => {
                (Some(repository), subject.map(|s| s.to_string()))
            }
            Route::Tags { repository, .. } => (Some(repository), None),
            Route::Health | Route::Ready | Route::Metrics => {
                self.quiet = true;
                (None, None)
            }
            Route::Home | Route::ApiVersion | Route::Catalog { .. } => (None, None),
        };
        self.name = name.map(ToString::to_string);
        self.reference = reference;
    }

    /// Notes whom a proxy asks for.
    pub fn client(&mut self, source: Source) {
        self.client = Some(source).filter(|source| *source != self.peer.source());
    }

    /// Notes who has logged in.
    pub fn user(&mut self, identity: &Identity) {
        if let Identity::User(name) = identity {
            self.user = Some(name.to_string());
        }
    }

    /// Notes why there is no answer, where nothing else in the line tells.
    pub fn error(&mut self, error: &str) {
        self.error = Some(error.to_owned());
    }

    /// Ties the line to the response: it is written when the body is dropped.
    pub fn attach(mut self, response: Response<Body>) -> Response<LoggedBody> {
        self.encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        self.exchange.answered(response.status().as_u16(), coding(self.encoding.as_ref()));
        response.map(|body| LoggedBody { body, log: self })
    }
}

fn agent(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(agent.chars().take(200).collect())
}

fn method(method: &Method) -> metrics::Method {
    match *method {
        Method::GET => metrics::Method::Get,
        Method::HEAD => metrics::Method::Head,
        _ => metrics::Method::Other,
    }
}

fn coding(encoding: Option<&HeaderValue>) -> metrics::Coding {
    match encoding.map(HeaderValue::as_bytes) {
        Some(b"gzip") => metrics::Coding::Gzip,
        Some(b"zstd") => metrics::Coding::Zstd,
        _ => metrics::Coding::Identity,
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let outcome = match (self.exchange.code(), self.exchange.is_finished()) {
            (None, _) => "client left before the answer",
            (Some(_), false) => "cut",
            (Some(_), true) => "complete",
        };
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request = %self.id,
                    client = %self.client.map_or_else(|| self.peer.to_string(), |client| client.to_string()),
                    proxy = self.client.map(|_| tracing::field::display(&self.peer)),
                    user = self.user,
                    method = self.method.as_ref().map(tracing::field::display),
                    path = self.path.as_deref().filter(|_| self.name.is_none()),
                    name = self.name,
                    reference = self.reference,
                    status = self.exchange.code(),
                    bytes = self.sent,
                    encoding = self.encoding.as_ref().and_then(|encoding| encoding.to_str().ok()),
                    ms = self.exchange.elapsed().as_micros() as f64 / 1e3,
                    http = self.version.map(tracing::field::debug),
                    agent = self.agent,
                    error = self.error,
                    outcome,
                    "request"
                )
            };
        }
        if self.quiet { line!(debug) } else { line!(info) }
    }
}

/// A body that counts what it hands over. hyper takes a chunk when it can write the one before, so what is counted
/// and what reached the client differ by a chunk when a response is cut.
#[derive(Debug)]
pub struct LoggedBody {
    body: Body,
    log: RequestLog,
}

impl LoggedBody {
    /// Notes why the response is cut.
    pub fn cut(&mut self, error: &dyn std::fmt::Display) {
        // A failed body may call itself ended.
        self.body = Body::Full(Some(Bytes::new()));
        self.log.exchange.failed();
        let log = &self.log;
        tracing::error!(request = %log.id, name = log.name, reference = log.reference, %error, "response cut");
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        // hyper need not ask for the end of a body that has told its length.
        if http_body::Body::is_end_stream(&self.body) {
            self.log.exchange.finished();
        }
    }
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.log.sent += bytes;
                this.log.exchange.sent(bytes);
            }
            Poll::Ready(Some(Err(error))) => this.cut(error),
            Poll::Ready(None) => this.log.exchange.finished(),
            Poll::Pending => {}
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
