//! What Prometheus reads, as numbers.

use crate::support::{Answer, Registry, eventually};
use std::collections::BTreeMap;

/// Metrics on a port that the kernel chooses.
pub const LISTEN: (&str, &str) = ("METRICS_LISTEN", "127.0.0.1:0");

/// Where the metrics of a running registry are.
pub fn address(registry: &Registry) -> String {
    let log = registry.log();
    let line = log.lines().rev().find_map(|line| Some(line.split_once("metrics are on ")?.1.to_owned()));
    line.unwrap_or_else(|| panic!("no metrics:\n{log}"))
}

pub fn get(registry: &Registry, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    registry.request_at(&address(registry), method, path, headers)
}

/// The values of all series, as they are now.
pub struct Scrape(pub BTreeMap<String, f64>);

impl Scrape {
    pub fn of(registry: &Registry) -> Self {
        let answer = get(registry, "GET", "/metrics", &[]);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "text/plain; version=0.0.4; charset=utf-8")
        );
        let text = answer.text();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(samples.map(|line| parse(line).unwrap_or_else(|| panic!("{line:?} is no sample"))).collect())
    }

    /// A series of ours; zero until there is one.
    pub fn value(&self, series: &str) -> f64 {
        self.0.get(&format!("forge_registry_{series}")).copied().unwrap_or_default()
    }

    /// Whether all series have these values; else it says which has not.
    pub fn has(&self, expected: &[(&str, f64)]) -> bool {
        let wrong = expected.iter().find(|(series, value)| self.value(series) != *value);
        if let Some((series, value)) = wrong {
            eprintln!("{series} is {} instead of {value}", self.value(series));
        }
        wrong.is_none()
    }
}

/// A response has ended a little later than its client knows, and sizes are remembered for two seconds.
pub fn comes_to_have(registry: &Registry, expected: &[(&str, f64)]) {
    eventually("the metrics are right", || Scrape::of(registry).has(expected));
}
