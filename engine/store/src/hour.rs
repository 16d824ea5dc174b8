//! `Hour`: up to sixty stored minutes, and `Slot`: an hour of a view as the head knows it, in memory or on disk. Hours are the
//! unit that snapshots share: a change copies one hour's list, not the minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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

/// For each series, the newest minute before some hour in which it had a row; `NEVER` (or beyond the end) for none.
pub type Seen = Vec<i32>;

/// Minutes of one hour that lie in memory.
#[derive(Debug, Clone, Default)]
pub struct Hour {
    pub minutes: BTreeMap<Minute, Arc<StoredMinute>>,
    /// Kept only for views that fill gaps, and only where it is known without reading: otherwise whoever reads looks back.
    pub seen_before: Option<Seen>,
}

impl Hour {
    pub fn bytes(&self) -> usize {
        self.minutes.values().map(|minute| minute.bytes()).sum()
    }

    /// Notes every row of the minutes in memory.
    pub fn mark(&self, seen: &mut Seen) {
        for (minute, stored) in &self.minutes {
            stored.series.iter().for_each(|series| mark(seen, *series, short(*minute)));
        }
    }
}

/// One hour of a view: some of its minutes in memory, the others on disk.
#[derive(Debug, Clone, Default)]
pub struct Slot {
    pub hot: Arc<Hour>,
    /// The minutes of this hour that are on disk and not in memory.
    pub cold: Mask,
    /// Grows whenever what is on disk of this hour, or what was seen before it, becomes another. What readers keep of it is
    /// kept under this number.
    pub version: u32,
    /// The save that takes up the newest change to this hour.
    pub changed: u64,
    /// Of a roll-up, what is not on disk yet: it adds to what is.
    pub fresh: Arc<Fresh>,
}

impl Slot {
    /// Whether the slot of a roll-up holds this window.
    pub fn has(&self, number: Minute) -> bool {
        self.cold.contains(number) || self.fresh.contains_key(&number)
    }

    /// The windows of a roll-up that the slot of this hour holds, by number.
    pub fn numbers(&self, hour: i64) -> impl Iterator<Item = Minute> {
        let all: BTreeSet<Minute> = self.cold.minutes(hour).chain(self.fresh.keys().copied()).collect();
        all.into_iter()
    }
}

/// Rows that came into a window, with the save that takes each up, by the window's number.
pub type Fresh = BTreeMap<Minute, Vec<(u64, Arc<PartialRows>)>>;

/// A set of the minutes of one hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mask(u64);

impl Mask {
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, minute: Minute) -> bool {
        self.0 & bit(minute) != 0
    }

    pub fn insert(&mut self, minute: Minute) {
        self.0 |= bit(minute);
    }

    pub fn remove(&mut self, minute: Minute) {
        self.0 &= !bit(minute);
    }

    /// The minutes of the set, in order, in the hour `hour`.
    pub fn minutes(self, hour: i64) -> impl DoubleEndedIterator<Item = Minute> {
        let first = Minute::from_index(hour.saturating_mul(60));
        (0..60).filter(move |at| self.0 & (1 << at) != 0).map(move |at| first.plus(at))
    }
}

fn bit(minute: Minute) -> u64 {
    1 << minute.index().rem_euclid(60)
}

/// The hour that a minute belongs to.
pub fn hour_of(minute: Minute) -> i64 {
    minute.index().div_euclid(60)
}

/// A minute as it is kept in `Seen`: 32 bits reach to the year 6053.
pub fn short(minute: Minute) -> i32 {
    i32::try_from(minute.index()).unwrap_or(i32::MAX)
}

/// Notes that a series had a row in a minute.
pub fn mark(seen: &mut Seen, series: u32, minute: i32) {
    let at = series as usize;
    if seen.len() <= at {
        seen.resize(at + 1, NEVER);
    }
    if let Some(last) = seen.get_mut(at) {
        *last = minute.max(*last);
    }
}
