//! Points in time for people and other programs (RFC 3339, in UTC).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Seconds since 1970. As text, and in JSON, `2026-02-28T23:59:59Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Time(pub u64);

const DAY: u64 = 86_400;

/// Year, month and day of a day since 1970, by the proleptic Gregorian calendar.
fn date(day: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // Whole cycles of 400 years at once.
    let (mut year, mut day) = (1970 + day / 146_097 * 400, day % 146_097);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    for month in 1..=12 {
        let length = match month {
            2 => 28 + u64::from(leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if day < length {
            return (year, month, day + 1);
        }
        day -= length;
    }
    (year + 1, 1, 1)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY);
        let second = self.0 % DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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
        let number = |range: std::ops::Range<usize>| text.get(range).and_then(|n| n.parse::<u64>().ok());
        let parts = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].map(number);
        let [Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)] = parts else {
            return Err(BAD);
        };
        if year < 1970 || !(1..=12).contains(&month) || day == 0 {
            return Err(BAD);
        }
        // Years and months that begin in March, so that leap days come last; 719468 days of them are before 1970.
        let (y, m) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
        let day = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
        // A day or an hour that there is not is another one when it is written.
        let time = Self(day * DAY + hour * 3600 + minute * 60 + second);
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
