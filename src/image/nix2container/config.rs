//! The image's configuration, byte for byte as nix2container's transport for skopeo writes it, so that the image has the
//! same ID: what Go's `json.Marshal` makes of image-spec's `Image`. (image-spec 1.1, `specs-go/v1/config.go`.)

use super::description::{Description, nullable};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::ser::{CompactFormatter, Formatter};
use std::{collections::BTreeMap, io};

/// The strings of a map's keys, in Go's order.
type Set = BTreeMap<String, Empty>;

/// `struct{}`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Empty {}

impl Serialize for Empty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

/// `config` of a configuration. A field that Go would drop is an error: somebody meant something by it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ImageConfig {
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: Set,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    volumes: Set,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    working_dir: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    stop_signal: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    args_escaped: bool,
}

/// What is said about one layer.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct History {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    created_by: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    empty_layer: bool,
}

#[derive(Serialize)]
struct Image<'d> {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    architecture: &'d str,
    os: &'static str,
    config: &'d ImageConfig,
    rootfs: RootFs<'d>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<History>,
}

#[derive(Serialize)]
struct RootFs<'d> {
    r#type: &'static str,
    /// Go has `null` for a list that nothing was added to.
    diff_ids: Option<Vec<&'d str>>,
}

/// The configuration of an image of these layers; the error says what is wrong with the description.
pub(super) fn config(description: &Description) -> Result<Vec<u8>, String> {
    let time = |text: &Option<String>| text.as_deref().map(time).transpose();
    let layers = &description.layers;
    let history = layers.iter().map(|layer| {
        let History { created_by, author, comment, empty_layer, created } = &layer.history;
        Ok(History {
            created: time(created)?,
            created_by: created_by.clone(),
            author: author.clone(),
            comment: comment.clone(),
            empty_layer: *empty_layer,
        })
    });
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_ids.as_str()).collect();
    let image = Image {
        created: time(&description.created)?,
        architecture: &description.arch,
        os: "linux",
        config: &description.image_config,
        rootfs: RootFs {
            r#type: if layers.is_empty() { "" } else { "layers" },
            diff_ids: Some(diff_ids).filter(|ids| !ids.is_empty()),
        },
        history: history.collect::<Result<_, String>>()?,
    };
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, AsGo(CompactFormatter));
    image.serialize(&mut serializer).map_err(|error| error.to_string())?;
    Ok(out)
}

/// A time as Go reads and writes it: RFC 3339, with no zeroes at the end of a fraction, and Greenwich as `Z`.
fn time(text: &str) -> Result<String, String> {
    let refused = || {
        let shown: String = text.chars().take(80).collect();
        format!("{shown:?} is no time of the form 2006-01-02T15:04:05Z")
    };
    let form = b"0000-00-00T00:00:00";
    let same = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte == *form,
    };
    let (time, rest) = text.split_at_checked(form.len()).ok_or_else(refused)?;
    let at = rest.find(['Z', '+', '-']).ok_or_else(refused)?;
    let (fraction, zone) = rest.split_at(at);
    let digits = |text: &str, count: std::ops::RangeInclusive<usize>| {
        count.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let zone = match zone.split_at(1) {
        ("Z", "") => "Z",
        (_, offset) => match offset.split_once(':') {
            Some(("00", "00")) => "Z",
            Some((hours, minutes)) if digits(hours, 2..=2) && digits(minutes, 2..=2) => zone,
            _ => return Err(refused()),
        },
    };
    let fraction = match fraction.strip_prefix('.') {
        Some(fraction) if digits(fraction, 1..=9) => fraction.trim_end_matches('0'),
        None if fraction.is_empty() => "",
        _ => return Err(refused()),
    };
    if !time.bytes().zip(form).all(same) {
        return Err(refused());
    }
    let point = if fraction.is_empty() { "" } else { "." };
    Ok(format!("{time}{point}{fraction}{zone}"))
}

/// Go writes what HTML gives a meaning to, and two line separators, as numbers.
struct AsGo(CompactFormatter);

impl Formatter for AsGo {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let special = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        for part in fragment.split_inclusive(special) {
            match part.chars().next_back().filter(|c| special.contains(c)) {
                None => self.0.write_string_fragment(writer, part)?,
                Some(c) => {
                    self.0.write_string_fragment(writer, &part[..part.len() - c.len_utf8()])?;
                    write!(writer, "\\u{:04x}", u32::from(c))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_go_writes() {
        for (text, expected) in [
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("2024-02-29T12:00:00.500Z", "2024-02-29T12:00:00.5Z"),
            ("2024-02-29T12:00:00.000+00:00", "2024-02-29T12:00:00Z"),
            ("2024-02-29T12:00:00+02:00", "2024-02-29T12:00:00+02:00"),
        ] {
            assert_eq!(time(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            "yesterday",
            "2024-02-29",
            "2024-02-29T12:00:00",
            "2024-02-29T12:00:00.Z",
            "2024-02-29T12:00:00+2",
            "2024-02-29 12:00:00Z",
            "2024-02-29T12:00:00ZZ",
            "2024-02-29T12:00:0\u{e9}Z",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
