//! Reading rows out of a snapshot, with gaps filled: a projection at read time, never stored.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
        TimestampMicrosecondArray, UInt32Array, UInt64Array, new_empty_array, new_null_array,
    },
    compute,
    datatypes::DataType,
};
use tidewatch_model::{Fill, Measure, Minute, ViewMeta};

use crate::{
    hour::{Hour, NEVER, StoredMinute, hour_of, mark, short},
    snapshot::{Rows, ViewSnapshot},
};

/// Where the rows of a reading come from: row `row` of source `source`; source 0 is the fill.
#[derive(Default)]
struct Plan<'a> {
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

    fn add_present(&mut self, minute: Minute, stored: &'a StoredMinute) {
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

pub fn sealed(view: &ViewSnapshot, from: Minute, to: Minute) -> Rows {
    let mut plan = Plan::default();
    match view.meta().fill {
        Fill::None => {
            for hour in view.hours.range(hour_of(from)..=hour_of(to)).map(|(_, hour)| hour) {
                hour.minutes.range(from..=to).for_each(|(minute, stored)| plan.add_present(*minute, stored));
            }
        }
        Fill::Zero { horizon } => fill(view, from, to, horizon.minutes_ceil(), &mut plan),
    }
    collect(view, plan)
}

fn fill<'a>(view: &'a ViewSnapshot, from: Minute, to: Minute, horizon: i64, plan: &mut Plan<'a>) {
    let mut seen: Option<Vec<i32>> = None;
    for hour in view.hours.range(hour_of(from)..=hour_of(to)).map(|(_, hour)| hour) {
        let mut current = seen.take().unwrap_or_else(|| hour.seen_before.clone());
        merge_seen(&mut current, hour);
        for (minute, stored) in hour.minutes.range(..=to) {
            if *minute >= from {
                plan.add_filled(*minute, stored, &current, horizon);
            }
            stored.series.iter().for_each(|series| mark(&mut current, *series, short(*minute)));
        }
        seen = Some(current);
    }
}

/// What the hour itself knows of the time before it is at least as much as what was carried along.
fn merge_seen(current: &mut Vec<i32>, hour: &Hour) {
    for (series, minute) in hour.seen_before.iter().enumerate() {
        if *minute != NEVER {
            mark(current, series as u32, *minute);
        }
    }
}

fn collect(view: &ViewSnapshot, plan: Plan<'_>) -> Rows {
    let meta = view.meta();
    let numbers = UInt32Array::from(plan.series.clone());
    let keys = view.keys().iter().map(|keys| take(keys, &numbers));
    let keys: Vec<ArrayRef> = if view.keys().is_empty() { empty_keys(meta) } else { keys.collect() };
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
    let batch = batch(meta, plan.minutes, keys, measures, true);
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
