//! Points in time for people and other programs (RFC 3339, in UTC).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Seconds since 1970. As text, and in JSON, `2026-02-28T23:59:59Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        // Beyond the year 262 000 all is the same.
        f.write_str(&time.unwrap_or(DateTime::<Utc>::MAX_UTC).to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Time {
    type Error = &'static str;

    /// Takes what [`Time`] writes and nothing else.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        const BAD: &str = "not a time such as 2026-02-28T23:59:59Z";
        let time = DateTime::parse_from_rfc3339(&text).map_err(|_| BAD)?;
        let time = Self(u64::try_from(time.timestamp()).map_err(|_| BAD)?);
        if time.to_string() == text { Ok(time) } else { Err(BAD) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_rfc_3339_and_read_again() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_772_323_199, "2026-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Time(seconds).to_string(), text);
            assert_eq!(Time::try_from(text.to_owned()), Ok(Time(seconds)));
        }
        for seconds in (0..8_000_000_000).step_by(7_654_321) {
            assert_eq!(Time::try_from(Time(seconds).to_string()), Ok(Time(seconds)));
        }
        for bad in [
            "",
            "2026-02-30T00:00:00Z",
            "2026-02-28 23:59:59Z",
            "1969-12-31T23:59:59Z",
            "2026-02-28T23:59:60Z",
        ] {
            assert!(Time::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
