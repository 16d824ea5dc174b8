//! Reading rows out of a snapshot, with gaps filled: a projection at read time, never stored.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
        TimestampMicrosecondArray, UInt32Array, UInt64Array, new_empty_array, new_null_array,
    },
    compute,
    datatypes::DataType,
};
use tidewatch_model::{Fill, Measure, Minute, ViewMeta};
use tidewatch_views::PartialRows;

use crate::{
    cold::Wanted,
    error::StoreError,
    hour::{Hour, NEVER, Seen, Slot, StoredMinute, hour_of, mark, short},
    seen,
    snapshot::{Rows, ViewSnapshot},
};

/// Where the rows of a reading come from: row `row` of source `source`; source 0 is the fill.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    sources: Vec<&'a StoredMinute>,
    places: Vec<(usize, usize)>,
    minutes: Vec<i64>,
    series: Vec<u32>,
}

impl<'a> Plan<'a> {
    fn push(&mut self, minute: Minute, series: u32, place: (usize, usize)) {
        self.places.push(place);
        self.minutes.push(minute.start().micros());
        self.series.push(series);
    }

    pub(crate) fn add_present(&mut self, minute: Minute, stored: &'a StoredMinute) {
        self.sources.push(stored);
        let source = self.sources.len();
        for row in &stored.order {
            // `order` is a permutation of the rows of `series`.
            self.push(minute, stored.series[*row as usize], (source, *row as usize));
        }
    }

    /// The rows of a minute with those of the series that were seen within the horizon before it.
    fn add_filled(&mut self, minute: Minute, stored: &'a StoredMinute, seen: &[i32], horizon: i64) {
        self.sources.push(stored);
        let source = self.sources.len();
        let mut present = stored.order.iter().copied().peekable();
        let oldest = short(minute.plus(-horizon));
        let known = seen.len() as u32;
        for series in 0..known {
            if let Some(row) = present.next_if(|row| stored.series[*row as usize] == series) {
                self.push(minute, series, (source, row as usize));
            } else if seen.get(series as usize).is_some_and(|last| *last != NEVER && *last >= oldest) {
                self.push(minute, series, (0, 0));
            }
        }
        for row in present {
            self.push(minute, stored.series[row as usize], (source, row as usize));
        }
    }
}

pub fn sealed(view: &ViewSnapshot, from: Minute, to: Minute) -> Result<Rows, StoreError> {
    let mut plan = Plan::default();
    if to < from {
        return Ok(collect(view, plan, true));
    }
    let hours = hours(view, from, to)?;
    match view.meta().fill {
        Fill::None => {
            for hour in &hours {
                let between = hour.minutes.iter().filter(|(minute, _)| (from..=to).contains(minute));
                between.for_each(|(minute, stored)| plan.add_present(*minute, stored));
            }
        }
        Fill::Zero { horizon } => {
            let seen = match hours.first() {
                Some(first) => Arc::unwrap_or_clone(seen::before(view, first.at)?),
                None => Seen::new(),
            };
            fill(&hours, seen, (from, to), horizon.minutes_ceil(), &mut plan);
        }
    }
    Ok(collect(view, plan, true))
}

/// The minutes of `from ..= to` that a view holds, and those of which a part is damaged.
pub(crate) fn minutes_held(
    view: &ViewSnapshot,
    from: Minute,
    to: Minute,
) -> Result<(Vec<Arc<PartialRows>>, Vec<Minute>), StoreError> {
    let (mut held, mut damaged) = (Vec::new(), Vec::new());
    for hour in hours(view, from, to)? {
        let cold = view.slots.get(&hour.at).map(|slot| slot.cold).unwrap_or_default();
        damaged.extend(cold.minutes(hour.at).filter(|minute| !hour.minutes.contains_key(minute)));
        held.extend(hour.minutes.values().map(|stored| Arc::clone(&stored.partial)));
    }
    Ok((held, damaged))
}

/// An hour with all of its minutes up to the end of a range, wherever they came from.
struct WholeHour {
    at: i64,
    minutes: BTreeMap<Minute, Arc<StoredMinute>>,
    seen_before: Option<Arc<Hour>>,
}

/// The hours that hold minutes of `from ..= to`. Those on disk are read.
fn hours(view: &ViewSnapshot, from: Minute, to: Minute) -> Result<Vec<WholeHour>, StoreError> {
    let slots: Vec<(i64, &Slot)> =
        view.slots.range(hour_of(from)..=hour_of(to)).map(|(hour, slot)| (*hour, slot)).collect();
    let wanted: Vec<Wanted> = slots
        .iter()
        .filter(|(hour, slot)| slot.cold.minutes(*hour).next().is_some_and(|first| first <= to))
        .filter(|(hour, slot)| slot.cold.minutes(*hour).next_back().is_some_and(|last| from <= last) || fills(view))
        .map(|(hour, slot)| Wanted { hour: *hour, minutes: slot.cold, version: slot.version })
        .collect();
    let mut read = match &view.cold {
        Some(cold) if !wanted.is_empty() => cold.hours(&view.parts, &wanted)?,
        _ => BTreeMap::new(),
    };
    let whole = slots.into_iter().map(|(at, slot)| {
        let cold = read.remove(&at);
        let both = cold.iter().flat_map(|hour| &hour.minutes).chain(&slot.hot.minutes);
        let minutes = both.map(|(minute, stored)| (*minute, Arc::clone(stored))).collect();
        let seen_before = slot.hot.seen_before.is_some().then(|| Arc::clone(&slot.hot));
        WholeHour { at, minutes, seen_before }
    });
    Ok(whole.collect())
}

fn fills(view: &ViewSnapshot) -> bool {
    matches!(view.meta().fill, Fill::Zero { .. })
}

/// `seen` is what was seen before the first of the hours.
fn fill<'a>(hours: &'a [WholeHour], mut seen: Seen, (from, to): (Minute, Minute), horizon: i64, plan: &mut Plan<'a>) {
    for hour in hours {
        // What the hour itself knows of the time before it is at least as much as what was carried along.
        let known = hour.seen_before.as_ref().and_then(|hour| hour.seen_before.as_deref()).unwrap_or_default();
        for (series, minute) in known.iter().enumerate().filter(|(_, minute)| **minute != NEVER) {
            mark(&mut seen, series as u32, *minute);
        }
        for (minute, stored) in hour.minutes.range(..=to) {
            if *minute >= from {
                plan.add_filled(*minute, stored, &seen, horizon);
            }
            stored.series.iter().for_each(|series| mark(&mut seen, *series, short(*minute)));
        }
    }
}

pub(crate) fn collect(view: &ViewSnapshot, plan: Plan<'_>, sealed: bool) -> Rows {
    let meta = view.meta();
    let numbers = UInt32Array::from(plan.series.clone());
    // Taken after the rows were read, so every series among them is there.
    let known = view.keys();
    let keys = known.iter().map(|keys| take(keys, &numbers));
    let keys: Vec<ArrayRef> = if known.is_empty() { empty_keys(meta) } else { keys.collect() };
    let measures: Vec<ArrayRef> = meta
        .measures
        .iter()
        .enumerate()
        .map(|(at, measure)| {
            let fill = fill_value(measure);
            let mut sources: Vec<&dyn Array> = vec![fill.as_ref()];
            sources.extend(plan.sources.iter().map(|stored| stored.measures[at].as_ref()));
            interleave(&sources, &plan.places, measure.field.data_type())
        })
        .collect();
    let batch = batch(meta, plan.minutes, keys, measures, sealed);
    Rows { batch, series: plan.series }
}

/// A view without series has no key columns to take from.
fn empty_keys(meta: &ViewMeta) -> Vec<ArrayRef> {
    meta.keys.iter().map(|field| new_empty_array(field.data_type())).collect()
}

fn take(keys: &ArrayRef, numbers: &UInt32Array) -> ArrayRef {
    // Series numbers are below the number of series, which is the length of every key column.
    compute::take(keys, numbers, None).unwrap_or_else(|_| new_null_array(keys.data_type(), numbers.len()))
}

fn interleave(sources: &[&dyn Array], places: &[(usize, usize)], kind: &DataType) -> ArrayRef {
    // All sources have the measure's type and every place lies within its source, as the plan was made from them.
    compute::interleave(sources, places).unwrap_or_else(|_| new_null_array(kind, places.len()))
}

fn fill_value(measure: &Measure) -> ArrayRef {
    match (measure.fills_with_zero, measure.field.data_type()) {
        (true, DataType::Int64) => Arc::new(Int64Array::from(vec![0])),
        (true, DataType::UInt64) => Arc::new(UInt64Array::from(vec![0])),
        (true, DataType::Float64) => Arc::new(Float64Array::from(vec![0.0])),
        (_, kind) => new_null_array(kind, 1),
    }
}

fn batch(
    meta: &ViewMeta,
    minutes: Vec<i64>,
    keys: Vec<ArrayRef>,
    measures: Vec<ArrayRef>,
    sealed: bool,
) -> RecordBatch {
    let rows = minutes.len();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(TimestampMicrosecondArray::from(minutes).with_timezone("UTC"))];
    columns.extend(keys);
    columns.extend(measures);
    columns.push(Arc::new(BooleanArray::from(vec![sealed; rows])));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    // The columns were made to the schema's types and all have `rows` rows.
    RecordBatch::try_new_with_options(Arc::clone(meta.schema()), columns, &options)
        .unwrap_or_else(|_| RecordBatch::new_empty(Arc::clone(meta.schema())))
}

pub fn open(view: &ViewSnapshot, from: Minute, to: Minute) -> Rows {
    let meta = view.meta();
    let mut series = Vec::new();
    let mut batches = Vec::new();
    for open in view.open.iter().filter(|open| from <= open.minute && open.minute <= to) {
        series.extend(&open.series);
        let minutes = vec![open.minute.start().micros(); open.series.len()];
        batches.push(batch(meta, minutes, open.keys.clone(), open.measures.clone(), false));
    }
    let joined = compute::concat_batches(meta.schema(), &batches);
    // Batches of one schema can always be joined.
    let batch = joined.unwrap_or_else(|_| RecordBatch::new_empty(Arc::clone(meta.schema())));
    Rows { batch, series }
}
