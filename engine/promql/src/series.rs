//! Which series a view's measures are, and their samples.
//!
//! A measure `transactions` of a view `payments` is the gauge `payments_transactions`: each minute's value,
//! stamped at the minute's end. A measure that cannot be negative is a counter as well,
//! `payments_transactions_total`: the running sum from the oldest minute held, which is 0 one minute before it.
//! Only sealed minutes are seen. Text keys are labels; a NULL key is an absent label.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array},
    compute,
    datatypes::{DataType, Float64Type, TimestampMicrosecondType},
    util::display::{ArrayFormatter, FormatOptions},
};
use tidewatch_model::Minute;
use tidewatch_store::{Measure, Rows, Snapshot, StoreError, ViewSnapshot};

/// Labels in order of name, `__name__` among them.
pub type Labels = Vec<(String, String)>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub ms: i64,
    pub value: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: Labels,
    pub samples: Vec<Sample>,
}

/// Why a selection is not answered.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error("more than {samples_max} samples; ask for fewer series or less time")]
    TooManySamples { samples_max: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a measure is exposed as.
#[derive(Clone, Copy)]
enum Form {
    Gauge,
    Counter,
}

/// Minutes that are read at once, so that a long range never lies in memory as a whole.
const PIECE_MINUTES: i64 = 6 * 60;

/// Series whose labels `wanted` accepts, with samples of `from_ms ..= to_ms`, in order of labels. Measures whose name
/// `wanted_name` does not accept are not read at all.
pub fn select(
    snapshot: &Snapshot,
    wanted_name: impl Fn(&str) -> bool,
    wanted: impl Fn(&Labels) -> bool,
    from_ms: i64,
    to_ms: i64,
    samples_max: usize,
) -> Result<Vec<Series>, SelectError> {
    let mut series = Vec::new();
    let mut room = samples_max;
    for view in snapshot.views().iter().filter(|view| view.meta().exposed) {
        for (at, measure) in view.meta().measures.iter().enumerate() {
            for form in forms(measure) {
                let choice = Choice { view, name: name_of(view, measure, form), wanted: &wanted };
                if !wanted_name(&choice.name) {
                    continue;
                }
                let chosen = samples(&choice, at, form, (from_ms, to_ms), room)?;
                for (labels, samples) in chosen {
                    room = room.checked_sub(samples.len()).ok_or(SelectError::TooManySamples { samples_max })?;
                    series.push(Series { labels, samples });
                }
            }
        }
    }
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(series)
}

fn forms(measure: &Measure) -> impl Iterator<Item = Form> {
    let numeric = matches!(measure.field.data_type(), DataType::Int64 | DataType::UInt64 | DataType::Float64);
    let gauge = numeric.then_some(Form::Gauge);
    let counter = (numeric && measure.counter).then_some(Form::Counter);
    gauge.into_iter().chain(counter)
}

fn name_of(view: &ViewSnapshot, measure: &Measure, form: Form) -> String {
    let name = format!("{}_{}", view.meta().name, measure.field.name());
    match form {
        Form::Gauge => name,
        Form::Counter => format!("{name}_total"),
    }
}

/// Which series of one measure are wanted.
struct Choice<'a, W> {
    view: &'a ViewSnapshot,
    name: String,
    wanted: &'a W,
}

impl<W: Fn(&Labels) -> bool> Choice<'_, W> {
    /// The labels of a series, if it is wanted. Keys of older minutes are known once these were read.
    fn labels(&self, keys: &[ArrayRef], number: u32) -> Option<Labels> {
        let options = FormatOptions::new();
        let mut labels: Labels = vec![("__name__".to_owned(), self.name.clone())];
        for (field, column) in self.view.meta().keys.iter().zip(keys) {
            let row = number as usize;
            if row >= column.len() || column.is_null(row) {
                continue;
            }
            let value = match column.as_string_opt::<i32>() {
                Some(text) => text.value(row).to_owned(),
                None => match ArrayFormatter::try_new(column, &options) {
                    Ok(formatter) => formatter.value(row).to_string(),
                    Err(_) => continue,
                },
            };
            // To Prometheus an empty label is an absent one.
            if !value.is_empty() {
                labels.push((field.name().clone(), value));
            }
        }
        labels.sort();
        (self.wanted)(&labels).then_some(labels)
    }
}

/// The minutes whose end lies in `from_ms ..= to_ms`.
fn minutes_between(from_ms: i64, to_ms: i64) -> (Minute, Minute) {
    const MS: i64 = 60_000;
    let first_end = from_ms.div_euclid(MS) + i64::from(from_ms.rem_euclid(MS) > 0);
    let last_end = to_ms.div_euclid(MS);
    (Minute::from_index(first_end.saturating_sub(1)), Minute::from_index(last_end.saturating_sub(1)))
}

/// A series while its samples are read.
#[derive(Default)]
struct Growing {
    samples: Vec<Sample>,
    total: Option<f64>,
}

fn samples<W: Fn(&Labels) -> bool>(
    choice: &Choice<'_, W>,
    measure: usize,
    form: Form,
    (from_ms, to_ms): (i64, i64),
    samples_max: usize,
) -> Result<Vec<(Labels, Vec<Sample>)>, SelectError> {
    let view = choice.view;
    let (from, to) = minutes_between(from_ms, to_ms);
    let (Some(oldest), Some(newest)) = (view.oldest_sealed(), view.sealed_through()) else { return Ok(Vec::new()) };
    let (mut next, last) = match form {
        Form::Gauge => (from.max(oldest), to.min(newest)),
        // A running sum starts where the data does, and its zero belongs to the minute after it.
        Form::Counter => (oldest, to.plus(1).min(newest)),
    };
    let mut series: BTreeMap<u32, Option<(Labels, Growing)>> = BTreeMap::new();
    let mut count = 0;
    while next <= last {
        let piece_end = last.min(next.plus(PIECE_MINUTES - 1));
        let rows = view.sealed_rows(next, piece_end)?;
        next = piece_end.next();
        let Some(values) = values(&rows, view.meta().keys.len() + 1 + measure) else { return Ok(Vec::new()) };
        let minutes = rows.batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let keys = view.keys();
        for (row, number) in rows.series.iter().enumerate() {
            if values.is_null(row) {
                continue;
            }
            let chosen = series.entry(*number);
            let chosen =
                chosen.or_insert_with(|| choice.labels(&keys, *number).map(|labels| (labels, Growing::default())));
            let Some((_, growing)) = chosen else { continue };
            let start_ms = minutes.value(row).div_euclid(1_000);
            count += growing.take(form, start_ms, values.value(row), from_ms..=to_ms);
            if count > samples_max {
                return Err(SelectError::TooManySamples { samples_max });
            }
        }
    }
    let grown = series.into_values().flatten().map(|(labels, growing)| (labels, growing.samples));
    Ok(grown.filter(|(_, samples)| !samples.is_empty()).collect())
}

impl Growing {
    /// Takes the value of the minute that starts at `start_ms`. Returns how many samples that gave.
    fn take(&mut self, form: Form, start_ms: i64, value: f64, range: std::ops::RangeInclusive<i64>) -> usize {
        let before = self.samples.len();
        let end_ms = start_ms + 60_000;
        let value = match form {
            Form::Gauge => value,
            Form::Counter => {
                if self.total.is_none() && range.contains(&start_ms) {
                    self.samples.push(Sample { ms: start_ms, value: 0.0 });
                }
                *self.total.insert(self.total.unwrap_or(0.0) + value)
            }
        };
        if range.contains(&end_ms) {
            self.samples.push(Sample { ms: end_ms, value });
        }
        self.samples.len() - before
    }
}

fn values(rows: &Rows, column: usize) -> Option<Float64Array> {
    let values = compute::cast(rows.batch.columns().get(column)?, &DataType::Float64).ok()?;
    values.as_primitive_opt::<Float64Type>().cloned()
}
