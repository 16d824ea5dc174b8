//! `trailing_*` over a view: each row's statistic over the minutes strictly before it, per series.
//! What was read and computed for one minute's judgement is shared by every rule that asks for the same;
//! the cache is bounded and lives as long as its owner keeps it: a new one per judged minute.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, Float64Array},
    compute::cast,
    datatypes::DataType,
};
use datafusion::{common::Result, logical_expr::Expr, physical_expr::PhysicalExpr};
use tidewatch_model::{Minute, limits};

use crate::{
    MinuteTable, Rows, Statistic,
    minutes::{minutes_of, unread},
};

/// One `trailing_*` call over a view: a hidden column of the scan.
#[derive(Clone, Debug)]
pub struct Trailing {
    pub statistic: Statistic,
    /// How many minutes before the row's own the window reaches.
    pub minutes: i64,
    /// The argument over the view's columns, without qualifiers: equal ones share their baseline.
    pub(crate) logical: Expr,
    pub(crate) physical: Arc<dyn PhysicalExpr>,
    /// The argument is a measure that gaps fill with zero: minutes of the window in which the key has no row
    /// are zeros, so that a key that appears is measured against an hour without it, not against itself.
    pub(crate) absent_is_zero: bool,
}

impl Trailing {
    /// A word for EXPLAIN and messages.
    pub fn describe(&self) -> String {
        format!("{}({}, '{} minutes')", self.statistic, self.logical, self.minutes)
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.statistic.key() == other.statistic.key() && self.minutes == other.minutes && self.logical == other.logical
    }
}

/// Rows of a range of minutes with what every statistic over them needs: read once, used often.
pub(crate) struct Loaded {
    pub rows: Rows,
    pub minutes: Vec<i64>,
    /// The minutes that there are, each once, in order.
    distinct: Vec<i64>,
    by_series: BySeries,
}

impl Loaded {
    pub fn new(rows: Rows) -> Result<Self> {
        let minutes = minutes_of(&rows.batch)?;
        let by_series = BySeries::new(&minutes, &rows.series);
        let mut distinct = minutes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        Ok(Self { rows, minutes, distinct, by_series })
    }

    /// The first row of the minutes from `minute` on, where rows are in the order of minutes.
    pub fn first_of(&self, minute: Minute) -> usize {
        self.minutes.partition_point(|at| *at < minute.index())
    }

    pub fn bytes(&self) -> usize {
        self.rows.batch.get_array_memory_size() + self.minutes.len() * 20
    }

    /// The statistic for the rows from `first` on.
    pub fn trailing(&self, call: &Trailing, first: usize) -> Result<ArrayRef> {
        let argument = call.physical.evaluate(&self.rows.batch)?.into_array(self.minutes.len())?;
        let argument = cast(&argument, &DataType::Float64)?;
        let values = datafusion::common::cast::as_float64_array(&argument)?;
        let before = if call.absent_is_zero { self.distinct.as_slice() } else { &[] };
        Ok(Arc::new(self.by_series.trailing(call, before, &self.minutes, values, first)))
    }
}

/// The rows' places, series by series, each in the order of minutes.
struct BySeries {
    order: Vec<u32>,
    /// Where each series begins in `order`; one more at the end.
    starts: Vec<u32>,
}

impl BySeries {
    fn new(minutes: &[i64], series: &[u32]) -> Self {
        let mut by_minute: Vec<u32> = (0..series.len() as u32).collect();
        if !minutes.is_sorted() {
            by_minute.sort_by_key(|row| minutes[*row as usize]);
        }
        let groups = series.iter().max().map_or(0, |most| *most as usize + 1);
        let mut starts = vec![0u32; groups + 1];
        for number in series {
            starts[*number as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut order = vec![0u32; series.len()];
        for row in by_minute {
            let place = &mut next[series[row as usize] as usize];
            order[*place as usize] = row;
            *place += 1;
        }
        Self { order, starts }
    }

    fn trailing(
        &self,
        call: &Trailing,
        zeros: &[i64],
        minutes: &[i64],
        values: &Float64Array,
        first: usize,
    ) -> Float64Array {
        let window = call.minutes;
        let mut answers: Vec<Option<f64>> = vec![None; minutes.len().saturating_sub(first)];
        let (mut present, mut at_minutes, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for bounds in self.starts.windows(2) {
            let rows = &self.order[bounds[0] as usize..bounds[1] as usize];
            if rows.iter().all(|row| (*row as usize) < first) {
                continue;
            }
            present.clear();
            at_minutes.clear();
            let mut absent = zeros.iter().copied().peekable();
            let mut add = |minute: i64, value: f64| {
                at_minutes.push(minute);
                present.push(value);
            };
            for row in rows.iter().map(|row| *row as usize) {
                let minute = minutes[row];
                while let Some(zero) = absent.next_if(|zero| *zero < minute) {
                    add(zero, 0.0);
                }
                absent.next_if_eq(&minute);
                if values.is_valid(row) {
                    add(minute, values.value(row));
                }
            }
            let (mut low, mut high) = (0, 0);
            for row in rows.iter().map(|row| *row as usize) {
                let minute = minutes[row];
                while high < at_minutes.len() && at_minutes[high] < minute {
                    high += 1;
                }
                while low < high && at_minutes[low] < minute.saturating_sub(window) {
                    low += 1;
                }
                if row >= first {
                    answers[row - first] = call.statistic.of(&present[low..high], &mut scratch);
                }
            }
        }
        Float64Array::from(answers)
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Range {
    view: String,
    from: Minute,
    to: Minute,
}

#[derive(PartialEq, Eq, Hash)]
struct ColumnKey {
    range: Range,
    first: usize,
    argument: Expr,
    statistic: (u8, u64),
    minutes: i64,
}

#[derive(Default)]
struct Kept {
    rows: HashMap<Range, Arc<Loaded>>,
    columns: HashMap<ColumnKey, ArrayRef>,
    bytes: usize,
}

/// What has been read and computed for one minute's judgement.
#[derive(Default)]
pub struct Baselines {
    kept: Mutex<Kept>,
    shared: bool,
}

impl std::fmt::Debug for Baselines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Baselines").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Baselines {
    /// Keeps what is read and computed, for readings of the very same tables: rules of one minute.
    pub fn shared() -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), shared: true })
    }

    /// Keeps nothing: for questions that stream over long ranges.
    pub fn none() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// A panic while the lock was held leaves only a cache behind, which is right or absent.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sealed rows of a range.
    pub(crate) fn sealed(&self, table: &dyn MinuteTable, from: Minute, to: Minute) -> Result<Arc<Loaded>> {
        let range = || Range { view: table.meta().name.clone(), from, to };
        if self.shared
            && let Some(loaded) = self.lock().rows.get(&range())
        {
            return Ok(Arc::clone(loaded));
        }
        let loaded = Arc::new(Loaded::new(table.sealed_rows(from, to).map_err(unread)?)?);
        if self.shared {
            let mut kept = self.lock();
            if kept.bytes + loaded.bytes() <= limits::BASELINE_BYTES_MAX {
                kept.bytes += loaded.bytes();
                kept.rows.insert(range(), Arc::clone(&loaded));
            }
        }
        Ok(loaded)
    }

    /// A statistic over rows that came from [`Self::sealed`] with the same bounds.
    pub(crate) fn column(
        &self,
        view: &str,
        (from, to): (Minute, Minute),
        loaded: &Loaded,
        call: &Trailing,
        first: usize,
    ) -> Result<ArrayRef> {
        if !self.shared {
            return loaded.trailing(call, first);
        }
        let key = ColumnKey {
            range: Range { view: view.to_owned(), from, to },
            first,
            argument: call.logical.clone(),
            statistic: call.statistic.key(),
            minutes: call.minutes,
        };
        if let Some(column) = self.lock().columns.get(&key) {
            return Ok(Arc::clone(column));
        }
        let column = loaded.trailing(call, first)?;
        let mut kept = self.lock();
        let bytes = column.get_array_memory_size();
        if kept.bytes + bytes <= limits::BASELINE_BYTES_MAX {
            kept.bytes += bytes;
            kept.columns.insert(key, Arc::clone(&column));
        }
        Ok(column)
    }
}
