//! A line of explanation where HTTP/1 leaves room for one.
//!
//! containerd asks with HEAD, whose answer has no body, and Go's clients print `resp.Status`, that is the status code
//! and the reason phrase: so the phrase is the one place where such a client's user sees why a pull failed
//! (`docs/clients.md`). HTTP/2 has no reason phrase; containerd speaks it only over TLS.

use crate::text;
use hyper::ext::ReasonPhrase;

/// Bytes of a phrase. Proxies read a status line into a buffer of 4 KiB or more.
const LIMIT: usize = 400;
/// Bytes of the message when there is a log to quote as well.
const MESSAGE_LIMIT: usize = 200;

/// One line of printable ASCII that tells `message`, and as many of the last lines of `log` as fit.
pub fn summary(message: &str, log: &[String]) -> String {
    let mut lines: Vec<String> = log.iter().map(|line| one_line(line)).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        return cut(one_line(message), LIMIT);
    }
    // The message may quote the log below its first line.
    let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut text = cut(one_line(first), MESSAGE_LIMIT);
    let mut quoted = lines.pop().unwrap_or_default();
    while let Some(line) = lines.pop() {
        if text.len() + quoted.len() + line.len() + 5 > LIMIT {
            break;
        }
        quoted = format!("{line} | {quoted}");
    }
    text.push_str(": ");
    text.push_str(&quoted);
    cut(text, LIMIT)
}

/// The phrase of [`summary`]; `None` if there is nothing to say.
pub fn phrase(message: &str, log: &[String]) -> Option<ReasonPhrase> {
    let summary = summary(message, log);
    if summary.is_empty() { None } else { ReasonPhrase::try_from(summary.into_bytes()).ok() }
}

/// Printable ASCII with single spaces: no line break can end the status line, no escape reach a terminal.
fn one_line(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in text::lines(s).chars() {
        match c {
            '!'..='~' => out.push(c),
            '\u{2018}' | '\u{2019}' => out.push('\''),
            '\u{201c}' | '\u{201d}' => out.push('"'),
            '\u{2026}' => out.push_str("..."),
            c if c.is_whitespace() || c.is_control() => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
            }
            _ => out.push('?'),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Cuts ASCII text, and shows that it was cut.
fn cut(mut s: String, limit: usize) -> String {
    if s.len() > limit {
        s.truncate(limit - 3);
        s.push_str("...");
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|l| (*l).to_owned()).collect()
    }

    #[test]
    fn a_message_becomes_one_line() {
        assert_eq!(
            summary("error: “x” is\n  missing…\n\tat \u{1b}[31mñ\u{202e}", &[]),
            "error: \"x\" is missing... at \\u001b[31m?\\u202e"
        );
        assert_eq!(summary("", &[]), "");
        assert!(phrase(" \n", &[]).is_none());
    }

    #[test]
    fn the_end_of_the_log_follows_the_first_line() {
        let log = lines(&["one", "", "two", "gcc: error: nope"]);
        assert_eq!(
            summary("build of x failed\nlog:\n one", &log),
            "build of x failed: one | two | gcc: error: nope"
        );
        let long: Vec<String> = (0..100).map(|i| format!("line number {i}")).collect();
        let text = summary(&"m".repeat(1000), &long);
        assert!(text.len() <= LIMIT && text.ends_with("line number 98 | line number 99"), "{text}");
        assert!(text.starts_with("mmm") && text.contains("...: "), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_a_valid_phrase(message in any::<String>(), log in proptest::collection::vec(any::<String>(), 0..5)) {
            let text = summary(&message, &log);
            prop_assert!(text.len() <= LIMIT);
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{:?}", text);
            prop_assert_eq!(phrase(&message, &log).is_some(), !text.is_empty());
        }
    }
}
