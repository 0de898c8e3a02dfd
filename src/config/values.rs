//! Values of particular settings: what is allowed for each, on top of what `parse` reads.

use super::{
    LogFormat,
    parse::{Bad, bytes, count, duration},
};
use crate::{closure::Strategy, image, resolve::Revisions};
use std::{num::NonZeroUsize, time::Duration};

pub(super) fn flake_reference(text: &str) -> Result<String, Bad> {
    const ALLOWED: Bad =
        Bad::new("a flake reference without an attribute, such as github:owner/repo or path:/etc/images");
    if text.contains(['#', ' ', '\n', '<', '>']) {
        return Err(ALLOWED);
    }
    // Relative to what the evaluator's folder is would be a surprise.
    if text == "." || text.starts_with("./") || text.starts_with("../") {
        let path = std::fs::canonicalize(text).map_err(|_| ALLOWED)?;
        return Ok(format!("path:{}", path.display()));
    }
    Ok(text.to_owned())
}

/// A flake reference, or the name of an entry of NIX_PATH in angle brackets.
pub(super) fn package_set(text: &str) -> Result<String, Bad> {
    match text.strip_prefix('<').and_then(|text| text.strip_suffix('>')) {
        Some(name)
            if !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+/-".contains(&b)) =>
        {
            Ok(text.to_owned())
        }
        Some(_) => Err(Bad::new("the name of an entry of NIX_PATH, such as <nixpkgs>")),
        None => flake_reference(text),
    }
}

pub(super) fn revisions(text: &str) -> Result<Revisions, Bad> {
    match text {
        "none" => Ok(Revisions::None),
        "refs" => Ok(Revisions::Refs),
        "commits" => Ok(Revisions::Commits),
        _ => Err(Bad::new("none, refs or commits")),
    }
}

pub(super) fn systems(text: &str) -> Result<Vec<String>, Bad> {
    let systems: Vec<String> =
        text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Into::into).collect();
    let valid =
        |s: &String| s.contains('-') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    match systems.as_slice() {
        [] => Ok(vec![format!("{}-linux", std::env::consts::ARCH)]),
        all if all.iter().all(valid) => Ok(systems),
        _ => Err(Bad::new("Nix systems such as x86_64-linux, separated by commas")),
    }
}

pub(super) fn positive(text: &str) -> Result<Duration, Bad> {
    match duration(text)? {
        Duration::ZERO => Err(Bad::new("a duration longer than zero")),
        duration => Ok(duration),
    }
}

pub(super) fn between<const MIN: usize, const MAX: usize>(text: &str) -> Result<usize, Bad> {
    match count(text) {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
        _ => Err(Bad(format!("a whole number from {MIN} to {MAX}").into())),
    }
}

pub(super) fn strategy(text: &str) -> Result<Strategy, Bad> {
    text.parse().map_err(|_| Bad::new("stability, nixery or nixpkgs"))
}

pub(super) fn switch(text: &str) -> Result<bool, Bad> {
    match text {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(Bad::new("1 or 0")),
    }
}

pub(super) fn layer_compression(text: &str) -> Result<image::LayerCompression, Bad> {
    match text {
        "none" => Ok(image::LayerCompression::None),
        "gzip" => Ok(image::LayerCompression::Gzip),
        "zstd" => Ok(image::LayerCompression::Zstd),
        _ => Err(Bad::new("none, gzip or zstd")),
    }
}

pub(super) fn rate(text: &str) -> Result<u64, Bad> {
    match text {
        "0" => Ok(0),
        text => bytes(text)
            .map_err(|_| Bad::new("0, or a number of bytes a second, or a number with KiB, MiB or GiB")),
    }
}

pub(super) fn header_bytes(text: &str) -> Result<usize, Bad> {
    match bytes(text) {
        Ok(number @ 8192..=1_048_576) => Ok(number as usize),
        _ => Err(Bad::new("a size from 8KiB to 1MiB")),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Bad> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(Bad::new("human or json")),
    }
}

/// The default of what keeps a processor busy.
pub(super) fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
