//! The script that nixpkgs' `streamLayeredImage` yields. It is read, never run.
//!
//! ```text
//! #! /nix/store/…-bash-5.2/bin/bash -e
//! exec "/nix/store/…-stream"  /nix/store/…-conf.json "$@"
//! ```
//! (nixpkgs, `pkgs/build-support/setup-hooks/make-wrapper.sh`.) `…-stream` is nixpkgs' `stream_layered_image.py`, whose
//! first line names a Python. Of both depends what some bytes of a layer are.

use crate::{layer::Writer, nix::StoreDir};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// Bytes of a script that are looked at.
pub(super) const MAX_SCRIPT: u64 = 256 << 10;

/// What the program that writes the archive is known to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) root_mode: Option<u32>,
    pub(super) writer: Option<Writer>,
}

impl Program {
    /// What the text of `stream_layered_image.py` says.
    pub(super) fn read(program: &str) -> Self {
        let modes = [("0o0755", 0o755), ("0o0555", 0o555)];
        let root_mode = modes.iter().find(|(text, _)| program.contains(text)).map(|(_, mode)| *mode);
        let first = program.lines().next().unwrap_or_default();
        let minor = first.rsplit_once("/python3.").and_then(|(_, rest)| {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..digits].parse::<u32>().ok()
        });
        let writer = minor.map(|n| if n < 9 { Writer::OldPython } else { Writer::Python });
        Self { root_mode, writer }
    }
}

/// The store paths that a script mentions, each once, in order.
fn mentioned(store: &StoreDir, script: &str) -> Vec<PathBuf> {
    let Some(prefix) = store.as_path().to_str().map(|store| format!("{store}/")) else { return Vec::new() };
    let (mut found, mut known): (Vec<PathBuf>, HashSet<PathBuf>) = Default::default();
    for (at, _) in script.match_indices(&prefix) {
        let rest = &script[at + prefix.len()..];
        let other = |c: char| !c.is_ascii_alphanumeric() && !"+._?=-/".contains(c);
        let path =
            Path::new(&script[at..at + prefix.len() + rest.find(other).unwrap_or(rest.len())]).to_owned();
        if store.split(&path).is_ok() && known.insert(path.clone()) {
            found.push(path);
        }
    }
    found
}

/// The configurations that a script names, and its program.
pub(super) fn names(store: &StoreDir, script: &str) -> (Vec<PathBuf>, Option<PathBuf>) {
    let (configurations, others): (Vec<PathBuf>, Vec<PathBuf>) =
        mentioned(store, script).into_iter().partition(|path| path.extension().is_some_and(|e| e == "json"));
    let is_program = |path: &PathBuf| {
        store.split(path).is_ok_and(|(p, rest)| p.name() == "stream" && rest == Path::new(""))
    };
    (configurations, others.into_iter().find(is_program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_names_its_configuration_and_its_program() {
        let store = StoreDir::new("/nix/store");
        let path = |name: &str| format!("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-{name}");
        let (bash, stream, conf) = (path("bash-5.2"), path("stream"), path("web-conf.json"));
        let script = format!("#! {bash}/bin/bash -e\nexec \"{stream}\"  {conf} \"$@\" \n");
        assert_eq!(names(&store, &script), (vec![conf.into()], Some(stream.into())));
        assert_eq!(names(&store, "#!/bin/sh\nexec /nix/store/../etc/x.json\n"), (vec![], None));
    }

    #[test]
    fn the_program_says_what_it_writes() {
        let program = |python: &str, mode: &str| {
            Program::read(&format!("#!/nix/store/x-python3/bin/{python}\nti.mode = {mode}  # rwx\n"))
        };
        let (old, new) = (program("python3.8", "0o0555"), program("python3.9", "0o0755"));
        assert_eq!(old, Program { root_mode: Some(0o555), writer: Some(Writer::OldPython) });
        assert_eq!(new, Program { root_mode: Some(0o755), writer: Some(Writer::Python) });
        assert_eq!(Program::read("#!/bin/sh\n"), Program::default());
    }
}
