//! The log's lines: one for each event, whatever the text in it says.
//!
//! Messages and fields hold text of clients, flakes and builders. It is escaped here, where all of it passes, and not where
//! events are made, where it would be forgotten.

use crate::{config::LogFormat, text};
use std::{
    fmt,
    io::{self, Write},
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    field::RecordFields,
    fmt::{FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};

/// Writes events as lines of this format, with colours for a terminal if `ansi`.
pub fn layer<S, W>(format: LogFormat, writer: W, ansi: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer();
    match format {
        LogFormat::Human => {
            Box::new(layer.with_writer(writer).with_target(false).with_ansi(ansi).fmt_fields(Fields))
        }
        LogFormat::Json => Box::new(layer.with_writer(Escaping(writer)).json().flatten_event(true)),
    }
}

/// A message, and fields as `name=value`. A value that could be taken for more than one is in quotes.
#[derive(Debug, Clone, Copy)]
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, is_empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn put(&mut self, field: &Field, value: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_empty) {
            self.writer.write_char(' ')?;
        }
        match (field.name(), self.writer.has_ansi_escapes()) {
            ("message", _) => Ok(()),
            (name, true) => write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m"),
            (name, false) => write!(self.writer, "{name}="),
        }?;
        self.writer.write_str(value)
    }

    fn record(&mut self, field: &Field, value: &str) {
        if self.result.is_ok() {
            self.result = self.put(field, value);
        }
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record(field, &text::line(value)),
            _ => self.record(field, &text::quoted(value)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        let is_one = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || "\"=".contains(c));
        match field.name() {
            "message" => self.record(field, &text::line(&value)),
            _ if is_one => self.record(field, &text::line(&value)),
            _ => self.record(field, &text::quoted(&value)),
        }
    }
}

/// Escapes in JSON what JSON itself leaves as it is.
struct Escaping<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Escaping<W> {
    type Writer = Escaping<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Escaping(self.0.make_writer())
    }
}

impl<W: Write> Write for Escaping<W> {
    /// An event is written at once, so no character is in two halves.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(text::lines(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
