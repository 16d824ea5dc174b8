//! `Head`: the writer's side of the store. One owner calls it; readers hold snapshots.

use std::{collections::BTreeMap, sync::Arc};

use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};
use tidewatch_model::{EventTime, Fill, Minute};
use tidewatch_views::{KeyCodec, PartialRows, View};

use crate::{
    hour::{Hour, StoredMinute, hour_of, mark, short},
    series::SeriesTable,
    snapshot::{OpenMinute, Snapshot, ViewSnapshot},
};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("view `{view}`: minute {minute} could not be computed: {reason}")]
    Unfinished { view: String, minute: Minute, reason: String },
    #[error("view `{view}`: its columns do not fit together: {source}")]
    Columns { view: String, source: ArrowError },
}

/// What storing a minute told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Rows that the minute has now.
    pub rows: usize,
    /// Integer sums that did not fit 64 bits and read as NULL.
    pub overflowed: usize,
}

#[derive(Debug)]
struct ViewHead {
    view: Arc<View>,
    codec: KeyCodec,
    series: SeriesTable,
    hours: Arc<BTreeMap<i64, Arc<Hour>>>,
    bytes: usize,
    /// What was added since the last save, in order: minutes, and corrections to them.
    unsaved: Vec<Arc<PartialRows>>,
    /// Retention has been kept up to this hour.
    kept_from: Option<i64>,
}

/// What a view holds: of these hours every minute that was sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// First and last of each run of hours, in hours since 1970.
    pub hours: Vec<(i64, i64)>,
    /// Retention has been kept up to this hour.
    pub kept_from: Option<i64>,
}

impl Held {
    pub fn contains(&self, minute: Minute) -> bool {
        let hour = hour_of(minute);
        self.hours.iter().any(|(first, last)| (*first..=*last).contains(&hour))
    }
}

/// All views' minutes. `bytes_max` bounds what they hold: beyond it the oldest hour of the largest view goes.
#[derive(Debug)]
pub struct Head {
    views: Vec<ViewHead>,
    bytes_max: usize,
    evicted_minutes: u64,
}

impl Head {
    pub fn new(views: &[Arc<View>], bytes_max: usize) -> Result<Self, StoreError> {
        let views = views.iter().map(|view| {
            let codec = view.key_codec().map_err(|source| columns_error(view, source))?;
            Ok(ViewHead {
                view: Arc::clone(view),
                codec,
                series: SeriesTable::default(),
                hours: Arc::default(),
                bytes: 0,
                unsaved: Vec::new(),
                kept_from: None,
            })
        });
        Ok(Self { views: views.collect::<Result<_, _>>()?, bytes_max, evicted_minutes: 0 })
    }

    /// Adds a sealed minute, or the rows of a correction to it, for the view at `at`.
    pub fn add(&mut self, at: usize, partial: PartialRows) -> Result<Stored, StoreError> {
        let Some(head) = self.views.get_mut(at) else { return Ok(Stored::default()) };
        let stored = head.add(partial)?;
        self.evict();
        Ok(stored)
    }

    /// Drops what leaves the views' retention as time goes on to `watermark`. History that was older already when it was
    /// replayed does not leave it and stays, as long as there is room.
    pub fn retain(&mut self, watermark: EventTime) {
        for head in &mut self.views {
            let keep = hour_of(watermark.minus(head.view.meta.retention).minute());
            let before = head.kept_from.map_or(keep, |before| before.max(keep));
            let kept = head.kept_from.replace(before).unwrap_or(keep);
            let leaving: Vec<i64> = head.hours.range(kept..before).map(|(hour, _)| *hour).collect();
            leaving.into_iter().for_each(|hour| {
                head.drop_hour(hour);
            });
        }
    }

    /// What was added since the last call, for each view in order: whoever adds it all up again has the same minutes.
    pub fn take_unsaved(&mut self) -> Vec<Vec<Arc<PartialRows>>> {
        self.views.iter_mut().map(|head| std::mem::take(&mut head.unsaved)).collect()
    }

    /// The hours that each view holds.
    pub fn held(&self) -> Vec<Held> {
        let held = |head: &ViewHead| Held { hours: ranges(head.hours.keys().copied()), kept_from: head.kept_from };
        self.views.iter().map(held).collect()
    }

    /// After the rows of a save were added: the view holds every sealed minute of these hours, also where nothing was in it.
    pub fn restore_held(&mut self, at: usize, held: &Held, sealed: impl Fn(Minute) -> bool) -> Result<(), StoreError> {
        let Some(head) = self.views.get_mut(at) else { return Ok(()) };
        head.kept_from = held.kept_from;
        for hour in held.hours.iter().flat_map(|(first, last)| *first..=*last) {
            for minute in (hour * 60..hour * 60 + 60).map(Minute::from_index) {
                if sealed(minute) && head.stored(minute).is_none() {
                    let empty = head.view.no_rows(minute);
                    head.add(empty)?;
                }
            }
        }
        Ok(())
    }

    fn evict(&mut self) {
        while self.bytes() > self.bytes_max {
            let Some(largest) = self.views.iter_mut().filter(|v| v.hours.len() > 1).max_by_key(|v| v.bytes) else {
                return;
            };
            self.evicted_minutes += largest.drop_oldest();
        }
    }

    /// An estimate of the bytes held.
    pub fn bytes(&self) -> usize {
        self.views.iter().map(|view| view.bytes).sum()
    }

    /// Minutes dropped for want of room, before their retention was over.
    pub fn evicted_minutes(&self) -> u64 {
        self.evicted_minutes
    }

    pub fn series(&self) -> usize {
        self.views.iter().map(|view| view.series.len()).sum()
    }

    /// The sealed minutes of every view as they stand.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.views.iter().map(|head| Arc::new(head.snapshot(Vec::new()))).collect())
    }

    /// The same with the open minutes: `open[i]` are those of view `i`.
    pub fn snapshot_with_open(&self, open: Vec<Vec<PartialRows>>) -> Result<Snapshot, StoreError> {
        let views = self.views.iter().zip(open).map(|(head, open)| {
            let open = open.into_iter().map(|partial| head.open_minute(partial)).collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(head.snapshot(open)))
        });
        Ok(Snapshot::new(views.collect::<Result<_, _>>()?))
    }
}

/// Ascending numbers as first and last of each run.
fn ranges(numbers: impl Iterator<Item = i64>) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

fn columns_error(view: &View, source: ArrowError) -> StoreError {
    StoreError::Columns { view: view.meta.name.clone(), source }
}

impl ViewHead {
    fn snapshot(&self, open: Vec<OpenMinute>) -> ViewSnapshot {
        ViewSnapshot::new(
            Arc::clone(&self.view.meta),
            Arc::clone(self.series.columns()),
            self.series.len(),
            Arc::clone(&self.hours),
            open,
        )
    }

    fn finish(&self, partial: PartialRows) -> Result<tidewatch_views::Finished, StoreError> {
        let minute = partial.minute();
        self.view.finish(&self.codec, partial).map_err(|error| StoreError::Unfinished {
            view: self.view.meta.name.clone(),
            minute,
            reason: error.strip_backtrace(),
        })
    }

    fn stored(&self, minute: Minute) -> Option<&Arc<StoredMinute>> {
        self.hours.get(&hour_of(minute))?.minutes.get(&minute)
    }

    fn add(&mut self, partial: PartialRows) -> Result<Stored, StoreError> {
        let minute = partial.minute();
        let before = self.stored(minute).map_or(0, |stored| stored.bytes());
        let (merged, correction) = match self.stored(minute) {
            Some(stored) => {
                let correction = self.survivors(&stored.partial, partial);
                (stored.partial.merged(&correction), Some(Arc::new(correction)))
            }
            None => (partial, None),
        };
        let finished = self.finish(merged)?;
        let series = self
            .series
            .intern(finished.partial.keys(), &finished.keys)
            .map_err(|source| columns_error(&self.view, source))?;
        let rows = series.len();
        let stored = StoredMinute::new(Arc::new(finished.partial), series, finished.measures);
        self.unsaved.push(correction.unwrap_or_else(|| Arc::clone(&stored.partial)));
        self.bytes = self.bytes.saturating_sub(before) + stored.bytes();
        self.put(minute, stored);
        Ok(Stored { rows, overflowed: finished.overflowed })
    }

    /// Of a correction to a view with HAVING, only keys that are stored can be added to: what the others had before was
    /// not kept, and half a sum would be a wrong number.
    fn survivors(&self, stored: &PartialRows, correction: PartialRows) -> PartialRows {
        if self.view.having.is_none() {
            return correction;
        }
        let known = |key| stored.keys().binary_search(key).is_ok();
        let places = correction.keys().iter().enumerate().filter(|(_, key)| known(key)).map(|(at, _)| at as u32);
        correction.select(&places.collect::<Vec<_>>())
    }

    fn put(&mut self, minute: Minute, stored: StoredMinute) {
        let fills = matches!(self.view.meta.fill, Fill::Zero { .. });
        let series = stored.series.clone();
        let hours = Arc::make_mut(&mut self.hours);
        let at = hour_of(minute);
        if !hours.contains_key(&at) {
            let seen_before = match hours.range(..at).next_back() {
                Some((_, before)) if fills => before.seen_after(),
                _ => Vec::new(),
            };
            hours.insert(at, Arc::new(Hour { minutes: BTreeMap::new(), seen_before }));
        }
        if let Some(hour) = hours.get_mut(&at) {
            Arc::make_mut(hour).minutes.insert(minute, Arc::new(stored));
        }
        if fills {
            let horizon = hour_of(minute.plus(self.view.fill_horizon.minutes_ceil()));
            for (_, hour) in hours.range_mut(at + 1..=horizon.max(at + 1)) {
                let news =
                    series.iter().filter(|s| hour.seen_before.get(**s as usize).is_none_or(|m| *m < short(minute)));
                let news: Vec<u32> = news.copied().collect();
                if !news.is_empty() {
                    let hour = Arc::make_mut(hour);
                    news.iter().for_each(|series| mark(&mut hour.seen_before, *series, short(minute)));
                }
            }
        }
    }

    fn drop_oldest(&mut self) -> u64 {
        self.hours.first_key_value().map(|(hour, _)| *hour).map_or(0, |oldest| self.drop_hour(oldest))
    }

    /// Returns how many minutes went.
    fn drop_hour(&mut self, hour: i64) -> u64 {
        let Some(hour) = Arc::make_mut(&mut self.hours).remove(&hour) else { return 0 };
        let bytes: usize = hour.minutes.values().map(|minute| minute.bytes()).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        hour.minutes.len() as u64
    }

    fn open_minute(&self, partial: PartialRows) -> Result<OpenMinute, StoreError> {
        let minute = partial.minute();
        let finished = self.finish(partial)?;
        let mut unknown = self.series.len() as u32;
        let series = finished.partial.keys().iter().map(|key| {
            self.series.number(key).unwrap_or_else(|| {
                unknown += 1;
                unknown - 1
            })
        });
        Ok(OpenMinute { minute, series: series.collect(), keys: finished.keys, measures: finished.measures })
    }
}
