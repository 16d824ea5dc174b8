//! `Bucket`: the hour or the day that a segment's minutes lie in. What is written is divided so that each segment lies in one,
//! and only segments of one bucket are merged: a segment then goes when its hour or its day does. It reads and writes nothing.

use std::{collections::BTreeMap, ops::RangeInclusive};

use tidewatch_model::Minute;

const HOUR_MINUTES: i64 = 60;
const DAY_MINUTES: i64 = 24 * HOUR_MINUTES;

/// What is written at once is divided by hours where it touches no more of them, and otherwise by days: late events that
/// are strewn over a week are not worth a file for each hour.
const HOURS_MAX: usize = 16;

/// Hours come before days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Since 1970.
    Hour(i64),
    Day(i64),
}

impl Bucket {
    /// The narrowest that holds all of these minutes; `None` where they are of several days.
    pub fn of((first, last): (Minute, Minute)) -> Option<Self> {
        let both = |minutes: i64| {
            let at = first.index().div_euclid(minutes);
            (at == last.index().div_euclid(minutes)).then_some(at)
        };
        both(HOUR_MINUTES).map(Self::Hour).or_else(|| both(DAY_MINUTES).map(Self::Day))
    }

    /// The day that holds the bucket.
    pub(crate) fn day(self) -> Self {
        match self {
            Self::Hour(at) => Self::Day(at.div_euclid(DAY_MINUTES / HOUR_MINUTES)),
            day @ Self::Day(_) => day,
        }
    }

    pub(crate) fn contains(self, minutes: (Minute, Minute)) -> bool {
        let (first, last) = self.minutes();
        first <= minutes.0 && minutes.1 <= last
    }

    /// All hours, and all days, that have some of these minutes.
    pub(crate) fn spans((first, last): (Minute, Minute)) -> [RangeInclusive<Self>; 2] {
        let at = |minute: Minute, minutes| minute.index().div_euclid(minutes);
        [
            Self::Hour(at(first, HOUR_MINUTES))..=Self::Hour(at(last, HOUR_MINUTES)),
            Self::Day(at(first, DAY_MINUTES))..=Self::Day(at(last, DAY_MINUTES)),
        ]
    }

    /// The oldest and the newest.
    pub fn minutes(self) -> (Minute, Minute) {
        let (at, minutes) = match self {
            Self::Hour(at) => (at, HOUR_MINUTES),
            Self::Day(at) => (at, DAY_MINUTES),
        };
        let first = Minute::from_index(at.saturating_mul(minutes));
        (first, first.plus(minutes - 1))
    }
}

/// How minutes with so many rows each become segments: the first and the last minute of each, in order. Each lies in one
/// bucket and has at most `rows_max` rows, unless one minute alone has more.
pub fn divided(rows: &BTreeMap<Minute, u64>, rows_max: u64) -> Vec<(Minute, Minute)> {
    let hour = |minute: &Minute| minute.index().div_euclid(HOUR_MINUTES);
    let mut hours: Vec<i64> = rows.keys().map(hour).collect();
    hours.dedup();
    let width = if hours.len() <= HOURS_MAX { HOUR_MINUTES } else { DAY_MINUTES };
    let mut parts: Vec<(Minute, Minute)> = Vec::new();
    let mut held = 0_u64;
    for (minute, count) in rows {
        let together = |first: &Minute| first.index().div_euclid(width) == minute.index().div_euclid(width);
        held = held.saturating_add(*count);
        match parts.last_mut().filter(|(first, _)| together(first) && held <= rows_max) {
            Some((_, last)) => *last = *minute,
            None => {
                parts.push((*minute, *minute));
                held = *count;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(minutes: &[i64], rows_max: u64, expected: &[(i64, i64)]) {
        let rows = minutes.iter().map(|minute| (Minute::from_index(*minute), 10)).collect();
        let parts: Vec<(i64, i64)> =
            divided(&rows, rows_max).iter().map(|(first, last)| (first.index(), last.index())).collect();
        assert_eq!(parts, expected, "{minutes:?}");
    }

    #[test]
    fn minutes_are_divided_by_hours_or_by_days() {
        check(&[], 100, &[]);
        check(&[59, 60, 61, 119, 120], 100, &[(59, 59), (60, 119), (120, 120)]);
        check(&[-1, 0], 100, &[(-1, -1), (0, 0)]);
        check(&[0, 1, 2, 3, 4], 20, &[(0, 1), (2, 3), (4, 4)]);
        check(&[0, 1, 2], 1, &[(0, 0), (1, 1), (2, 2)]);
        let hours: Vec<i64> = (0..17).map(|hour| hour * 60 + 1_200).collect();
        check(&hours[..16], 1_000, &hours[..16].iter().map(|minute| (*minute, *minute)).collect::<Vec<_>>());
        check(&hours, 1_000, &[(1_200, 1_380), (1_440, 2_160)]);
    }

    #[test]
    fn a_bucket_is_the_narrowest() {
        let of = |first, last| Bucket::of((Minute::from_index(first), Minute::from_index(last)));
        assert_eq!(of(60, 119), Some(Bucket::Hour(1)));
        assert_eq!(of(59, 60), Some(Bucket::Day(0)));
        assert_eq!(of(-1, -1), Some(Bucket::Hour(-1)));
        assert_eq!(of(1_439, 1_440), None);
        assert_eq!(Bucket::Hour(-1).day(), Bucket::Day(-1));
        assert_eq!(Bucket::Day(1).minutes(), (Minute::from_index(1_440), Minute::from_index(2_879)));
    }
}
