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
    datatypes::{DataType, Float64Type},
    util::display::{ArrayFormatter, FormatOptions},
};
use tidewatch_model::Minute;
use tidewatch_store::{Measure, Rows, Snapshot, ViewSnapshot};

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

/// The selection holds more samples than may be answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySamples {
    pub samples_max: usize,
}

/// What a measure is exposed as.
#[derive(Clone, Copy)]
enum Form {
    Gauge,
    Counter,
}

/// Series whose labels `wanted` accepts, with samples of `from_ms ..= to_ms`, in order of labels.
pub fn select(
    snapshot: &Snapshot,
    wanted: impl Fn(&Labels) -> bool,
    from_ms: i64,
    to_ms: i64,
    samples_max: usize,
) -> Result<Vec<Series>, TooManySamples> {
    let mut series = Vec::new();
    let mut room = samples_max;
    for view in snapshot.views().iter().filter(|view| view.meta().exposed) {
        for (at, measure) in view.meta().measures.iter().enumerate() {
            for form in forms(measure) {
                let name = name_of(view, measure, form);
                let chosen = chosen_series(view, &name, &wanted);
                if !chosen.is_empty() {
                    let samples = samples(view, at, form, &chosen, from_ms, to_ms);
                    for (number, labels) in chosen {
                        let Some(samples) = samples.get(&number).filter(|samples| !samples.is_empty()) else {
                            continue;
                        };
                        room = room.checked_sub(samples.len()).ok_or(TooManySamples { samples_max })?;
                        series.push(Series { labels, samples: samples.clone() });
                    }
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

fn chosen_series(view: &ViewSnapshot, name: &str, wanted: impl Fn(&Labels) -> bool) -> BTreeMap<u32, Labels> {
    let options = FormatOptions::new();
    let columns: Vec<(&str, &ArrayRef, Option<ArrayFormatter<'_>>)> = view
        .meta()
        .keys
        .iter()
        .zip(view.keys())
        .map(|(field, column)| (field.name().as_str(), column, ArrayFormatter::try_new(column, &options).ok()))
        .collect();
    let mut chosen = BTreeMap::new();
    for number in 0..view.series() {
        let mut labels: Labels = vec![("__name__".to_owned(), name.to_owned())];
        for (key, column, formatter) in &columns {
            if column.is_null(number) {
                continue;
            }
            let value = match (column.as_string_opt::<i32>(), formatter) {
                (Some(text), _) => text.value(number).to_owned(),
                (None, Some(formatter)) => formatter.value(number).to_string(),
                (None, None) => continue,
            };
            // To Prometheus an empty label is an absent one.
            if !value.is_empty() {
                labels.push(((*key).to_owned(), value));
            }
        }
        labels.sort();
        if wanted(&labels) {
            chosen.insert(number as u32, labels);
        }
    }
    chosen
}

/// The minutes whose end lies in `from_ms ..= to_ms`.
fn minutes_between(from_ms: i64, to_ms: i64) -> (Minute, Minute) {
    const MS: i64 = 60_000;
    let first_end = from_ms.div_euclid(MS) + i64::from(from_ms.rem_euclid(MS) > 0);
    let last_end = to_ms.div_euclid(MS);
    (Minute::from_index(first_end.saturating_sub(1)), Minute::from_index(last_end.saturating_sub(1)))
}

fn samples(
    view: &ViewSnapshot,
    measure: usize,
    form: Form,
    chosen: &BTreeMap<u32, Labels>,
    from_ms: i64,
    to_ms: i64,
) -> BTreeMap<u32, Vec<Sample>> {
    let (from, to) = minutes_between(from_ms, to_ms);
    let (read_from, read_to) = match form {
        Form::Gauge => (from, to),
        // A running sum starts where the data does, and its zero belongs to the minute after it.
        Form::Counter => (view.oldest_sealed().unwrap_or(from), to.plus(1)),
    };
    let rows = view.sealed_rows(read_from, read_to);
    let Some(values) = values(&rows, view.meta().keys.len() + 1 + measure) else { return BTreeMap::new() };
    let minutes = rows.batch.column(0);
    let minutes = minutes.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    let mut series: BTreeMap<u32, (Vec<Sample>, Option<f64>)> = BTreeMap::new();
    for row in 0..rows.batch.num_rows() {
        let number = rows.series.get(row).copied().unwrap_or(u32::MAX);
        if !chosen.contains_key(&number) || values.is_null(row) {
            continue;
        }
        let start_ms = minutes.value(row).div_euclid(1_000);
        let end_ms = start_ms + 60_000;
        let (samples, total) = series.entry(number).or_default();
        let value = match form {
            Form::Gauge => values.value(row),
            Form::Counter => {
                if total.is_none() && (from_ms..=to_ms).contains(&start_ms) {
                    samples.push(Sample { ms: start_ms, value: 0.0 });
                }
                *total.insert(total.unwrap_or(0.0) + values.value(row))
            }
        };
        if (from_ms..=to_ms).contains(&end_ms) {
            samples.push(Sample { ms: end_ms, value });
        }
    }
    series.into_iter().map(|(number, (samples, _))| (number, samples)).collect()
}

fn values(rows: &Rows, column: usize) -> Option<Float64Array> {
    let values = compute::cast(rows.batch.columns().get(column)?, &DataType::Float64).ok()?;
    values.as_primitive_opt::<Float64Type>().cloned()
}
