//! What operators measure: counters, gauges and histograms, and their text for Prometheus.
//!
//! The parts of the registry are handed what they report into, and nothing here knows of them. What is a size of something
//! that lies on the disk or in memory anyway is not counted along: it is [`Measured`] when somebody asks.
//!
//! No label ever has a value that a client chose: each is an enum, a status code of ours, or the version.

mod daemon;
mod encodings;
mod http;
mod jobs;
mod labels;
mod measured;
mod process;
mod retention;
mod text;

pub use daemon::{DaemonConnection, DaemonConnections};
pub use encodings::{Encodings, InUse};
pub use http::{Exchange, Http, HttpConnection};
pub use jobs::{Job, Jobs};
pub use labels::{Coding, Cut, Listener, Method, Outcome, Route};
pub use measured::{CacheUsage, CatalogState, IndexSize, Measured};
pub use retention::Retention;
pub use text::Format;

use prometheus_client::{metrics::info::Info, registry::Registry};
use std::time::SystemTime;

/// Seconds of work: from what is there already to what takes as long as it may.
const WORK_SECONDS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

/// All that the parts of the registry report into. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Requests, responses and connections.
    pub http: Http,
    /// What names mean.
    pub evaluations: Jobs,
    /// Builds, and what is fetched instead.
    pub builds: Jobs,
    /// Images that are read and hashed.
    pub readings: Jobs,
    /// Connections to nix-daemon.
    pub daemon: DaemonConnections,
    /// Responses that are compressed.
    pub encodings: Encodings,
    /// What retention does.
    pub retention: Retention,
    started: SystemTime,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            http: Http::default(),
            evaluations: Jobs::new("evaluation", "look-ups of what a name means"),
            builds: Jobs::new("build", "builds of images, or fetches of what was built elsewhere"),
            readings: Jobs::new("reading", "readings of images, which are hashed and unpacked"),
            daemon: DaemonConnections::default(),
            encodings: Encodings::default(),
            retention: Retention::default(),
            started: SystemTime::now(),
        }
    }
}

impl Metrics {
    /// Everything as text, with what was measured just now. Reads from `/proc`, so it may wait a little.
    pub fn text(&self, measured: &Measured, format: Format) -> String {
        let mut all = Registry::default();
        let own = all.sub_registry_with_prefix("forge_registry");
        own.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        self.http.register(own);
        for jobs in [&self.evaluations, &self.builds, &self.readings] {
            jobs.register(own);
        }
        self.daemon.register(own);
        self.encodings.register(own);
        self.retention.register(own);
        measured.register(own);
        process::register(&mut all, self.started);
        text::encode(&all, format)
    }
}

#[cfg(test)]
mod tests;
