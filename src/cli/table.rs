//! Rows of text: in columns on a terminal, with tabs for programs.

use forge_registry::registry::{ImageSummary, Time};
use std::io::{self, IsTerminal};

const HEADER: [&str; 8] = ["NAME", "TAG", "DIGEST", "SIZE", "LAYERS", "MADE", "LAST USED", "GC ROOT"];

/// The lines that show images.
pub fn images(images: &[ImageSummary], now: Time) -> Vec<String> {
    if io::stdout().is_terminal() {
        for_people(images, now)
    } else {
        images.iter().map(for_programs).collect()
    }
}

fn for_programs(image: &ImageSummary) -> String {
    let time = |time: Option<Time>| time.map_or_else(String::new, |time| time.to_string());
    [
        image.name.clone(),
        image.tag.clone().unwrap_or_default(),
        image.digest.to_string(),
        image.size.to_string(),
        image.layers.to_string(),
        time(image.made_at),
        time(image.used_at),
        if image.rooted { "yes" } else { "no" }.into(),
    ]
    .join("\t")
}

fn for_people(images: &[ImageSummary], now: Time) -> Vec<String> {
    let age = |time: Option<Time>| time.map_or_else(|| "-".into(), |time| ago(time, now));
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(images.iter().map(|image| {
        [
            image.name.clone(),
            image.tag.clone().unwrap_or_else(|| "-".into()),
            image.digest.hex()[..12].to_owned(),
            bytes(image.size),
            image.layers.to_string(),
            age(image.made_at),
            age(image.used_at),
            if image.rooted { "yes" } else { "no" }.into(),
        ]
    }));
    let widths: [usize; 8] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 8]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A length with a unit, three digits of it.
pub fn bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let digits = if unit == "B" || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// How long ago, in the largest unit of which there are two or more.
fn ago(time: Time, now: Time) -> String {
    let seconds = now.0.saturating_sub(time.0);
    for (unit, name) in [(86_400, "days"), (3600, "hours"), (60, "minutes")] {
        if seconds >= 2 * unit {
            return format!("{} {name} ago", seconds / unit);
        }
    }
    format!("{seconds} s ago")
}

#[cfg(test)]
mod tests {
    use super::*;
    use forge_registry::oci::Digest;

    fn image(name: &str, tag: Option<&str>) -> ImageSummary {
        ImageSummary {
            name: name.into(),
            tag: tag.map(Into::into),
            digest: Digest::of(b"x"),
            size: 1_234_567,
            layers: 3,
            made_at: None,
            used_at: Some(Time(1_000_000)),
            rooted: true,
        }
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let rows = for_people(&[image("a", Some("latest")), image("packages/long", None)], Time(1_200_000));
        assert_eq!(
            rows,
            [
                "NAME           TAG     DIGEST        SIZE      LAYERS  MADE  LAST USED   GC ROOT",
                "a              latest  2d711642b726  1.18 MiB  3       -     2 days ago  yes",
                "packages/long  -       2d711642b726  1.18 MiB  3       -     2 days ago  yes",
            ]
        );
        let row = for_programs(&image("a", None));
        assert_eq!(row.split('\t').count(), HEADER.len());
        assert!(
            row.starts_with("a\t\tsha256:2d711642b726b044") && row.contains("\t1970-01-12T13:46:40Z\t"),
            "{row}"
        );
    }

    #[test]
    fn lengths_and_ages_have_two_or_three_digits() {
        for (length, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (20_480, "20.0 KiB"),
            (123 << 20, "123 MiB"),
            (5 << 50, "5120 TiB"),
        ] {
            assert_eq!(bytes(length), text);
        }
        for (seconds, text) in [
            (0, "0 s ago"),
            (119, "119 s ago"),
            (120, "2 minutes ago"),
            (7199, "119 minutes ago"),
            (200_000, "2 days ago"),
        ] {
            assert_eq!(ago(Time(0), Time(seconds)), text);
        }
    }
}
