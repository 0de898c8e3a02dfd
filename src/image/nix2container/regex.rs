//! Regular expressions as Go has them, in RE2's syntax. (Go, `regexp/syntax`: "Syntax"; `regexp`: `ReplaceAll`, `Expand`.)
//!
//! They are translated to those of the `regex` crate's engine, which matches in linear time, too. What differs: classes such as
//! `\w` and borders such as `\b` know ASCII only; a bracket in a class is no class within it; `{` may be literal; `\Q…\E`,
//! and octal digits. A byte that is no UTF-8 counts as one U+FFFD. Some expressions that Go refuses are accepted. If any is
//! translated wrongly, that is found out: the layer has another digest then.

use regex_automata::{
    Input as Haystack, Span,
    meta::{Cache, Regex},
    nfa::thompson::WhichCaptures,
    util::{captures::Captures, iter::Searcher, syntax},
};
use std::{borrow::Cow, iter::Peekable, str::Chars};

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 4096;
/// The longest text that replacing may yield, in bytes: a few words can multiply into anything.
const MAX_REPLACED: usize = 64 << 10;
/// Memory that a compiled expression, and each of its caches, may take.
const MAX_COMPILED: usize = 1 << 20;

/// The classes that stand in a class as `[:alnum:]`.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// What an expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// To tell whether it matches. Groups would take memory for nothing.
    Matching,
    /// To replace what it matches.
    Replacing,
}

/// A compiled expression. What it needs besides while it matches, a [`Cache`], is its user's.
#[derive(Debug)]
pub(super) struct GoRegex(Regex);

impl GoRegex {
    /// Compiles an expression; the error says what is wrong with it.
    pub(super) fn new(expression: &str, purpose: Purpose) -> Result<Self, String> {
        let shown: String = expression.chars().take(80).collect();
        let wrong = |why: &str| format!("the regular expression {shown:?} {why}");
        if expression.len() > MAX_LENGTH {
            return Err(wrong(&format!("is longer than {MAX_LENGTH} bytes")));
        }
        let translated =
            translate(expression).ok_or_else(|| wrong("is none that Go's regexp understands"))?;
        let config = Regex::config()
            .utf8_empty(false)
            .nfa_size_limit(Some(MAX_COMPILED))
            .onepass_size_limit(Some(MAX_COMPILED))
            .hybrid_cache_capacity(MAX_COMPILED)
            .which_captures(match purpose {
                Purpose::Matching => WhichCaptures::Implicit,
                Purpose::Replacing => WhichCaptures::All,
            });
        let syntax = syntax::Config::new().utf8(false).nest_limit(100);
        let built = Regex::builder().configure(config).syntax(syntax).build(&translated);
        built.map(Self).map_err(|error| match error.size_limit() {
            Some(_) => wrong("takes too much memory"),
            None => wrong("is none that Go's regexp understands"),
        })
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.0.memory_usage() + size_of::<Regex>()
    }

    /// What it needs to match. One is enough for any number of texts, one after the other; it grows with them.
    pub(super) fn cache(&self) -> Cache {
        self.0.create_cache()
    }

    /// Whether it matches anywhere in the text.
    pub(super) fn is_match(&self, cache: &mut Cache, text: &[u8]) -> bool {
        let readable = Readable::of(text);
        let haystack = Haystack::new(readable.text.as_bytes()).earliest(true);
        self.0.search_half_with(cache, &haystack).is_some()
    }

    /// The text with all matches replaced: `$1`, `${1}`, `$name` and `${name}` are groups of the match, `$$` is `$`. None
    /// if that is too long. `before` is called before each search, and can put an end to it.
    pub(super) fn replace_all<E>(
        &self,
        cache: &mut Cache,
        text: &[u8],
        by: &str,
        mut before: impl FnMut() -> Result<(), E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let readable = Readable::of(text);
        let (mut out, mut done) = (Vec::new(), 0);
        let mut searcher = Searcher::new(Haystack::new(readable.text.as_bytes()));
        let mut captures = self.0.create_captures();
        before()?;
        while let Some(whole) = searcher.advance(|haystack| {
            self.0.search_captures_with(cache, haystack, &mut captures);
            Ok(captures.get_match())
        }) {
            before()?;
            // Nothing is found within a character, but nothing at all may be.
            if !readable.text.is_char_boundary(whole.start()) {
                continue;
            }
            out.extend_from_slice(&text[done..readable.place(whole.start())]);
            done = readable.place(whole.end());
            let group = |name: &str| {
                let found = group(&captures, name)?;
                Some(&text[readable.place(found.start)..readable.place(found.end)])
            };
            if expand(&mut out, by, group).is_none() {
                return Ok(None);
            }
        }
        out.extend_from_slice(&text[done..]);
        Ok((out.len() <= MAX_REPLACED).then_some(out))
    }
}

/// Text with U+FFFD for each byte that is no UTF-8.
struct Readable<'t> {
    text: Cow<'t, str>,
    /// Where each byte was, if that is another place.
    places: Option<Vec<usize>>,
}

impl<'t> Readable<'t> {
    fn of(text: &'t [u8]) -> Self {
        if let Ok(text) = std::str::from_utf8(text) {
            return Self { text: text.into(), places: None };
        }
        let (mut readable, mut places, mut at) = (String::new(), Vec::new(), 0);
        for chunk in text.utf8_chunks() {
            readable.push_str(chunk.valid());
            places.extend(at..at + chunk.valid().len());
            at += chunk.valid().len();
            for _ in chunk.invalid() {
                readable.push(char::REPLACEMENT_CHARACTER);
                places.extend([at; char::REPLACEMENT_CHARACTER.len_utf8()]);
                at += 1;
            }
        }
        places.push(at);
        Self { text: readable.into(), places: Some(places) }
    }

    fn place(&self, at: usize) -> usize {
        self.places.as_ref().map_or(at, |places| places[at])
    }
}

fn group(captures: &Captures, name: &str) -> Option<Span> {
    let number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if number { captures.get_group(name.parse().ok()?) } else { captures.get_group_by_name(name) }
}

/// Appends a replacement. What follows a `$` and is no name stays as it is. None if it becomes too long.
fn expand<'t>(out: &mut Vec<u8>, mut template: &str, group: impl Fn(&str) -> Option<&'t [u8]>) -> Option<()> {
    if template.len() > MAX_REPLACED {
        return None;
    }
    while let Some((before, rest)) = template.split_once('$') {
        out.extend_from_slice(before.as_bytes());
        if out.len() > MAX_REPLACED {
            return None;
        }
        if let Some(rest) = rest.strip_prefix('$') {
            out.push(b'$');
            template = rest;
            continue;
        }
        let braced = rest.strip_prefix('{');
        let text = braced.unwrap_or(rest);
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        let after = if braced.is_some() { after.strip_prefix('}') } else { Some(after) };
        match after {
            Some(after) if !name.is_empty() => {
                out.extend_from_slice(group(name).unwrap_or_default());
                template = after;
            }
            _ => {
                out.push(b'$');
                template = rest;
            }
        }
    }
    out.extend_from_slice(template.as_bytes());
    (out.len() <= MAX_REPLACED).then_some(())
}

type Input<'p> = Peekable<Chars<'p>>;

/// The same expression for the `regex` crate; none if it certainly is none of Go's.
fn translate(expression: &str) -> Option<String> {
    let mut out = String::new();
    let mut input = expression.chars().peekable();
    while let Some(c) = input.next() {
        match c {
            '\\' => match input.next()? {
                'b' => out.push_str(r"(?-u:\b)"),
                'B' => out.push_str(r"(?-u:\B)"),
                'A' => out.push_str(r"\A"),
                'z' => out.push_str(r"\z"),
                'Q' => quoted(&mut input, &mut out),
                c => escape(c, &mut input, &mut out)?,
            },
            '[' => class(&mut input, &mut out)?,
            '{' if !is_repetition(&input) => literal('{', &mut out),
            '(' if input.peek() == Some(&'?') => {
                input.next();
                flags(&mut input, &mut out)?;
            }
            '.' | '^' | '$' | '|' | '(' | ')' | '*' | '+' | '?' | '{' => out.push(c),
            // In a repetition; elsewhere it stands for itself in both.
            '}' => out.push('}'),
            c if c.is_ascii_digit() || c == ',' => out.push(c),
            c => literal(c, &mut out),
        }
    }
    Some(out)
}

fn literal(c: char, out: &mut String) {
    if c.is_ascii_alphanumeric() || c == '/' || c == '_' {
        out.push(c);
    } else {
        out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
    }
}

/// What follows `\Q`, up to `\E` or the end.
fn quoted(input: &mut Input<'_>, out: &mut String) {
    while let Some(c) = input.next() {
        if c == '\\' && input.peek() == Some(&'E') {
            input.next();
            return;
        }
        literal(c, out);
    }
}

/// Whether a `{` before this begins `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(input: &Input<'_>) -> bool {
    let inside: String = input.clone().take(12).take_while(|c| *c != '}').collect();
    let closed = input.clone().nth(inside.chars().count()) == Some('}');
    let (from, to) = inside.split_once(',').unwrap_or((&inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    closed && !from.is_empty() && digits(from) && digits(to)
}

/// What follows `(?`: flags, or a name.
fn flags(input: &mut Input<'_>, out: &mut String) -> Option<()> {
    out.push_str("(?");
    if input.next_if_eq(&'P').is_some() || input.peek() == Some(&'<') {
        input.next_if_eq(&'<')?;
        out.push_str("P<");
        loop {
            let c = input.next().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '>'))?;
            out.push(c);
            if c == '>' {
                return Some(());
            }
        }
    }
    loop {
        let c = input.next().filter(|c| "imsU-:)".contains(*c))?;
        out.push(c);
        if matches!(c, ':' | ')') {
            return Some(());
        }
    }
}

/// An escape that is a class or a character, inside of a class or outside.
fn escape(c: char, input: &mut Input<'_>, out: &mut String) -> Option<()> {
    match c {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        's' => out.push_str(r"[\t\n\x0c\r ]"),
        'S' => out.push_str(r"[^\t\n\x0c\r ]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'p' | 'P' => {
            let mut name: String = input.next()?.into();
            if name == "{" {
                name = input.by_ref().take_while(|c| *c != '}').collect();
            }
            let positive = name.strip_prefix('^');
            let negated = (c == 'P') != positive.is_some();
            let name = positive.unwrap_or(&name);
            out.push_str(&format!(r"\{}{{{name}}}", if negated { 'P' } else { 'p' }));
        }
        c => literal(escaped(c, input)?, out),
    }
    Some(())
}

/// The character that an escape stands for.
fn escaped(c: char, input: &mut Input<'_>) -> Option<char> {
    let hexadecimal = |text: &str| char::from_u32(u32::from_str_radix(text, 16).ok()?);
    match c {
        'a' => Some('\x07'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        'x' => match input.next()? {
            '{' => hexadecimal(&input.by_ref().take_while(|c| *c != '}').collect::<String>()),
            first => hexadecimal(&[first, input.next()?].iter().collect::<String>()),
        },
        // A digit alone would refer back to a group, which nothing that takes linear time can.
        '1'..='7' if !input.peek().is_some_and(|c| ('0'..='7').contains(c)) => None,
        '0'..='7' => {
            let mut number = c.to_digit(8)?;
            for _ in 0..2 {
                let Some(digit) = input.peek().and_then(|c| c.to_digit(8)) else { break };
                number = number * 8 + digit;
                input.next();
            }
            char::from_u32(number)
        }
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
        _ => None,
    }
}

/// What follows `[`.
fn class(input: &mut Input<'_>, out: &mut String) -> Option<()> {
    out.push('[');
    if input.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    loop {
        let c = input.next()?;
        match c {
            ']' if !first => {
                out.push(']');
                return Some(());
            }
            '[' if input.peek() == Some(&':') && input.clone().collect::<String>().contains(":]") => {
                let name: String = input.by_ref().take_while(|c| *c != ']').collect();
                let known = name.strip_prefix(':').and_then(|name| name.strip_suffix(':'))?;
                CLASSES.contains(&known.strip_prefix('^').unwrap_or(known)).then_some(())?;
                out.push_str(&format!("[{name}]"));
            }
            '\\' if input.peek().is_some_and(|c| "dDsSwWpP".contains(*c)) => {
                let c = input.next()?;
                escape(c, input, out)?;
            }
            c => {
                let from = one(c, input)?;
                literal(from, out);
                let mut ahead = input.clone();
                if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
                    input.next();
                    let c = input.next()?;
                    let to = one(c, input)?;
                    out.push('-');
                    literal(to, out);
                }
            }
        }
        first = false;
    }
}

/// A character of a class.
fn one(c: char, input: &mut Input<'_>) -> Option<char> {
    match c {
        '\\' => {
            let c = input.next()?;
            escaped(c, input)
        }
        c => Some(c),
    }
}

#[cfg(test)]
mod tests;
