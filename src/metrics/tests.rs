use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// Something of everything.
fn all(format: Format) -> String {
    let metrics = Metrics::default();
    for (code, encoding) in [(200, Coding::Identity), (404, Coding::Gzip)] {
        metrics.http.begin(Method::Get).answered(code, encoding);
    }
    drop(metrics.http.connect(Listener::Tcp));
    metrics.http.delayed(Listener::Tcp);
    let catalog = CatalogState { entries: 1, read_at: SystemTime::now(), is_current: true };
    let measured = Measured {
        index: Some(IndexSize::default()),
        gc_roots: Some(3),
        gc_roots_missing: Some(1),
        catalog: Some(catalog),
        ..Default::default()
    };
    metrics.text(&measured, format)
}

/// Metrics with type, help and labels, as they are in the text.
fn described(text: &str) -> BTreeMap<String, (String, String, BTreeSet<String>)> {
    let mut metrics = BTreeMap::new();
    let (mut help, mut current) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            help = line.split_once(' ').unwrap().1.trim_end_matches('.').to_owned();
        } else if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            let former = metrics.insert(name.to_owned(), (kind.to_owned(), help.clone(), BTreeSet::new()));
            assert!(former.is_none(), "{name} is there twice");
            current = name.to_owned();
        } else {
            assert!(line.starts_with(&current), "{line} is of no metric");
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            metrics.get_mut(&current).unwrap().2.extend(labels.filter(|label| label != "le"));
        }
    }
    metrics
}

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn every_metric_is_documented() {
    let mut table = "| metric | type | labels | |\n|---|---|---|---|\n".to_owned();
    for (name, (kind, help, labels)) in described(&all(Format::Prometheus)) {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        table += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
    }
    assert!(file("docs/metrics.md").contains(&table), "docs/metrics.md must have this table:\n{table}");
}

#[test]
fn every_value_of_a_label_is_documented() {
    let text = file("docs/metrics.md");
    let values = [
        Route::ALL.iter().map(|value| value.as_str()).collect::<Vec<_>>(),
        Method::ALL.iter().map(|value| value.as_str()).collect(),
        Coding::ALL.iter().map(|value| value.as_str()).collect(),
        Cut::ALL.iter().map(|value| value.as_str()).collect(),
        Listener::ALL.iter().map(|value| value.as_str()).collect(),
        Outcome::ALL.iter().map(|value| value.as_str()).collect(),
        labels::Cache::ALL.iter().map(|value| value.as_str()).collect(),
    ];
    for value in values.concat() {
        assert!(text.contains(&format!("`{value}`")), "docs/metrics.md does not say what {value} is");
    }
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_there_are() {
    let known: BTreeSet<String> = described(&all(Format::Prometheus)).into_keys().collect();
    let pattern = regex::Regex::new(r"(?-u:\b)(?:forge_registry|process)_[a-z0-9_]+").unwrap();
    for path in ["docs/grafana.json", "docs/alerts.yml", "tests/alerts.yml"] {
        let text = file(path);
        let used: BTreeSet<&str> = pattern.find_iter(&text).map(|found| found.as_str()).collect();
        assert!(used.len() > 5, "{path}: {used:?}");
        for name in used {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = of_histogram.unwrap_or(name);
            assert!(known.contains(family) || known.contains(name), "{path}: there is no {name}");
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(&file("docs/grafana.json")).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}

#[test]
fn work_is_counted_where_it_is() {
    let metrics = Metrics::default();
    let value = |name: &str| {
        let text = metrics.text(&Measured::default(), Format::Prometheus);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("forge_registry_{name} ")))
            .map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse::<f64>().unwrap()
    };
    let (first, second) = (metrics.builds.queue(), metrics.builds.queue());
    first.begin();
    assert_eq!((value("builds_queued"), value("builds_running")), (1.0, 1.0));
    first.end(Outcome::Failed);
    second.end(Outcome::Refused);
    drop(metrics.builds.queue());
    metrics.builds.queue().discard();
    assert_eq!((value("builds_queued"), value("builds_running")), (0.0, 0.0));
    for (outcome, count) in [("failed", 1.0), ("refused", 1.0), ("internal", 1.0), ("succeeded", 0.0)] {
        assert_eq!(value(&format!("builds_total{{outcome=\"{outcome}\"}}")), count, "{outcome}");
    }
    assert_eq!(value("build_duration_seconds_count"), 1.0, "what was not begun took no time");

    let mut exchange = metrics.http.begin(Method::Get);
    exchange.route(Route::Blob);
    assert_eq!(value("http_requests_in_flight"), 1.0);
    exchange.answered(200, Coding::Zstd);
    exchange.sent(7);
    exchange.failed();
    drop(exchange);
    drop(metrics.http.begin(Method::Other));
    assert_eq!(value("http_requests_in_flight"), 0.0);
    assert_eq!(value("http_requests_total{route=\"blob\",method=\"GET\",code=\"200\"}"), 1.0);
    assert_eq!(value("http_response_bytes_total{route=\"blob\",encoding=\"zstd\"}"), 7.0);
    assert_eq!(value("http_responses_cut_total{route=\"blob\",by=\"registry\"}"), 1.0);
    assert_eq!(value("http_abandoned_requests_total{route=\"none\"}"), 1.0);
}
