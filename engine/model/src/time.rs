//! `EventTime` (microseconds since 1970 UTC) and `Minute` (whole minutes since 1970 UTC).
//! Both are plain numbers; nothing here reads a clock.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use crate::Span;

const MICROS_PER_MINUTE: i64 = 60_000_000;

/// A moment, in microseconds since 1970-01-01T00:00:00Z. Events before 1970 have no
/// representation at the door, so arithmetic saturates instead of wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(i64);

impl EventTime {
    pub const MIN: Self = Self(i64::MIN);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    pub const fn minute(self) -> Minute {
        Minute(self.0.div_euclid(MICROS_PER_MINUTE))
    }

    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.micros()))
    }

    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.micros()))
    }

    /// How far `self` lies after `earlier`; negative when it lies before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 or `YYYY-MM-DD HH:MM:SS[.f]` (taken as UTC), as people write them.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Some(Self(time.timestamp_micros()));
        }
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"]
            .iter()
            .find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok())
            .map(|time| Self(time.and_utc().timestamp_micros()))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{} µs", self.0),
        }
    }
}

/// A whole minute: the half-open interval [start, start + 60 s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minute(i64);

impl Minute {
    /// The number of minutes since 1970-01-01T00:00Z.
    pub const fn from_index(index: i64) -> Self {
        Self(index)
    }

    pub const fn index(self) -> i64 {
        self.0
    }

    pub const fn start(self) -> EventTime {
        EventTime(self.0.saturating_mul(MICROS_PER_MINUTE))
    }

    /// The first moment that no longer belongs to the minute.
    pub const fn end(self) -> EventTime {
        self.next().start()
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    #[must_use]
    pub const fn plus(self, minutes: i64) -> Self {
        Self(self.0.saturating_add(minutes))
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.start().micros()) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%MZ")),
            None => write!(f, "minute {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_half_open_and_floor_before_1970() {
        for (micros, minute) in [(0, 0), (59_999_999, 0), (60_000_000, 1), (-1, -1), (-60_000_000, -1)] {
            assert_eq!(EventTime::from_micros(micros).minute(), Minute(minute), "{micros}");
        }
        assert_eq!(Minute(7).end(), Minute(8).start());
    }

    #[test]
    fn times_parse_as_people_write_them() {
        let noon = EventTime::from_micros(1_752_321_600_000_000);
        for text in ["2025-07-12T12:00:00Z", "2025-07-12T14:00:00+02:00", "2025-07-12 12:00:00", "2025-07-12 12:00"] {
            assert_eq!(EventTime::parse(text), Some(noon), "{text}");
        }
        assert_eq!(EventTime::parse("noon"), None);
        assert_eq!(noon.to_string(), "2025-07-12T12:00:00Z");
        assert_eq!(noon.minute().to_string(), "2025-07-12T12:00Z");
    }
}
