//! Near misses of a name that does not exist.

/// How many are offered.
const SHOWN: usize = 5;
/// Jaro-Winkler similarity from which on a name is worth showing.
const SIMILAR: f64 = 0.8;

/// `; near misses: a, b`, or nothing if no name is near.
pub(super) async fn misses(wanted: String, names: Vec<String>) -> String {
    // There can be a hundred thousand of them.
    tokio::task::spawn_blocking(move || find(&wanted, names.iter().map(String::as_str)))
        .await
        .unwrap_or_default()
}

/// `; near misses: a, b`, or nothing if no name is near.
pub fn find<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let lower = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let score = strsim::jaro_winkler(&lower, &name.to_lowercase());
            (score >= SIMILAR).then_some((score, name))
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    let near: Vec<&str> = scored.into_iter().take(SHOWN).map(|(_, name)| name).collect();
    if near.is_empty() { String::new() } else { format!("; near misses: {}", near.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_nearest_come_first_and_strangers_not_at_all() {
        let names = ["hello", "help", "Hello-plain", "zebra"];
        assert_eq!(find("helo", names), "; near misses: hello, help, Hello-plain");
        assert_eq!(find("qqq", names), "");
    }
}
