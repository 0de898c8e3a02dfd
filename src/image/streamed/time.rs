//! Points in time as nixpkgs writes them: ISO 8601, as `date -Iseconds` prints it, or `now`.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Time {
    /// Python's `datetime.isoformat()`.
    pub(super) text: String,
    /// Whole seconds since 1970, towards zero.
    pub(super) seconds: i64,
}

impl Time {
    /// `YYYY-MM-DD[T hh:mm[:ss[.f]][Z|±hh:mm]]`; without an offset, UTC. `now` is the given time.
    pub(super) fn parse(text: &str, now: SystemTime) -> Option<Self> {
        if text == "now" {
            let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            return Some(Self::utc(i64::try_from(seconds).ok()?));
        }
        if !text.is_ascii() {
            return None;
        }
        let (date, rest) = text.split_at_checked(10)?;
        let mut parts = date.split('-');
        let (year, month, day) =
            (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if parts.next().is_some() || !(1..=last).contains(&day) || year == 0 {
            return None;
        }
        let rest = rest.strip_prefix(['T', ' ']).unwrap_or(rest);
        let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
        let (clock, zone) = rest.split_at(zone_at);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut parts = if clock.is_empty() { "00:00".split(':') } else { clock.split(':') };
        let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let second = parts.next().map_or(Some(0), |part| number(part, 2))?;
        if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 || fraction.len() > 6 {
            return None;
        }
        let micros = if fraction.is_empty() { 0 } else { number(&format!("{fraction:0<6}"), 6)? };
        let (offset, zone) = match zone {
            "" => (0, String::new()),
            "Z" => (0, "+00:00".into()),
            _ => {
                let (hours, minutes) = zone[1..].split_once(':')?;
                let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
                let offset = hours * 3600 + minutes * 60;
                if hours > 23 || minutes > 59 {
                    return None;
                }
                // Minus nothing is plus nothing.
                let sign = if offset == 0 { "+" } else { &zone[..1] };
                let text = format!("{sign}{hours:02}:{minutes:02}");
                (if sign == "-" { -offset } else { offset }, text)
            }
        };
        let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
        let whole = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Some(Self {
            text: format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"),
            seconds: whole + i64::from(whole < 0 && micros > 0),
        })
    }

    fn utc(seconds: i64) -> Self {
        let (mut year, mut day) = (1970, seconds.div_euclid(86_400));
        while day >= days(year + 1, 1, 1) - days(year, 1, 1) {
            day -= days(year + 1, 1, 1) - days(year, 1, 1);
            year += 1;
        }
        let first = days(year, 1, 1);
        let month = (1..=12).rev().find(|month| days(year, *month, 1) - first <= day).unwrap_or(1);
        let day = day - (days(year, month, 1) - first) + 1;
        let clock = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00");
        Self { text, seconds }
    }
}

/// Exactly so many decimal digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that a leap day is the last day of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parse(text: &str) -> Option<(String, i64)> {
        let now = UNIX_EPOCH + Duration::from_secs(1_709_208_000);
        Time::parse(text, now).map(|time| (time.text, time.seconds))
    }

    #[test]
    fn times_are_read_and_written_as_python_does() {
        for (text, expected, seconds) in [
            ("1970-01-01T00:00:01+00:00", "1970-01-01T00:00:01+00:00", 1),
            ("1970-01-01T00:00:01Z", "1970-01-01T00:00:01+00:00", 1),
            ("2024-02-29T12:00:00+01:30", "2024-02-29T12:00:00+01:30", 1_709_202_600),
            ("1969-12-31T23:59:59-00:00", "1969-12-31T23:59:59+00:00", -1),
            ("1969-12-31T23:59:58.5+00:00", "1969-12-31T23:59:58.500000+00:00", -1),
            ("2000-01-01", "2000-01-01T00:00:00", 946_684_800),
            ("now", "2024-02-29T12:00:00+00:00", 1_709_208_000),
        ] {
            assert_eq!(parse(text), Some((expected.into(), seconds)), "{text}");
        }
        for bad in ["", "yesterday", "2023-02-29T00:00:00Z", "2024-13-01", "2024-01-01T25:00:00Z", "2024-1-1"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
