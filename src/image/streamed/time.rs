//! Points in time as nixpkgs writes them: ISO 8601, as `date -Iseconds` prints it, or `now`.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, Timelike};
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
            return Some(Self::of(
                &DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?.fixed_offset(),
            ));
        }
        if !text.is_ascii() {
            return None;
        }
        let (date, rest) = text.split_at_checked(10)?;
        let mut parts = date.split('-');
        let (year, month, day) =
            (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        // Python begins to count with the year 1.
        if parts.next().is_some() || year == 0 {
            return None;
        }
        let rest = rest.strip_prefix(['T', ' ']).unwrap_or(rest);
        let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
        let (clock, zone) = rest.split_at(zone_at);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut parts = if clock.is_empty() { "00:00".split(':') } else { clock.split(':') };
        let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let second = parts.next().map_or(Some(0), |part| number(part, 2))?;
        if parts.next().is_some() || fraction.len() > 6 {
            return None;
        }
        let micros = if fraction.is_empty() { 0 } else { number(&format!("{fraction:0<6}"), 6)? };
        let local = date.and_time(NaiveTime::from_hms_micro_opt(hour, minute, second, micros)?);
        let offset = match zone {
            "" => {
                let Self { text, seconds } = Self::of(&local.and_utc().fixed_offset());
                return Some(Self { text: text.strip_suffix("+00:00")?.into(), seconds });
            }
            "Z" => 0,
            _ => {
                let (hours, minutes) = zone[1..].split_once(':')?;
                let clock = NaiveTime::from_hms_opt(number(hours, 2)?, number(minutes, 2)?, 0)?;
                let offset = i32::try_from(clock.num_seconds_from_midnight()).ok()?;
                if zone.starts_with('-') { -offset } else { offset }
            }
        };
        let time = local.and_local_timezone(FixedOffset::east_opt(offset)?).single()?;
        Some(Self::of(&time))
    }

    fn of(time: &DateTime<FixedOffset>) -> Self {
        let fraction = if time.timestamp_subsec_micros() == 0 { "" } else { "%.6f" };
        let whole = time.timestamp();
        Self {
            text: time.format(&format!("%Y-%m-%dT%H:%M:%S{fraction}%:z")).to_string(),
            seconds: whole + i64::from(whole < 0 && time.timestamp_subsec_micros() > 0),
        }
    }
}

/// Exactly so many decimal digits.
fn number(text: &str, digits: usize) -> Option<u32> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
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
            ("2000-01-01T00:00:00.25-23:59", "2000-01-01T00:00:00.250000-23:59", 946_771_140),
            ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00+23:59", -62_135_683_140),
            ("now", "2024-02-29T12:00:00+00:00", 1_709_208_000),
        ] {
            assert_eq!(parse(text), Some((expected.into(), seconds)), "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "2023-02-29T00:00:00Z",
            "2024-13-01",
            "2024-01-01T25:00:00Z",
            "2024-01-01T23:59:60Z",
            "2024-01-01T00:00:00+24:00",
            "2024-1-1",
            "0000-01-01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
