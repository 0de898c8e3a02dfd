//! The image's configuration, byte for byte as nixpkgs writes it, so that the image's ID is what `docker load` says.

use super::conf::Conf;
use crate::{image::json::Json, oci::Digest};
use std::collections::HashMap;

/// A layer as the configuration mentions it.
#[derive(Debug)]
pub(super) struct Mention {
    pub(super) diff_id: Digest,
    /// Store paths, or the name of the archive's member.
    pub(super) paths: Vec<String>,
}

/// The configuration of an image with these layers, the first first, on the base image of this configuration. None if it is
/// longer than `limit` bytes.
pub(super) fn config(conf: &Conf, base: Option<&Json>, layers: &[Mention], limit: usize) -> Option<Vec<u8>> {
    let string = |text: &str| Json::String(text.to_owned());
    let object = |members: Vec<(&str, Json)>| {
        Json::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let mut config = conf.config.clone();
    if let Some(base) = base {
        overlay(base, &mut config);
    }
    let diff_ids = layers.iter().map(|layer| string(&layer.diff_id.to_string())).collect();
    let history = layers.iter().map(|layer| {
        let comment = format!("store paths: {}", list(&layer.paths));
        object(vec![("created", string(&conf.created.text)), ("comment", string(&comment))])
    });
    let image = object(vec![
        ("created", string(&conf.created.text)),
        ("architecture", string(&conf.architecture)),
        ("os", string("linux")),
        ("config", config),
        ("rootfs", object(vec![("diff_ids", Json::Array(diff_ids)), ("type", string("layers"))])),
        ("history", Json::Array(history.collect())),
    ]);
    image.dumps(limit).map(String::into_bytes)
}

/// Takes over the base image's environment; of two values of a variable the last one wins, where the first one stood.
fn overlay(base: &Json, config: &mut Json) {
    let env = |config: &Json| -> Vec<String> {
        let entries = config.get("Env").and_then(Json::strings).unwrap_or_default();
        entries.into_iter().map(str::to_owned).collect()
    };
    let (mut merged, mut places): (Vec<String>, HashMap<String, usize>) = Default::default();
    for entry in base.get("config").map(env).unwrap_or_default().into_iter().chain(env(config)) {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        match places.get(&name) {
            Some(place) => merged[*place] = entry,
            None => {
                places.insert(name, merged.len());
                merged.push(entry);
            }
        }
    }
    if !merged.is_empty() {
        if *config == Json::Null {
            *config = Json::Object(Vec::new());
        }
        config.set("Env", Json::Array(merged.into_iter().map(Json::String).collect()));
    }
}

/// `str(list)` of Python strings.
fn list(paths: &[String]) -> String {
    let quoted: Vec<String> = paths.iter().map(|path| quote(path)).collect();
    format!("[{}]", quoted.join(", "))
}

/// `repr(str)`.
fn quote(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_as_python_does() {
        assert_eq!(
            list(&["/a".into(), "it's".into(), "\\\"'\u{1}\u{e9}".into()]),
            "['/a', \"it's\", '\\\\\"\\'\\x01\u{e9}']"
        );
        assert_eq!(list(&[]), "[]");
    }

    #[test]
    fn the_environment_of_the_base_comes_first_and_the_last_value_wins() {
        let json = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        let base = json(r#"{"config": {"Env": ["PATH=/bin", "A=1"], "Cmd": ["x"]}}"#);
        let mut config = json(r#"{"Cmd": ["y"], "Env": ["B=2", "PATH=/usr/bin"]}"#);
        overlay(&base, &mut config);
        assert_eq!(config, json(r#"{"Cmd": ["y"], "Env": ["PATH=/usr/bin", "A=1", "B=2"]}"#));
        let mut config = json("null");
        overlay(&base, &mut config);
        assert_eq!(config, json(r#"{"Env": ["PATH=/bin", "A=1"]}"#));
    }
}
