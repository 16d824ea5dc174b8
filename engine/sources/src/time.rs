//! Reads the times that files hold: RFC 3339, `YYYY-MM-DD HH:MM:SS[.f]`, and counts since 1970.
//! It reads no clock; a time without an offset is taken in the zone that it was given, else as UTC.
//!
//! Choices that a reader of the numbers should know:
//! - A local time that occurred twice (clocks set back) means the first of the two.
//! - A local time that never was (clocks set forward) is refused: any answer would be a guess.
//! - What is finer than a microsecond is cut off, not rounded, so that no event moves to a later minute.
//! - A count since 1970 is in seconds below 10^11 (the year 5138), in milliseconds below 10^14, in
//!   microseconds below 10^17 and in nanoseconds above, by its magnitude.
//! - Second 60 is the first second of the next minute, as in POSIX time.

use chrono::{DateTime, LocalResult, NaiveDate, TimeZone};
use chrono_tz::Tz;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Reads times as microseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeReader {
    zone: Option<Tz>,
}

/// Why a text or a number is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeFault {
    #[error("is not a time; write RFC 3339, `YYYY-MM-DD HH:MM:SS` or a count since 1970")]
    Shape,
    #[error("is a date without a time")]
    DateOnly,
    #[error("is no moment of the calendar")]
    Calendar,
    #[error("never was in {0}: clocks were set forward over it")]
    NeverWas(Tz),
    #[error("is beyond what microseconds since 1970 can hold")]
    Range,
}

impl TimeReader {
    /// `zone` is that of times without an offset; `None` is UTC.
    pub fn new(zone: Option<Tz>) -> Self {
        Self { zone }
    }

    pub(crate) fn zone(&self) -> Option<Tz> {
        self.zone
    }

    pub fn text(&self, text: &str) -> Result<i64, TimeFault> {
        let text = text.trim();
        if let Some(epoch) = epoch_text(text) {
            return epoch;
        }
        let (civil, rest) = civil(text)?;
        match offset(rest)? {
            Some(offset) => civil.checked_sub(offset).ok_or(TimeFault::Range),
            None => self.local(civil),
        }
    }

    /// A moment of the calendar, given as the microseconds since 1970 it would have in UTC.
    pub fn local(&self, civil: i64) -> Result<i64, TimeFault> {
        let Some(zone) = self.zone else { return Ok(civil) };
        let naive = DateTime::from_timestamp_micros(civil).ok_or(TimeFault::Range)?.naive_utc();
        match zone.from_local_datetime(&naive) {
            LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => Ok(time.timestamp_micros()),
            LocalResult::None => Err(TimeFault::NeverWas(zone)),
        }
    }
}

/// A count since 1970, its unit told by its magnitude.
pub fn epoch(count: i64) -> Result<i64, TimeFault> {
    match count.unsigned_abs() {
        0..100_000_000_000 => count.checked_mul(MICROS_PER_SECOND).ok_or(TimeFault::Range),
        100_000_000_000..100_000_000_000_000 => count.checked_mul(1_000).ok_or(TimeFault::Range),
        100_000_000_000_000..100_000_000_000_000_000 => Ok(count),
        _ => Ok(count.div_euclid(1_000)),
    }
}

/// `None` where the text does not look like a number at all.
fn epoch_text(text: &str) -> Option<Result<i64, TimeFault>> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let Ok(count) = whole.parse::<i64>() else { return Some(Err(TimeFault::Range)) };
    // The fraction is in the unit that the whole part tells: its first digits are whole microseconds.
    let digits_per_unit = match count {
        0..100_000_000_000 => 6,
        100_000_000_000..100_000_000_000_000 => 3,
        _ => 0,
    };
    let part = leading_digits(fraction.as_bytes(), digits_per_unit);
    Some(epoch(count).and_then(|micros| micros.checked_add(part).ok_or(TimeFault::Range)).map(|micros| sign * micros))
}

/// The first `wanted` digits as a number, short ones filled with zeros: `5` of three is 500.
fn leading_digits(digits: &[u8], wanted: usize) -> i64 {
    (0..wanted).fold(0, |value, at| value * 10 + digits.get(at).map_or(0, |digit| i64::from(digit - b'0')))
}

/// Reads `YYYY-MM-DD`, a `T` or a space, `HH:MM[:SS[.f]]`, and gives what follows.
fn civil(text: &str) -> Result<(i64, &str), TimeFault> {
    let bytes = text.as_bytes();
    let number = |at: usize, length: usize| -> Result<i64, TimeFault> {
        let digits = bytes.get(at..at + length).ok_or(TimeFault::Shape)?;
        match digits.iter().all(u8::is_ascii_digit) {
            true => Ok(leading_digits(digits, length)),
            false => Err(TimeFault::Shape),
        }
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    if !is(4, b"-") || !is(7, b"-") {
        return Err(TimeFault::Shape);
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    if bytes.len() == 10 {
        return Err(TimeFault::DateOnly);
    }
    if !is(10, b"Tt ") || !is(13, b":") {
        return Err(TimeFault::Shape);
    }
    let (hour, minute) = (number(11, 2)?, number(14, 2)?);
    let mut end = 16;
    let (mut second, mut micros) = (0, 0);
    if is(end, b":") {
        second = number(17, 2)?;
        end = 19;
        if is(end, b".,") {
            let digits = bytes.iter().skip(end + 1).take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return Err(TimeFault::Shape);
            }
            micros = leading_digits(bytes.get(end + 1..end + 1 + digits).unwrap_or_default(), 6);
            end += 1 + digits;
        }
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err(TimeFault::Calendar);
    }
    let date = NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32).ok_or(TimeFault::Calendar)?;
    let days = i64::from(date.to_epoch_days());
    let seconds = hour * 3_600 + minute * 60 + second;
    Ok((days * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + micros, text.get(end..).unwrap_or_default()))
}

/// Reads `Z`, `±HH:MM`, `±HHMM` or `±HH` as microseconds east of UTC; `None` where nothing stands.
fn offset(text: &str) -> Result<Option<i64>, TimeFault> {
    let text = text.trim_start();
    if text.is_empty() {
        return Ok(None);
    }
    if matches!(text, "Z" | "z" | "UTC") {
        return Ok(Some(0));
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(TimeFault::Shape),
    };
    let digits: Vec<u8> = match (rest.len(), rest.as_bytes().get(2)) {
        (2 | 4, _) => rest.bytes().collect(),
        (5, Some(b':')) => rest.bytes().filter(|byte| *byte != b':').collect(),
        _ => return Err(TimeFault::Shape),
    };
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(TimeFault::Shape);
    }
    let value = leading_digits(&digits, 4);
    let (hours, minutes) = (value / 100, value % 100);
    if hours > 23 || minutes > 59 {
        return Err(TimeFault::Calendar);
    }
    Ok(Some(sign * (hours * 3_600 + minutes * 60) * MICROS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_752_321_600_000_000; // 2025-07-12T12:00:00Z

    fn check(zone: Option<Tz>, text: &str, wanted: Result<i64, TimeFault>) {
        assert_eq!(TimeReader::new(zone).text(text), wanted, "{text} in {zone:?}");
    }

    #[test]
    fn times_of_every_shape() {
        for (text, micros) in [
            ("2025-07-12T12:00:00Z", NOON),
            ("2025-07-12t12:00:00z", NOON),
            ("2025-07-12T14:00:00+02:00", NOON),
            ("2025-07-12T14:00:00+0200", NOON),
            ("2025-07-12 14:00:00+02", NOON),
            ("2025-07-12 08:30:00 -03:30", NOON),
            ("2025-07-12 12:00:00 UTC", NOON),
            ("  2025-07-12 12:00:00 ", NOON),
            ("2025-07-12 12:00", NOON),
            ("2025-07-12 12:00:00.5", NOON + 500_000),
            ("2025-07-12 12:00:00,5", NOON + 500_000),
            ("2025-07-12T12:00:00.123456Z", NOON + 123_456),
            ("2025-07-12T12:00:00.999999999Z", NOON + 999_999),
            ("2025-07-12T11:59:60Z", NOON),
            ("1970-01-01 00:00:00", 0),
            ("1969-12-31 23:59:59", -1_000_000),
            ("2024-02-29 00:00:00", 1_709_164_800_000_000),
            ("1752321600", NOON),
            ("1752321600.25", NOON + 250_000),
            ("1752321600000", NOON),
            ("1752321600000.5", NOON + 500),
            ("1752321600000000", NOON),
            ("1752321600000000.9", NOON),
            ("1752321600000000999", NOON),
            ("0", 0),
            ("-1", -1_000_000),
            ("99999999999", 99_999_999_999_000_000),
            ("100000000000", 100_000_000_000_000),
        ] {
            check(None, text, Ok(micros));
        }
    }

    #[test]
    fn what_is_no_time_says_why() {
        for (text, fault) in [
            ("", TimeFault::Shape),
            ("noon", TimeFault::Shape),
            ("12:00", TimeFault::Shape),
            ("2025-07-12", TimeFault::DateOnly),
            ("2025/07/12 12:00:00", TimeFault::Shape),
            ("12.07.2025 12:00", TimeFault::Shape),
            ("2025-07-12 12:00:00.", TimeFault::Shape),
            ("2025-07-12 12:00:00 CEST", TimeFault::Shape),
            ("2025-07-12 12:00:00+2", TimeFault::Shape),
            ("2025-07-12 12:00:00+0-12", TimeFault::Shape),
            ("2025-07-12 12:00:00+25:00", TimeFault::Calendar),
            ("2025-07-12 12:0x:00", TimeFault::Shape),
            ("2025-07-12 12", TimeFault::Shape),
            ("2025-13-12 12:00:00", TimeFault::Calendar),
            ("2025-02-29 12:00:00", TimeFault::Calendar),
            ("2025-07-12 24:00:00", TimeFault::Calendar),
            ("2025-07-12 12:60:00", TimeFault::Calendar),
            ("2025-07-12 12:00:61", TimeFault::Calendar),
            ("20250712é 12:00", TimeFault::Shape),
            ("1e9", TimeFault::Shape),
            ("99999999999999999999999", TimeFault::Range),
        ] {
            check(None, text, Err(fault));
        }
    }

    #[test]
    fn local_times_follow_their_zone() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        check(Some(berlin), "2025-07-12 14:00:00", Ok(NOON));
        check(Some(berlin), "2025-01-01 01:00:00", Ok(1_735_689_600_000_000));
        // An offset in the text wins over the zone, and a count since 1970 has none to begin with.
        check(Some(berlin), "2025-07-12 12:00:00Z", Ok(NOON));
        check(Some(berlin), "1752321600", Ok(NOON));
        // Clocks set back at 03:00: 02:30 occurred at 00:30Z and again at 01:30Z; the first is meant.
        check(Some(berlin), "2025-10-26 02:30:00", Ok(1_761_438_600_000_000));
        // Clocks set forward at 02:00.
        check(Some(berlin), "2025-03-30 02:30:00", Err(TimeFault::NeverWas(berlin)));
        check(Some(berlin), "2025-03-30 03:00:00", Ok(1_743_296_400_000_000));
    }
}
