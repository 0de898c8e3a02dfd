//! Values of settings: from text to types, with errors that say what is allowed.

use std::{
    borrow::Cow,
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

/// What is allowed, for a value that is not.
#[derive(Debug)]
pub(super) struct Bad(pub(super) Cow<'static, str>);

impl Bad {
    pub(super) const fn new(allowed: &'static str) -> Self {
        Self(Cow::Borrowed(allowed))
    }
}

type Parsed<T> = Result<T, Bad>;

/// `30`, `30s`, `5m`, `2h`, `7d`; a number alone is seconds.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    const ALLOWED: Bad = Bad::new("a number of seconds, or a number with s, m, h or d, up to 3650d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].trim() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(ALLOWED),
    };
    let number: u64 = digits.trim().parse().map_err(|_| ALLOWED)?;
    match number.checked_mul(unit) {
        Some(seconds) if seconds <= 3650 * 86_400 => Ok(Duration::from_secs(seconds)),
        _ => Err(ALLOWED),
    }
}

/// `7`: whole days.
pub(super) fn days(text: &str) -> Parsed<Duration> {
    match text.parse::<u64>() {
        Ok(days @ 1..=36_500) => Ok(Duration::from_secs(days * 86_400)),
        _ => Err(Bad::new("a number of days from 1 to 36500")),
    }
}

/// `1048576`, `500M`, `20GiB`: K, M, G and T are powers of 1024, with or without `iB` or `B`.
pub(super) fn bytes(text: &str) -> Parsed<u64> {
    const ALLOWED: Bad = Bad::new("a number of bytes, or a number with KiB, MiB, GiB or TiB");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift =
        match text[digits.len()..].trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(ALLOWED),
        };
    let number: u64 = digits.trim().parse().map_err(|_| ALLOWED)?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or(ALLOWED)
}

/// A whole number, zero included.
pub(super) fn count(text: &str) -> Parsed<usize> {
    match text.parse::<u32>() {
        Ok(number) => Ok(number as usize),
        Err(_) => Err(Bad::new("a whole number, 0 or more")),
    }
}

/// A whole number, zero included.
pub(super) fn integer(text: &str) -> Parsed<u64> {
    count(text).map(|number| number as u64)
}

/// A whole number from 1 on.
pub(super) fn nonzero(text: &str) -> Parsed<NonZeroUsize> {
    count(text).ok().and_then(NonZeroUsize::new).ok_or(Bad::new("a whole number, 1 or more"))
}

/// An absolute path.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(Bad::new("an absolute path")) }
}

/// A path that is made absolute.
pub(super) fn absolute(text: &str) -> Parsed<PathBuf> {
    std::path::absolute(text).map_err(|_| Bad::new("a path"))
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address and port.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The address and port, if it is not a Unix socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// As [`addresses`], and Unix sockets: `unix:/path`, or an absolute path.
pub(super) fn listen(text: &str) -> Parsed<Vec<Address>> {
    const ALLOWED: Bad = Bad::new(
        "addresses with ports such as 127.0.0.1:6443 or [::1]:6443, or unix:/path, separated by commas",
    );
    let mut all = Vec::new();
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        match one.strip_prefix("unix:").or(Some(one).filter(|one| one.starts_with('/'))) {
            // What the kernel takes for the name of a Unix socket.
            Some(name) if name.len() < 108 => all.push(Address::Unix(path(name).map_err(|_| ALLOWED)?)),
            Some(_) => return Err(Bad::new("names of Unix sockets of at most 107 bytes")),
            None => all.extend(addresses(one).map_err(|_| ALLOWED)?.into_iter().map(Address::Inet)),
        }
    }
    if all.is_empty() { Err(ALLOWED) } else { Ok(all) }
}

/// The mode of a file, in octal.
pub(super) fn mode(text: &str) -> Parsed<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err(Bad::new("a mode such as 0660")),
    }
}

/// `127.0.0.1:6443`, `[::]:6443`, `localhost:6443`, several with commas.
pub(super) fn addresses(text: &str) -> Parsed<Vec<SocketAddr>> {
    const ALLOWED: Bad =
        Bad::new("addresses with ports such as 127.0.0.1:6443 or [::1]:6443, separated by commas");
    let mut all = Vec::new();
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        match one.parse() {
            Ok(address) => all.push(address),
            Err(_) => all.extend(one.to_socket_addrs().map_err(|_| ALLOWED)?),
        }
    }
    if all.is_empty() { Err(ALLOWED) } else { Ok(all) }
}

/// A level, also as Python's logging calls it.
pub(super) fn level(text: &str) -> Parsed<tracing::Level> {
    match text.to_ascii_uppercase().as_str() {
        "ERROR" | "CRITICAL" => Ok(tracing::Level::ERROR),
        "WARN" | "WARNING" => Ok(tracing::Level::WARN),
        "INFO" => Ok(tracing::Level::INFO),
        "DEBUG" => Ok(tracing::Level::DEBUG),
        "TRACE" => Ok(tracing::Level::TRACE),
        _ => Err(Bad::new("ERROR, WARN, INFO, DEBUG or TRACE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("600").unwrap(), Duration::from_secs(600));
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(duration("7d").unwrap(), Duration::from_secs(604_800));
        assert_eq!(bytes("20GiB").unwrap(), 20 << 30);
        assert_eq!((bytes("1k").unwrap(), bytes("5 MB").unwrap(), bytes("7").unwrap()), (1024, 5 << 20, 7));
        for bad in ["", "-1", "1.5", "5x", "99999999999999999999", "h"] {
            assert!(duration(bad).is_err() && bytes(bad).is_err(), "{bad}");
        }
        assert!(bytes("0").is_err() && bytes("99999999999T").is_err());
    }

    #[test]
    fn addresses_are_listed_with_commas() {
        assert_eq!(addresses("127.0.0.1:80, [::1]:81").unwrap().len(), 2);
        let all = listen("127.0.0.1:80, unix:/a,[::1]:81, /b").unwrap();
        let all: Vec<String> = all.iter().map(Address::to_string).collect();
        assert_eq!(all, ["127.0.0.1:80", "unix:/a", "[::1]:81", "unix:/b"]);
        for bad in ["unix:", "unix:a", "unix:/a,b", &format!("unix:/{}", "a".repeat(107))] {
            assert!(listen(bad).is_err(), "{bad}");
        }
        for bad in ["", ",", "127.0.0.1", "nowhere.invalid:x", ":80:"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,20}") {
            let _ = (duration(&text), bytes(&text), days(&text), nonzero(&text), level(&text), path(&text), mode(&text));
        }
    }
}
