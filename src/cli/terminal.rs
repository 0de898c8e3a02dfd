//! Text for people: on a terminal with a progress bar below it, and quietly when nobody reads it.

use forge_registry::text;
use indicatif::MultiProgress;
use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

/// Writes a line, or several, to standard output: the result of a command. The reader may stop in the middle.
/// Names, and messages of flakes and daemons, cannot do anything to the terminal: [`text::lines`].
pub fn print(line: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{}", text::lines(&line.to_string()))
}

/// How a command ends whose standard output nobody reads any more: quietly, with what a shell shows for SIGPIPE, of which
/// Rust makes an error; else with that error.
pub fn unread(error: &io::Error, terminal: &Terminal) -> ExitCode {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::from(141);
    }
    terminal.line(format_args!("forge-registry: standard output: {error}"));
    ExitCode::FAILURE
}

/// Where to a command's lines and the log's go, so that neither of them runs into a progress bar.
#[derive(Debug, Clone)]
pub struct Terminal {
    bars: MultiProgress,
}

impl Terminal {
    /// Standard error.
    pub fn new() -> Self {
        Self { bars: MultiProgress::new() }
    }

    /// The progress bars on it; none are shown if it is no terminal.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Writes a line above them, with the care of [`print`].
    pub fn line(&self, text: impl fmt::Display) {
        // At once: each write draws the bars anew.
        let _ = Above(self.bars.clone()).write(format!("{}\n", text::lines(&text.to_string())).as_bytes());
    }

    /// Whether colours are seen.
    pub fn is_one(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// A writer for the log.
    pub fn writer(&self) -> impl Write + use<> {
        Above(self.bars.clone())
    }
}

struct Above(MultiProgress);

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whoever closed the other end does not want to read it, and that is no reason to stop.
        let _ = self.0.suspend(|| io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
