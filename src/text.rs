//! Foreign text for people: what clients, flakes, builders and daemons say, before it reaches a terminal, a log or an error
//! body.
//!
//! A line break can forge a line of the log, an escape sequence can rewrite a terminal, and a bidirectional control makes
//! text read as something else. Such characters are shown as escapes: `\n`, `\r`, and `\u202e` as in JSON, so that the
//! text of a JSON document remains one. Tabs stay.

use std::borrow::Cow;

/// `text` as one line: nothing in it ends the line, and nothing is invisible.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\t' && is_hidden(c))
}

/// `text` with its line breaks: nothing else in it is invisible.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| !matches!(c, '\t' | '\n') && is_hidden(c))
}

/// `text` as one line in quotes, which it does not end.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", line(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !is_escaped(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    Cow::Owned(out)
}

/// Control characters, line and paragraph separators, and format characters: those of bidirectional text (Unicode
/// Standard Annex 9), and those that take no space.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_seen_is_escaped() {
        assert_eq!(line("a\tb\nc\r\u{1b}[31m\u{9b}\u{7f}"), "a\tb\\nc\\r\\u001b[31m\\u009b\\u007f");
        assert_eq!(lines("a\n\tb\r\n"), "a\n\tb\\r\n");
        for c in "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{2028}\u{85}"
            .chars()
        {
            assert_eq!(lines(&c.to_string()), format!("\\u{:04x}", u32::from(c)));
        }
        assert_eq!(quoted("a \"b\" \\n\n\u{e0041}"), "\"a \\\"b\\\" \\\\n\\n\\udb40\\udc41\"");
        assert!(matches!(lines("plain ‘text’ – äöü 漢字 🎉"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn a_line_is_one_line_and_json_stays_json(text in any::<String>()) {
            prop_assert!(!line(&text).chars().any(|c| c != '\t' && is_hidden(c)));
            prop_assert_eq!(line(&text).lines().count(), usize::from(!text.is_empty()));
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&lines(&json)).unwrap(), text.clone());
            let inner = quoted(&text);
            let json: String = serde_json::from_str(&inner.replace('\t', "\\t")).unwrap();
            prop_assert_eq!(json, text);
        }
    }
}
