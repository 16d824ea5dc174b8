//! `Hour`: up to sixty stored minutes, the unit that snapshots share. A change copies one hour's list, not the minutes.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{Array, ArrayRef};
use tidewatch_model::Minute;
use tidewatch_views::PartialRows;

/// One sealed minute of one view. Row `i` of everything belongs to the same key.
#[derive(Debug)]
pub struct StoredMinute {
    /// What corrections are merged with.
    pub partial: Arc<PartialRows>,
    pub series: Vec<u32>,
    pub measures: Vec<ArrayRef>,
    /// Rows in ascending order of series.
    pub order: Vec<u32>,
}

impl StoredMinute {
    pub fn new(partial: Arc<PartialRows>, series: Vec<u32>, measures: Vec<ArrayRef>) -> Self {
        let mut order: Vec<u32> = (0..series.len() as u32).collect();
        order.sort_unstable_by_key(|row| series.get(*row as usize).copied());
        Self { partial, series, measures, order }
    }

    pub fn bytes(&self) -> usize {
        let measures = self.measures.iter().map(|array| array.get_array_memory_size()).sum::<usize>();
        self.partial.bytes() + self.series.len() * 8 + measures
    }
}

/// Never seen.
pub const NEVER: i32 = i32::MIN;

#[derive(Debug, Clone, Default)]
pub struct Hour {
    pub minutes: BTreeMap<Minute, Arc<StoredMinute>>,
    /// For each series, the newest minute before this hour in which it had a row; `NEVER` (or beyond the end) for none.
    /// Kept only for views that fill gaps.
    pub seen_before: Vec<i32>,
}

/// The hour that a minute belongs to.
pub fn hour_of(minute: Minute) -> i64 {
    minute.index().div_euclid(60)
}

/// A minute as it is kept in `seen_before`: 32 bits reach to the year 6053.
pub fn short(minute: Minute) -> i32 {
    i32::try_from(minute.index()).unwrap_or(i32::MAX)
}

impl Hour {
    /// `seen_before` of the hour that follows.
    pub fn seen_after(&self) -> Vec<i32> {
        let mut seen = self.seen_before.clone();
        for (minute, stored) in &self.minutes {
            stored.series.iter().for_each(|series| mark(&mut seen, *series, short(*minute)));
        }
        seen
    }
}

/// Notes that a series had a row in a minute.
pub fn mark(seen: &mut Vec<i32>, series: u32, minute: i32) {
    let at = series as usize;
    if seen.len() <= at {
        seen.resize(at + 1, NEVER);
    }
    if let Some(last) = seen.get_mut(at) {
        *last = minute.max(*last);
    }
}
