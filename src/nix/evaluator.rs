//! The evaluator socket: one Nix expression in, one JSON value out.
//!
//! Behind it stands, once for each connection, `nix eval --json --impure --log-format internal-json -f -` with the
//! connection as its standard input and output and mostly also its standard error. The client writes an expression,
//! shuts down its writing half, and reads to the end:
//!
//! ```text
//! answer ::= (line "\n")* value? (line "\n")*
//! line   ::= "@nix " JSON      a message: {"action":"msg","level":0,"msg":…,"raw_msg":…}
//!          | anything          stray output of the evaluator, and of git
//! value  ::= {"forgeRegistry-KEY":…}
//! ```
//!
//! An expression is a function from `nix/eval/`, compiled into this binary, applied to one JSON string literal.
//! Nothing else is ever spliced into Nix code, but KEY: 32 random digits, new for each expression. The servers that git
//! talks to have their messages printed among the rest, and cannot know it, nor can the code of a source.

use super::{clean_message, strip_ansi};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// How lines begin by which git and ssh say why they failed: what they run for, Nix says only that they did.
const REASONS: [&str; 4] = ["fatal: ", "error: ", "ERROR: ", "ssh: "];

/// Bytes of an answer; a flake with 100 000 names fits.
const MAX_ANSWER: u64 = 32 << 20;

/// A client of an evaluator socket: the evaluator's, or the fetcher's.
#[derive(Debug, Clone)]
pub struct Evaluator {
    role: &'static str,
    socket: PathBuf,
    timeout: Duration,
}

/// Why an expression has no value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EvaluatorError {
    /// The socket cannot be reached, or the connection broke.
    #[error("{role} at {socket:?}: {reason}")]
    Unavailable {
        /// Whose socket it is.
        role: &'static str,
        /// The socket.
        socket: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// Nix says that the expression is wrong.
    #[error("{0}")]
    Failed(String),
    /// The evaluation took too long.
    #[error("the evaluation exceeded the time limit of {} s (EVALUATION_TIMEOUT)", .0.as_secs())]
    TimedOut(Duration),
    /// There was an answer, but no value of ours in it.
    #[error("{role} at {socket:?}: {reason}")]
    Answer {
        /// Whose socket it is.
        role: &'static str,
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it, and its last words.
        reason: String,
    },
}

#[derive(Deserialize)]
struct LogMessage {
    action: String,
    #[serde(default)]
    level: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    raw_msg: Option<String>,
}

impl Evaluator {
    /// A client of the socket at `socket`, called `role` in errors; each evaluation may take `timeout`.
    pub fn new(role: &'static str, socket: &Path, timeout: Duration) -> Self {
        Self { role, socket: socket.into(), timeout }
    }

    /// How long an evaluation may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Applies `function`, the text of a Nix function, to `argument`.
    pub async fn call<A: Serialize, T: DeserializeOwned>(
        &self,
        function: &str,
        argument: &A,
    ) -> Result<T, EvaluatorError> {
        let argument = serde_json::to_string(argument)
            .map_err(|e| EvaluatorError::Failed(format!("the argument is not JSON: {e}")))?;
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| self.unavailable(&io::Error::other(format!("no random numbers: {error}"))))?;
        let key = format!("forgeRegistry-{:032x}", u128::from_ne_bytes(random));
        let argument = string_literal(&argument);
        let expression =
            format!("{{ {key} = (({function}\n) (builtins.fromJSON {argument})).forgeRegistry; }}\n");
        let answer = match tokio::time::timeout(self.timeout, self.exchange(expression.as_bytes())).await {
            Err(_) => return Err(EvaluatorError::TimedOut(self.timeout)),
            Ok(Err(error)) => return Err(self.unavailable(&error)),
            Ok(Ok(answer)) => answer,
        };
        if answer.len() as u64 > MAX_ANSWER {
            return Err(self.answer(format!("the answer is longer than {MAX_ANSWER} bytes")));
        }
        self.parse(&key, &String::from_utf8_lossy(&answer))
    }

    async fn exchange(&self, expression: &[u8]) -> io::Result<Vec<u8>> {
        let (reading, mut writing) = UnixStream::connect(&self.socket).await?.into_split();
        let mut answer = Vec::new();
        let exchanged = {
            let write = async {
                writing.write_all(expression).await?;
                writing.shutdown().await
            };
            let mut read =
                pin!(async { reading.take(MAX_ANSWER + 1).read_to_end(&mut answer).await.map(drop) });
            tokio::select! {
                read = &mut read => read,
                written = write => read.await.and(written),
            }
        };
        match exchanged {
            // An evaluator that refuses, or dies, hangs up before it has read everything. What counts is what it said.
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(answer),
        }
    }

    fn parse<T: DeserializeOwned>(&self, key: &str, answer: &str) -> Result<T, EvaluatorError> {
        let start = format!("{{\"{key}\":");
        let mut value = None;
        let mut errors = Vec::new();
        let mut reasons = Vec::new();
        let mut stray = "";
        for line in answer.lines() {
            // The value need not end in a line break, and stray output need not either.
            let (line, message) = match line.find("@nix {") {
                Some(at) => (&line[..at], Some(&line[at + "@nix ".len()..])),
                None => (line, None),
            };
            if let Some(at) = line.find(&start) {
                let mut values =
                    serde_json::Deserializer::from_str(&line[at + start.len()..]).into_iter::<T>();
                match values.next() {
                    Some(Ok(found)) => value = Some(found),
                    Some(Err(error)) => {
                        return Err(self.answer(clean_message(&format!("unexpected value: {error}"))));
                    }
                    None => {}
                }
            } else if !line.trim().is_empty() {
                tracing::debug!(target: "forge_registry::evaluation", "{}", clean_message(line));
                stray = line;
                if REASONS.iter().any(|start| line.starts_with(start)) {
                    reasons.push(line.trim_end().to_owned());
                }
            }
            if let Some(message) = message.and_then(|m| serde_json::from_str::<LogMessage>(m).ok()) {
                if message.action == "msg" && message.level == 0 {
                    errors.push(strip_ansi(message.raw_msg.as_deref().unwrap_or(&message.msg)));
                } else if !message.msg.is_empty() {
                    tracing::debug!(target: "forge_registry::evaluation", "{}", clean_message(&message.msg));
                }
            }
        }
        match value {
            Some(value) => Ok(value),
            // The last one is what it ended with; before that, there is what the code traced, as much as it likes.
            None if !errors.is_empty() => {
                errors.reverse();
                errors.append(&mut reasons);
                Err(EvaluatorError::Failed(clean_message(errors.join("\n").trim())))
            }
            None if stray.is_empty() => Err(self.answer("it closed the connection without an answer".into())),
            None => {
                Err(self.answer(format!("it gave no value; its last line was: {}", clean_message(stray))))
            }
        }
    }

    fn unavailable(&self, error: &io::Error) -> EvaluatorError {
        EvaluatorError::Unavailable {
            role: self.role,
            socket: self.socket.clone(),
            reason: error.to_string(),
        }
    }

    fn answer(&self, reason: String) -> EvaluatorError {
        EvaluatorError::Answer { role: self.role, socket: self.socket.clone(), reason }
    }
}

/// A Nix string literal with exactly the characters of `text`.
///
/// In a Nix string `"`, `\` and `${` are special (`$` alone is not, but `$${` escapes), and a line break or a carriage
/// return in the source may be normalised.
fn string_literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' | '$' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(answer: &str) -> Result<u32, EvaluatorError> {
        Evaluator::new("evaluator", Path::new("/e"), Duration::from_secs(1)).parse("forgeRegistry-0a", answer)
    }

    #[test]
    fn the_value_is_found_among_messages_and_stray_lines() {
        let answer = "GC Warning: Could not open /proc/stat\n@nix {\"action\":\"msg\",\"level\":1,\"msg\":\"warning\"}\n\
                      {\"forgeRegistry-0a\":7}@nix {\"action\":\"stop\",\"id\":1}\n";
        assert_eq!(parse(answer).unwrap(), 7);
        assert_eq!(parse("{\"forgeRegistry-0a\":7}").unwrap(), 7);
    }

    #[test]
    fn nobody_answers_in_its_place() {
        // As git prints what a server says.
        let remote = "remote: {\"forgeRegistry\":8}\nremote: {\"forgeRegistry-0b\":8}\n";
        assert_eq!(parse(&format!("{remote}{{\"forgeRegistry-0a\":7}}\n{remote}")).unwrap(), 7);
        parse(remote).unwrap_err();
    }

    #[test]
    fn what_it_ended_with_comes_before_what_was_traced() {
        let traced = r#"@nix {"action":"msg","level":0,"msg":"trace: noise"}"#;
        let ended = r#"@nix {"action":"msg","level":0,"msg":"error: x","raw_msg":"the end"}"#;
        let answer = format!("{}\n{ended}\n", [traced; 10_000].join("\n"));
        assert!(
            matches!(parse(&answer), Err(EvaluatorError::Failed(m)) if m.starts_with("the end\ntrace: noise"))
        );
    }

    #[test]
    fn an_error_is_its_message_without_colours() {
        let answer = r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m x","raw_msg":"no \u001b[1mx\u001b[0m"}"#;
        assert!(matches!(parse(answer), Err(EvaluatorError::Failed(m)) if m == "no x"));
    }

    #[test]
    fn what_git_says_is_part_of_the_error_that_it_led_to() {
        let answer = "remote: Total 3\nfatal: couldn't find remote ref refs/heads/v9\nhint: x\n\
                      @nix {\"action\":\"msg\",\"level\":0,\"msg\":\"Failed to fetch\"}\n";
        let expected = "Failed to fetch\nfatal: couldn't find remote ref refs/heads/v9";
        assert!(matches!(parse(answer), Err(EvaluatorError::Failed(m)) if m == expected));
    }

    #[test]
    fn silence_and_nonsense_are_errors() {
        assert!(matches!(parse(""), Err(EvaluatorError::Answer { .. })));
        assert!(matches!(parse("{\"forgeRegistry-0a\":\"seven\"}"), Err(EvaluatorError::Answer { .. })));
        let killed = parse("Killed\n").unwrap_err().to_string();
        assert!(killed.contains("its last line was: Killed"), "{killed}");
    }

    #[test]
    fn nothing_is_spliced_into_nix_code() {
        assert_eq!(string_literal(r#"a"b\c${d}$${e}"#), r#""a\"b\\c\${d}\$\${e}""#);
        assert_eq!(string_literal("''\n\r\t"), "\"''\\n\\r\\t\"");
    }
}
