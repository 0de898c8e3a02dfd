//! The configuration of a streamed image.
//!
//! | | |
//! |---|---|
//! | `config` `architecture` | as in the image's configuration |
//! | `created` | ISO 8601, or `now` |
//! | `mtime` | of all files; newer nixpkgs, else that is `created` |
//! | `uid` `gid` `uname` `gname` | of all files; newer nixpkgs, else root |
//! | `store_dir` | the store folder |
//! | `from_image` | an archive whose layers come first, or null |
//! | `store_layers` | a list of layers, each a list of store paths |
//! | `customisation_layer` | a folder with `layer.tar` and `checksum` |
//! | `repo_tag` | the image's own name and tag |
//!
//! (nixpkgs, `pkgs/build-support/docker/default.nix`, `streamLayeredImage`; flakeforge's `streamLayeredImageConf` writes
//! the older form.)

use super::{script::Program, time::Time};
use crate::{
    image::json::Json,
    layer::{Owner, Style, Writer},
};
use serde::{Deserialize, de::IgnoredAny};
use std::time::SystemTime;

#[derive(Debug)]
pub(super) struct Conf {
    pub(super) architecture: String,
    pub(super) config: Json,
    pub(super) created: Time,
    pub(super) style: Style,
    /// Permissions of `/nix` and `/nix/store`.
    pub(super) root_mode: u32,
    pub(super) store_dir: String,
    pub(super) store_layers: Vec<Vec<String>>,
    pub(super) customisation_layer: Option<String>,
    pub(super) repo_tag: Option<String>,
}

/// Whether this is the configuration of a streamed image, valid or not.
pub(super) fn is_one(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Signs {
        #[allow(dead_code)]
        store_layers: IgnoredAny,
    }
    serde_json::from_slice::<Signs>(json).is_ok()
}

impl Conf {
    /// Reads a configuration, which `program` reads if a script named one; the error says what is wrong with it.
    pub(super) fn parse(json: &Json, program: Option<Program>, now: SystemTime) -> Result<Self, String> {
        text(json, "from_image")?;
        let created = time(json, "created", now)?.ok_or("it has no \"created\"")?;
        let mtime = time(json, "mtime", now)?.map_or(created.seconds, |time| time.seconds);
        // nixpkgs began to state owners, and to make /nix writable for its owner, at about the same time.
        let newer = json.get("uid").is_some();
        let program = program.unwrap_or_default();
        let owner = Owner {
            uid: number(json, "uid")?,
            gid: number(json, "gid")?,
            uname: text(json, "uname")?.unwrap_or_else(|| "root".into()),
            gname: text(json, "gname")?.unwrap_or_else(|| "root".into()),
        };
        let layers = || "its \"store_layers\" is not a list of lists of store paths".to_owned();
        let Some(Json::Array(store_layers)) = json.get("store_layers") else { return Err(layers()) };
        let store_layers = store_layers.iter().map(|layer| {
            let paths = layer.strings().ok_or_else(layers)?;
            Ok(paths.into_iter().map(str::to_owned).collect())
        });
        Ok(Self {
            architecture: text(json, "architecture")?.ok_or("it has no \"architecture\"")?,
            config: json.get("config").cloned().unwrap_or(Json::Object(Vec::new())),
            created,
            style: Style { mtime, owner, writer: program.writer.unwrap_or(Writer::Python) },
            root_mode: program.root_mode.unwrap_or(if newer { 0o755 } else { 0o555 }),
            store_dir: text(json, "store_dir")?.ok_or("it has no \"store_dir\"")?,
            store_layers: store_layers.collect::<Result<_, String>>()?,
            customisation_layer: text(json, "customisation_layer")?,
            repo_tag: text(json, "repo_tag")?,
        })
    }
}

fn text(json: &Json, key: &str) -> Result<Option<String>, String> {
    match json.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("its {key:?} is not a string")),
    }
}

fn time(json: &Json, key: &str, now: SystemTime) -> Result<Option<Time>, String> {
    let Some(text) = text(json, key)? else { return Ok(None) };
    let time = Time::parse(&text, now);
    let shown: String = text.chars().take(80).collect();
    time.map(Some).ok_or_else(|| format!("its {key:?} is {shown:?}, which is neither ISO 8601 nor now"))
}

/// nixpkgs writes numbers as strings.
fn number(json: &Json, key: &str) -> Result<i64, String> {
    let number = match json.get(key) {
        None => Some(0),
        Some(Json::Integer(number)) => i64::try_from(*number).ok(),
        Some(Json::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    number.ok_or_else(|| format!("its {key:?} is not a number"))
}
