//! The text formats: OpenMetrics 1.0.0, and Prometheus' own 0.0.4, which everything understands.

use prometheus_client::{encoding, registry::Registry};

/// A format of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    /// Its name in `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn encode(registry: &Registry, format: Format) -> String {
    let mut text = String::new();
    // Nothing that writes to a string fails.
    let _ = encoding::text::encode(&mut text, registry);
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => prometheus(&text),
    }
}

/// The older format of OpenMetrics. There a family has the name of its samples, units are not stated, and a version is a
/// gauge.
fn prometheus(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut push = |line: &str| {
            out.push_str(line);
            out.push('\n');
        };
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) else {
            if !line.starts_with("# ") {
                push(line);
            }
            continue;
        };
        let kind = lines.peek().and_then(|line| line.strip_prefix("# TYPE ")?.rsplit(' ').next());
        let (suffix, kind) = match kind {
            Some("counter") => ("_total", "counter"),
            Some("info") => ("_info", "gauge"),
            Some(kind) => ("", kind),
            None => ("", "untyped"),
        };
        push(&format!("# HELP {name}{suffix} {help}"));
        push(&format!("# TYPE {name}{suffix} {kind}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{
        metrics::{counter::ConstCounter, gauge::ConstGauge, histogram::Histogram, info::Info},
        registry::Unit,
    };

    #[test]
    fn the_older_format_has_a_type_for_each_name() {
        let mut registry = Registry::default();
        registry.register("a", "An a", ConstCounter::new(3u64));
        registry.register_with_unit("b", "A b", Unit::Bytes, ConstGauge::new(4i64));
        registry.register("c", "A c", Histogram::new([1.0]));
        registry.register("d", "A d", Info::new([("version", "1")]));
        let expected = "# HELP a_total An a.\n# TYPE a_total counter\na_total 3\n\
                        # HELP b_bytes A b.\n# TYPE b_bytes gauge\nb_bytes 4\n\
                        # HELP c A c.\n# TYPE c histogram\nc_sum 0.0\nc_count 0\nc_bucket{le=\"1.0\"} 0\nc_bucket{le=\"+Inf\"} 0\n\
                        # HELP d_info A d.\n# TYPE d_info gauge\nd_info{version=\"1\"} 1\n";
        assert_eq!(encode(&registry, Format::Prometheus), expected);
        let newer = encode(&registry, Format::OpenMetrics);
        assert!(
            newer.contains("# TYPE a counter\na_total 3\n") && newer.contains("# UNIT b_bytes bytes\n"),
            "{newer}"
        );
        assert!(newer.ends_with("# EOF\n"));
    }
}
