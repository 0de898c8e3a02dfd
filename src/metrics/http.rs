//! Requests, responses and connections.

use super::labels::{Coding, Cut, Listener, Method, OfBytes, OfCut, OfListener, OfRequest, OfRoute, Route};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// From an answer out of memory to `PULL_WAIT_ONCE`; 30 is the first after the default of `PULL_WAIT`.
const SECONDS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

type Histograms = Family<OfRoute, Histogram, fn() -> Histogram>;

/// The HTTP side. Clones share it.
#[derive(Debug, Clone)]
pub struct Http(Arc<Families>);

#[derive(Debug)]
struct Families {
    requests: Family<OfRequest, Counter>,
    until_head: Histograms,
    until_end: Histograms,
    bytes: Family<OfBytes, Counter>,
    cut: Family<OfCut, Counter>,
    abandoned: Family<OfRoute, Counter>,
    in_flight: Gauge,
    connections: Family<OfListener, Gauge>,
    accepted: Family<OfListener, Counter>,
    delayed: Family<OfListener, Counter>,
    max_connections: Gauge,
}

impl Default for Http {
    fn default() -> Self {
        let families = Families {
            requests: Family::default(),
            until_head: Histograms::new_with_constructor(seconds),
            until_end: Histograms::new_with_constructor(seconds),
            bytes: Family::default(),
            cut: Family::default(),
            abandoned: Family::default(),
            in_flight: Gauge::default(),
            connections: Family::default(),
            accepted: Family::default(),
            delayed: Family::default(),
            max_connections: Gauge::default(),
        };
        // What is to be noticed begins with zero, or its first time would be no increase.
        for route in [Route::Manifest, Route::Blob] {
            drop(families.abandoned.get_or_create(&OfRoute { route }));
            for by in Cut::ALL.iter().copied() {
                drop(families.cut.get_or_create(&OfCut { route, by }));
            }
        }
        Self(Arc::new(families))
    }
}

impl Http {
    /// A request has come.
    pub fn begin(&self, method: Method) -> Exchange {
        self.0.in_flight.inc();
        Exchange {
            http: self.clone(),
            method,
            route: Route::None,
            begun: Instant::now(),
            bytes: None,
            code: None,
            failed: false,
            finished: false,
        }
    }

    /// A connection has been accepted.
    pub fn connect(&self, listener: Listener) -> HttpConnection {
        let labels = OfListener { listener };
        self.0.accepted.get_or_create(&labels).inc();
        let open = self.0.connections.get_or_create(&labels).clone();
        open.inc();
        HttpConnection { open }
    }

    /// A connection has to wait until another one ends.
    pub fn delayed(&self, listener: Listener) {
        self.0.delayed.get_or_create(&OfListener { listener }).inc();
    }

    /// How many connections there may be at a time, but for those of operators.
    pub fn limit_connections(&self, max: u32) {
        self.0.max_connections.set(max.into());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let families = &self.0;
        registry.register("http_requests", "Requests that were answered", families.requests.clone());
        registry.register(
            "http_abandoned_requests",
            "Requests whose clients left before the answer",
            families.abandoned.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests whose responses have not ended",
            families.in_flight.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time until the head of the response",
            Unit::Seconds,
            families.until_head.clone(),
        );
        registry.register_with_unit(
            "http_response_duration",
            "Time until the end of the response",
            Unit::Seconds,
            families.until_end.clone(),
        );
        registry.register_with_unit(
            "http_response",
            "Bytes of bodies that were handed over, as they were encoded",
            Unit::Bytes,
            families.bytes.clone(),
        );
        registry.register(
            "http_responses_cut",
            "Responses that were ended before their end, and by whom",
            families.cut.clone(),
        );
        registry.register("http_connections", "Open connections", families.connections.clone());
        registry.register(
            "http_connections_limit",
            "Connections that may be open, but for those of the metrics (MAX_CONNECTIONS)",
            families.max_connections.clone(),
        );
        registry.register(
            "http_connections_accepted",
            "Connections that were accepted",
            families.accepted.clone(),
        );
        registry.register(
            "http_connections_delayed",
            "Connections that waited until another one ended, because of the limit",
            families.delayed.clone(),
        );
    }
}

/// A connection, open until this is dropped.
#[derive(Debug)]
pub struct HttpConnection {
    open: Gauge,
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// A request and its response, in flight until this is dropped.
#[derive(Debug)]
pub struct Exchange {
    http: Http,
    method: Method,
    route: Route,
    begun: Instant,
    bytes: Option<Counter>,
    code: Option<u16>,
    failed: bool,
    finished: bool,
}

impl Exchange {
    /// What is asked for is known.
    pub fn route(&mut self, route: Route) {
        self.route = route;
    }

    /// The head of the response is known.
    pub fn answered(&mut self, code: u16, encoding: Coding) {
        let (families, route) = (&self.http.0, self.route);
        self.code = Some(code);
        families.requests.get_or_create(&OfRequest { route, method: self.method, code }).inc();
        families.until_head.get_or_create(&OfRoute { route }).observe(self.elapsed().as_secs_f64());
        self.bytes = Some(families.bytes.get_or_create(&OfBytes { route, encoding }).clone());
    }

    /// A part of the body was handed over.
    pub fn sent(&self, bytes: u64) {
        if let Some(counter) = &self.bytes {
            counter.inc_by(bytes);
        }
    }

    /// The body cannot be read to its end.
    pub fn failed(&mut self) {
        self.failed = true;
    }

    /// The body has been handed over to its end.
    pub fn finished(&mut self) {
        self.finished = true;
    }

    /// The status of the response, once its head is known.
    pub fn code(&self) -> Option<u16> {
        self.code
    }

    /// Whether the body has been handed over to its end.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// How long ago the request came.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (families, route) = (&self.http.0, self.route);
        families.in_flight.dec();
        if self.code.is_none() {
            families.abandoned.get_or_create(&OfRoute { route }).inc();
            return;
        }
        families.until_end.get_or_create(&OfRoute { route }).observe(self.elapsed().as_secs_f64());
        if !self.finished {
            let by = if self.failed { Cut::Registry } else { Cut::Client };
            families.cut.get_or_create(&OfCut { route, by }).inc();
        }
    }
}
