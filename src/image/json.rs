//! JSON whose objects keep their order, written as Python's `json.dumps(…, indent=4)` does: the digest of an image's
//! configuration, which is the image's ID, depends on every byte.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use std::fmt;

/// Bytes that a value takes at most in what JSON is parsed to here, with its share of a list that doubles when it is full.
/// (Measured by `tests/memory`.)
const VALUE: u64 = 256;
/// How often a text is copied on its way from a description to a manifest.
const COPIES: u64 = 8;

/// Memory that may be needed to parse this and to go on with it, in bytes. More than it mostly is: every value begins behind
/// one of three characters, which are counted in strings too.
pub(super) fn weight(json: &[u8]) -> u64 {
    let values = json.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    VALUE * (values as u64 + 1) + COPIES * json.len() as u64
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Array(Vec<Json>),
    /// Each key once, where it came first, with the value that came last: as in a Python dictionary.
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members.iter().find(|(k, _)| k == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Sets a member of an object.
    pub(super) fn set(&mut self, key: &str, value: Json) {
        let Self::Object(members) = self else { return };
        match members.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => members.push((key.into(), value)),
        }
    }

    pub(super) fn string(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// All elements as strings.
    pub(super) fn strings(&self) -> Option<Vec<&str>> {
        match self {
            Self::Array(elements) => elements.iter().map(Self::string).collect(),
            _ => None,
        }
    }

    /// `json.dumps(self, indent=4)`; none if that is longer than `limit` bytes, which a short text that is nested deeply can
    /// become by its white space.
    pub(super) fn dumps(&self, limit: usize) -> Option<String> {
        let mut out = String::new();
        self.write(&mut out, 1, limit);
        (out.len() <= limit).then_some(out)
    }

    fn write(&self, out: &mut String, depth: usize, limit: usize) {
        if out.len() > limit {
            return;
        }
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(value) => out.push_str(&value.to_string()),
            Self::Float(value) => out.push_str(&float(*value)),
            Self::String(text) => write_string(out, text),
            Self::Array(elements) => {
                let write = |out: &mut String, element: &Json| element.write(out, depth + 1, limit);
                write_all(out, ['[', ']'], elements, (depth, limit), write);
            }
            Self::Object(members) => {
                write_all(out, ['{', '}'], members, (depth, limit), |out, (key, value)| {
                    write_string(out, key);
                    out.push_str(": ");
                    value.write(out, depth + 1, limit);
                })
            }
        }
    }
}

fn write_all<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: &[T],
    (depth, limit): (usize, usize),
    write: impl Fn(&mut String, &T),
) {
    out.push(open);
    for (n, item) in items.iter().enumerate() {
        if out.len() > limit {
            return;
        }
        out.push_str(if n == 0 { "\n" } else { ",\n" });
        out.extend(std::iter::repeat_n("    ", depth));
        write(out, item);
    }
    if !items.is_empty() {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth - 1));
    }
    out.push(close);
}

/// With `ensure_ascii`, Python's default.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

/// `repr(float)`: the shortest digits that read back as the same number; with an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let digits = scientific.split('e').next().unwrap_or_default();
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value:?}")
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element()? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        while let Some((key, value)) = access.next_entry::<String, Json>()? {
            match places.get(&key) {
                Some(place) => {
                    let (_, old): &mut (String, Json) = &mut members[*place];
                    *old = value;
                }
                None => {
                    places.insert(key.clone(), members.len());
                    members.push((key, value));
                }
            }
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_python_writes() {
        let text = r#"{"b":[],"a":{},"n":[1,-2,2.50,1e16,1e-5,null,true],"t":"\"\\\u007f\u00e9😀\n\u0001/","b":{"x":"y"}}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        let expected = r#"{
    "b": {
        "x": "y"
    },
    "a": {},
    "n": [
        1,
        -2,
        2.5,
        1e+16,
        1e-05,
        null,
        true
    ],
    "t": "\"\\\u007f\u00e9\ud83d\ude00\n\u0001/"
}"#;
        assert_eq!(json.dumps(expected.len()).as_deref(), Some(expected));
        assert_eq!(json.dumps(expected.len() - 1), None);
    }
}
