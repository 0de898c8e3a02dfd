//! The expressions of one image: each is compiled once, when it is first needed, and all of them together have a bound.

use super::{
    description::{Options, Perm},
    regex::{GoRegex, Purpose},
};
use crate::{
    budget::{Budget, Held},
    layer::LayerError,
};
use regex_automata::meta::Cache;
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Memory for all compiled expressions of an image, in bytes: thousands, if they are of the usual kind. The budget would
/// take far more of them, and minutes to compile them.
const MAX_MEMORY: usize = 32 << 20;
/// How much matching may be left uncounted: bytes of text times bytes of program, some ten milliseconds at worst.
const MAX_UNCOUNTED: u64 = 1 << 26;

/// Compiled expressions.
#[derive(Debug, Default)]
pub(super) struct Expressions(Mutex<Compiled>);

#[derive(Debug, Default)]
struct Compiled {
    known: HashMap<(String, Purpose), Arc<GoRegex>>,
    memory: usize,
}

impl Expressions {
    fn get(&self, text: &str, purpose: Purpose, budget: &Budget) -> Result<Arc<GoRegex>, LayerError> {
        let mut compiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (text.to_owned(), purpose);
        if let Some(known) = compiled.known.get(&key) {
            return Ok(known.clone());
        }
        let mut stopwatch = Stopwatch::start(budget);
        let regex = GoRegex::new(text, purpose).map_err(LayerError::Contents)?;
        stopwatch.count()?;
        let memory = regex.memory() + 2 * text.len() + size_of::<(String, Purpose, Arc<GoRegex>)>();
        compiled.memory += memory;
        if compiled.memory > MAX_MEMORY {
            let problem =
                format!("its expressions take more than {MAX_MEMORY} bytes of memory once compiled");
            return Err(LayerError::Contents(problem));
        }
        budget.charge(memory as u64, "a compiled expression")?;
        let regex = Arc::new(regex);
        compiled.known.insert(key, regex.clone());
        Ok(regex)
    }
}

/// An expression that is being matched, and what it needs for that.
struct Matcher<'b> {
    regex: Arc<GoRegex>,
    cache: Cache,
    memory: Held<'b>,
    /// What `memory` has of the cache.
    counted: usize,
}

impl<'b> Matcher<'b> {
    fn new(regex: Arc<GoRegex>, budget: &'b Budget) -> Result<Self, LayerError> {
        let cache = regex.cache();
        let counted = cache.memory_usage() + size_of::<Cache>();
        let memory = budget.hold(counted as u64, "matching an expression")?;
        Ok(Self { regex, cache, memory, counted })
    }

    /// Counts what the cache has grown by.
    fn count(&mut self) -> Result<(), LayerError> {
        let now = self.cache.memory_usage() + size_of::<Cache>();
        if now > self.counted {
            self.memory.grow((now - self.counted) as u64)?;
            self.counted = now;
        }
        Ok(())
    }

    /// How long matching this text may take, in bytes times bytes.
    fn work(&self, text: &[u8]) -> u64 {
        (self.regex.memory() as u64).saturating_mul(text.len() as u64)
    }
}

/// What a path's options make of what is below it.
pub(super) struct Rules<'o, 'b> {
    budget: &'b Budget,
    rewrite: Option<(Matcher<'b>, &'o str)>,
    perms: Vec<(Matcher<'b>, Option<u32>, &'o Perm)>,
}

/// What a rule makes of one path.
pub(super) struct Ruled<'o> {
    /// Its name in the archive, before it is cleaned; none if it is as in the store.
    pub(super) name: Option<Vec<u8>>,
    /// The permissions that match, in order: the mode, if it is stated, and the rest.
    pub(super) perms: Vec<(Option<u32>, &'o Perm)>,
}

impl<'o, 'b> Rules<'o, 'b> {
    /// Compiles what is not compiled yet.
    pub(super) fn new(
        options: &'o Options,
        expressions: &Expressions,
        budget: &'b Budget,
    ) -> Result<Self, LayerError> {
        let matcher = |text: &str, purpose| Matcher::new(expressions.get(text, purpose, budget)?, budget);
        let rewrite = match options.rewrite.regex.as_str() {
            "" => None,
            text => Some((matcher(text, Purpose::Replacing)?, options.rewrite.repl.as_str())),
        };
        let perms = options.perms.iter().map(|perm| {
            let mode = mode(&perm.mode).map_err(LayerError::Contents)?;
            Ok((matcher(&perm.regex, Purpose::Matching)?, mode, perm))
        });
        Ok(Self { budget, rewrite, perms: perms.collect::<Result<_, LayerError>>()? })
    }

    /// What they make of a path.
    pub(super) fn apply(&mut self, source: &[u8]) -> Result<Ruled<'o>, LayerError> {
        let mut ruled = Ruled { name: None, perms: Vec::new() };
        if self.rewrite.is_none() && self.perms.is_empty() {
            return Ok(ruled);
        }
        let mut stopwatch = Stopwatch::start(self.budget);
        if let Some((matcher, by)) = &mut self.rewrite {
            let work = matcher.work(source);
            let Matcher { regex, cache, .. } = matcher;
            let name = regex.replace_all(cache, source, by, || stopwatch.before(work))?;
            let name = name.ok_or_else(|| LayerError::Refused {
                name: source[..source.len().min(300)].into(),
                problem: "its new name is far too long".into(),
            })?;
            matcher.count()?;
            ruled.name = Some(name);
        }
        for (matcher, mode, perm) in &mut self.perms {
            stopwatch.before(matcher.work(source))?;
            if matcher.regex.is_match(&mut matcher.cache, source) {
                ruled.perms.push((*mode, perm));
            }
            matcher.count()?;
        }
        stopwatch.count()?;
        Ok(ruled)
    }
}

/// Counts this thread's processor time.
struct Stopwatch<'b> {
    budget: &'b Budget,
    since: Duration,
    uncounted: u64,
}

impl<'b> Stopwatch<'b> {
    fn start(budget: &'b Budget) -> Self {
        Self { budget, since: processor_time(), uncounted: 0 }
    }

    /// Counts the time so far if what is going to be done may take long.
    fn before(&mut self, work: u64) -> Result<(), LayerError> {
        self.uncounted = self.uncounted.saturating_add(work);
        if self.uncounted > MAX_UNCOUNTED { self.count() } else { Ok(()) }
    }

    fn count(&mut self) -> Result<(), LayerError> {
        let now = processor_time();
        self.budget.matched(now.saturating_sub(self.since))?;
        (self.since, self.uncounted) = (now, 0);
        Ok(())
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Octal digits as Go scans them: what follows them does not matter.
fn mode(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.trim_start();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let end = digits.find(|c: char| !c.is_digit(8)).unwrap_or(digits.len());
    match u32::from_str_radix(&digits[..end], 8) {
        Ok(mode) => Ok(Some(mode)),
        Err(_) => {
            let shown: String = text.chars().take(80).collect();
            Err(format!("the mode {shown:?} is no octal number"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Allowance;

    fn perms(expressions: impl IntoIterator<Item = String>) -> Options {
        let perms = expressions.into_iter().map(|regex| Perm { regex, ..Default::default() });
        Options { perms: perms.collect(), ..Default::default() }
    }

    fn apply(options: &Options, allowed: Allowance) -> Result<usize, String> {
        let (budget, expressions) = (Budget::new(allowed), Expressions::default());
        let text = |error: LayerError| error.to_string();
        let mut rules = Rules::new(options, &expressions, &budget).map_err(text)?;
        rules.apply(&[b'a'; 4000]).map_err(text)?;
        let compiled = expressions.0.lock().unwrap();
        Ok(compiled.known.len())
    }

    #[test]
    fn equal_expressions_are_compiled_once() {
        let options = perms((0..10_000).map(|n| format!("^/nix/store/[a-z0-9]+-({})$", n % 3)));
        assert_eq!(apply(&options, Allowance::default()), Ok(3));
    }

    #[test]
    fn expressions_together_have_a_bound() {
        let large = |n| format!("(((((((((a)))))))){{100}}){{10}}x{n}");
        let error = apply(&perms((0..10_000).map(large)), Allowance::default()).unwrap_err();
        assert!(error.contains("its expressions take more than 33554432 bytes"), "{error}");
        let usual = |n| format!("^/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/share/file-{n}$");
        assert_eq!(apply(&perms((0..2000).map(usual)), Allowance::default()), Ok(2000));
        // What they need to match is counted as well.
        let allowed = Allowance { memory: 256 << 10, ..Default::default() };
        let error = apply(&perms((0..100).map(usual)), allowed).unwrap_err();
        assert!(error.contains("MAX_READING_MEMORY"), "{error}");
    }

    #[test]
    fn matching_has_a_limit_that_is_not_the_clocks() {
        let slow = |n| format!("(a?){{30}}(a*)*[ab]*(a|b|ab)*c{n}");
        let allowed = Allowance { matching: Duration::from_millis(1), ..Default::default() };
        let error = apply(&perms((0..100).map(slow)), allowed).unwrap_err();
        assert!(error.contains("MAX_MATCHING_TIME"), "{error}");
    }

    #[test]
    fn modes_are_scanned_as_go_does() {
        for (text, expected) in [
            ("", None),
            ("0755", Some(0o755)),
            (" +640", Some(0o640)),
            ("0o755", Some(0)),
            ("77x", Some(0o77)),
        ] {
            assert_eq!(mode(text), Ok(expected), "{text}");
        }
        for text in ["rwx", "-755", "9", "777777777777"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
