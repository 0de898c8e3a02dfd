//! Files of lines: what htpasswd, tokens and rules have in common.

use std::path::{Path, PathBuf};

/// A file of access control cannot be used: which setting names it, where, and why. Never quotes a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {}", self.place())]
pub struct AccessError {
    /// The setting.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The line, if it is one that is wrong.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl AccessError {
    /// Where it is wrong, and what is.
    pub fn place(&self) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}: {}", self.path.display(), self.reason)
    }
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadLine {
    /// From 1 on.
    pub(super) line: usize,
    /// What is wrong, and what to do.
    pub(super) reason: String,
}

impl BadLine {
    pub(super) fn new(line: usize, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

/// What there is on the lines with their numbers; empty ones and those that begin with `#` are passed over.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Reads and parses the file of a setting.
pub(super) fn read<T>(
    setting: &'static str,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, BadLine>,
) -> Result<T, AccessError> {
    let failed = |line, reason| AccessError { setting, path: path.into(), line, reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(None, error.to_string()))?;
    parse(&text).map_err(|BadLine { line, reason }| failed(Some(line), reason))
}

/// Whether a name can be that of a user. `anonymous` and `authenticated` have a meaning of their own in the rules.
pub(super) fn check_user(line: usize, name: &str) -> Result<(), BadLine> {
    if name.is_empty() || name.len() > 255 || name.chars().any(|c| c.is_control()) {
        return Err(BadLine::new(line, "there is no user name of 1 to 255 printable bytes before the colon"));
    }
    if name == super::rules::ANONYMOUS || name == super::rules::AUTHENTICATED {
        return Err(BadLine::new(
            line,
            format!("{name:?} has a meaning of its own, so no user can be called that"),
        ));
    }
    Ok(())
}
