//! Build logs, as nix-daemon sends them: live lines that belong to activities.

use super::hide_secrets;
use nix_daemon::{Stderr, StderrActivityType, StderrResultType};
use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

/// Lines kept of a build, to be shown should it fail.
const TAIL_LINES: usize = 25;
/// Bytes kept of one line: a builder can print megabytes without a line break.
const MAX_LINE: usize = 1000;
/// Bytes kept of a message, and of one line of it; Nix quotes the end of a log, whatever the length of its lines.
const MAX_MESSAGE: usize = 64 << 10;
const MAX_MESSAGE_LINE: usize = 2 * MAX_LINE;
/// Activities remembered at a time; nix-daemon runs far fewer.
const MAX_ACTIVITIES: usize = 10_000;

/// Follows the messages of one nix-daemon call: logs every line with the name of its derivation, and keeps the last.
#[derive(Debug)]
pub struct BuildLog {
    derivations: HashMap<u64, String>,
    tail: VecDeque<String>,
    last_step: Instant,
}

impl Default for BuildLog {
    fn default() -> Self {
        Self { derivations: HashMap::new(), tail: VecDeque::new(), last_step: Instant::now() }
    }
}

impl BuildLog {
    /// Takes in one message.
    pub fn record(&mut self, message: Stderr) {
        match message {
            Stderr::StartActivity(start) => {
                let of_a_path = matches!(
                    start.kind,
                    StderrActivityType::Build | StderrActivityType::Substitute | StderrActivityType::CopyPath
                );
                if !of_a_path || self.derivations.len() >= MAX_ACTIVITIES {
                    return;
                }
                self.last_step = Instant::now();
                let path = start.fields.first().and_then(|f| f.as_string());
                let name = path.map_or("?", |path| short_name(path)).to_owned();
                if start.kind == StderrActivityType::Build {
                    tracing::info!(target: "forge_registry::build", derivation = name, "building");
                } else {
                    tracing::debug!(target: "forge_registry::build", path = name, "substituting");
                }
                self.derivations.insert(start.act_id, name);
            }
            Stderr::StopActivity { act_id } => {
                if self.derivations.remove(&act_id).is_some() {
                    self.last_step = Instant::now();
                }
            }
            Stderr::Result(result) => {
                let is_line = matches!(
                    result.kind,
                    StderrResultType::BuildLogLine | StderrResultType::PostBuildLogLine
                );
                if let (true, Some(line)) = (is_line, result.fields.first().and_then(|f| f.as_string())) {
                    let name = self.derivations.get(&result.act_id).map_or("?", String::as_str);
                    let line = clean(line);
                    tracing::debug!(target: "forge_registry::build", derivation = name, "{line}");
                    self.push(line);
                }
            }
            Stderr::Next(text) => {
                for line in text.lines() {
                    tracing::debug!(target: "forge_registry::build", "{}", clean(line));
                }
            }
            Stderr::Error(error) => {
                tracing::debug!(target: "forge_registry::build", "{}", clean_message(&error.msg));
            }
        }
    }

    fn push(&mut self, line: String) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// When a derivation or a substitution last began or ended.
    pub fn last_step(&self) -> Instant {
        self.last_step
    }

    /// The last lines that builders printed, without colours.
    pub fn into_tail(self) -> Vec<String> {
        self.tail.into()
    }
}

/// `/nix/store/<digest>-<name>.drv` → `<name>`
pub(super) fn short_name(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    let name = base.split_once('-').map_or(base, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

fn clean(line: &str) -> String {
    let mut line = hide_secrets(&strip_ansi(line));
    cut(&mut line, MAX_LINE);
    line
}

/// A message of Nix for people: without colours and without the secrets of URLs, and of bounded length, since it goes
/// into answers and logs and is remembered.
pub fn clean_message(text: &str) -> String {
    let mut out = String::new();
    for line in hide_secrets(&strip_ansi(text)).lines() {
        let mut line = line.to_owned();
        cut(&mut line, MAX_MESSAGE_LINE);
        out.push_str(&line);
        out.push('\n');
        if out.len() > MAX_MESSAGE {
            break;
        }
    }
    out.truncate(out.trim_end().len());
    cut(&mut out, MAX_MESSAGE);
    out
}

/// Cuts a text to `max` bytes, between characters, and marks that.
fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// Removes terminal escape sequences (ECMA-48) and control characters other than line breaks and tabs. Of a line
/// that overwrites itself by carriage returns, the last state remains.
pub fn strip_ansi(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut line_start = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => match chars.next() {
                // CSI: parameters and intermediates, then one final byte.
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // OSC, DCS, SOS, PM, APC: up to BEL or ST (ESC \).
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = chars.next() {
                        if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                // An intermediate (as in "ESC ( B") and its final byte.
                Some(' '..='/') => {
                    chars.next();
                }
                _ => {}
            },
            '\n' => {
                out.push('\n');
                line_start = out.len();
            }
            '\r' if chars.peek().is_some_and(|next| *next != '\n' && *next != '\r') => {
                out.truncate(line_start)
            }
            '\t' => out.push('\t'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_titles_and_progress_bars_are_stripped() {
        assert_eq!(strip_ansi("\x1b[1;31merror:\x1b[0m no\tway"), "error: no\tway");
        assert_eq!(strip_ansi("\x1b]0;title\x07a\x1b]8;;x\x1b\\b\x1b(Bc"), "abc");
        assert_eq!(strip_ansi("one\n 10%\r 50%\r100%\ntwo\r\n"), "one\n100%\ntwo\n");
        assert_eq!(strip_ansi("cut \x1b[3"), "cut ");
    }

    proptest! {
        #[test]
        fn nothing_but_text_remains(text in "[\\x00-\\x7fäß]{0,80}") {
            prop_assert!(strip_ansi(&text).chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }

    #[test]
    fn an_endless_line_is_cut_between_characters() {
        let line = clean(&"ä".repeat(5000));
        assert!(line.len() <= MAX_LINE + '…'.len_utf8());
        let message = clean_message(&format!("reason:\n> {}\nend\n", "ä".repeat(5000)));
        assert!(message.len() < 3 * MAX_LINE && message.ends_with("…\nend"), "{message}");
        assert!(clean_message(&"ä\n".repeat(100_000)).len() <= MAX_MESSAGE + '…'.len_utf8());
    }
}
