use super::*;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written of `events`.
fn written(format: LogFormat, ansi: bool, events: impl FnOnce()) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::registry().with(layer(format, move || writer.clone(), ansi));
    tracing::subscriber::with_default(subscriber, events);
    String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
}

fn event(text: &str) {
    tracing::error!(field = text, display = %text, debug = ?Some(text), "{text}");
}

/// Without the time.
fn after_time(line: &str) -> &str {
    line.split_once(' ').unwrap().1
}

#[test]
fn an_event_is_one_line_with_fields_that_are_told_apart() {
    let forged = "x\n2026-01-01T00:00:00.000000Z  INFO request status=200\u{202e}\u{1b}[2J";
    let text = written(LogFormat::Human, false, || {
        tracing::warn!(name = "a b", plain = %"ab", parted = %"a b=c", none = %"", ms = 1.5, "said: {forged}");
    });
    assert_eq!(
        after_time(&text),
        " WARN said: x\\n2026-01-01T00:00:00.000000Z  INFO request status=200\\u202e\\u001b[2J name=\"a b\" plain=ab \
         parted=\"a b=c\" none=\"\" ms=1.5\n"
    );
    let text =
        written(LogFormat::Human, true, || tracing::info!(error = %"\u{1b}[0m \" status=200", "request"));
    assert!(
        text.ends_with("request \x1b[3merror\x1b[0m\x1b[2m=\x1b[0m\"\\u001b[0m \\\" status=200\"\n"),
        "{text:?}"
    );
}

proptest! {
    #[test]
    fn no_text_makes_a_line_or_a_control_character(
        text in "(\\PC|\\n|\\r|\\t|\u{1b}\\[|[\u{80}-\u{9f}\u{200b}-\u{202e}\u{2066}-\u{2069}\u{61c}]|[0-9T:-]| INFO ){0,60}"
    ) {
        let human = written(LogFormat::Human, false, || event(&text));
        let json = written(LogFormat::Json, false, || event(&text));
        for written in [&human, &json] {
            let line = written.strip_suffix('\n').unwrap();
            prop_assert_eq!(&*crate::text::line(line), line);
        }
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(json["message"].as_str(), Some(&*text));
        prop_assert_eq!(json["field"].as_str(), Some(&*text));
    }
}
