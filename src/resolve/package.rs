//! What the evaluator says of a package that is to become an image.

use super::ResolveError;
use crate::{
    image::{Package, Settings, platform},
    nix::{Buildable, StoreDir, Wanted},
    oci::Platform,
};
use serde::Deserialize;
use std::{collections::BTreeMap, num::NonZeroUsize};

/// A package as `nix/eval/flake.nix` describes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Packaged {
    system: String,
    main_program: Option<String>,
    /// JSON, not looked at by Nix.
    config: Option<String>,
    mentions: BTreeMap<String, Mention>,
}

/// What is mentioned of a derivation or a store path (Nix manual, "String context").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mention {
    #[serde(default)]
    path: bool,
    #[serde(default)]
    all_outputs: bool,
    #[serde(default)]
    outputs: Vec<String>,
}

impl Packaged {
    /// The machine that it is for.
    pub(super) fn platform(&self, origin: &str) -> Result<Platform, ResolveError> {
        platform(&self.system).ok_or_else(|| {
            let system = &self.system;
            ResolveError::Package(format!(
                "{origin}: a package for {system} cannot run in a container of Linux"
            ))
        })
    }

    /// How the image is to be made, and what its configuration mentions of the store. `origin` is the package's
    /// attribute.
    pub(super) fn read(self, origin: &str, store: &StoreDir) -> Result<(Package, Vec<Wanted>), ResolveError> {
        let bad = |problem: String| ResolveError::Package(format!("{origin}: {problem}"));
        let platform = self.platform(origin)?;
        let settings = match &self.config {
            None => None,
            Some(text) => {
                let parsed = serde_json::from_str(text).map_err(|error| error.to_string());
                let parsed = parsed.and_then(|value| Settings::parse(value).map_err(|e| e.to_string()));
                Some(parsed.map_err(|problem| {
                    ResolveError::Package(format!("{origin}.imageConfig cannot be used: {problem}"))
                })?)
            }
        };
        let mut mentioned = Vec::new();
        for (path, mention) in self.mentions {
            let path = store.parse(&path).map_err(|error| bad(error.to_string()))?;
            if mention.all_outputs {
                return Err(bad(format!(
                    "its imageConfig mentions the derivation {path} itself: what it was built from would be part of the \
                     image. Mention an output instead"
                )));
            }
            if mention.path {
                mentioned
                    .push(Wanted { buildable: Buildable::Path(path.clone()), expected: Some(path.clone()) });
            }
            let output = |output| Buildable::Output { derivation: path.clone(), output };
            mentioned.extend(
                mention.outputs.into_iter().map(|name| Wanted { buildable: output(name), expected: None }),
            );
        }
        let package =
            Package { count: NonZeroUsize::MIN, platform, main_program: self.main_program, settings };
        Ok((package, mentioned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRV: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-data.drv";

    fn read(json: serde_json::Value) -> Result<(Package, Vec<Wanted>), String> {
        let packaged: Packaged = serde_json::from_value(json).unwrap();
        packaged.read("path:/f#a", &StoreDir::new("/nix/store")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_configuration_mentions_is_wanted_as_well() {
        let (package, mentioned) = read(serde_json::json!({
            "system": "x86_64-linux", "mainProgram": "a", "config": "{\"Cmd\":[\"b\"]}",
            "mentions": { DRV: { "outputs": ["out", "lib"] }, DRV.trim_end_matches(".drv"): { "path": true } }
        }))
        .unwrap();
        assert_eq!(package.settings.unwrap().cmd, Some(vec!["b".into()]));
        let names: Vec<String> = mentioned.iter().map(|wanted| format!("{:?}", wanted.buildable)).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0].starts_with("Path") && names[1].contains("\"out\"") && names[2].contains("\"lib\""));
    }

    #[test]
    fn what_cannot_be_done_names_the_attribute() {
        let none = serde_json::json!({});
        for (system, config, mentions, expected) in [
            ("x86_64-darwin", None, &none, "path:/f#a: a package for x86_64-darwin cannot run"),
            (
                "x86_64-linux",
                Some("7"),
                &none,
                "path:/f#a.imageConfig cannot be used: it is a number, not a set",
            ),
            (
                "x86_64-linux",
                Some("{}"),
                &serde_json::json!({ DRV: { "allOutputs": true } }),
                "mentions the derivation 00bgd045z0d4icpbc2yyz4gx48ak44la-data.drv itself",
            ),
        ] {
            let json = serde_json::json!({
                "system": system, "mainProgram": null, "config": config, "mentions": mentions
            });
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
