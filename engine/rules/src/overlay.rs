//! A view with one more sealed minute than there is: the newest sealed minute again, with some rows
//! replaced. Where the view has more keys than the premise, its history is first added up to those keys.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, Float64Array, StringArray, TimestampMicrosecondArray, new_null_array},
    compute::{cast, concat, concat_batches, take},
    datatypes::{DataType, Field},
    error::ArrowError,
    record_batch::RecordBatch,
};
use tidewatch_model::{Minute, ViewMeta};
use tidewatch_query::{MinuteTable, Rows, StoreError};

type Supposed<'a> = (&'a BTreeMap<String, String>, &'a BTreeMap<String, f64>);

pub(crate) struct Overlay {
    base: Arc<dyn MinuteTable>,
    minute: Minute,
    added: Rows,
    /// The keys that the history is added up to; none where it stays as it is.
    kept_keys: Option<Vec<String>>,
    /// Series numbers by the kept keys' values, where the history is added up.
    series: HashMap<Vec<Option<String>>, u32>,
}

impl Overlay {
    pub fn new(base: Arc<dyn MinuteTable>, minute: Minute, supposed: Option<Supposed<'_>>) -> Result<Self, ArrowError> {
        let meta = Arc::clone(base.meta());
        let newest = base.sealed_through().unwrap_or(minute.plus(-1));
        let last = base.sealed_rows(newest, newest).map_err(unread)?;
        let Some((keys, values)) = supposed else {
            let added = Rows { batch: restamped(&last.batch, minute)?, series: last.series };
            return Ok(Self { base, minute, added, kept_keys: None, series: HashMap::new() });
        };
        let mut overlay = Self { base, minute, added: last.clone(), kept_keys: None, series: HashMap::new() };
        if keys.len() < meta.keys.len() {
            overlay.kept_keys = Some(keys.keys().cloned().collect());
            overlay.number_series()?;
        }
        let last = overlay.added_up(last)?;
        overlay.added = replaced(&meta, &last, keys, values, minute, overlay.next_series()?)?;
        Ok(overlay)
    }

    /// A number no series of the view has in what was read here.
    fn next_series(&self) -> Result<u32, ArrowError> {
        if self.kept_keys.is_some() {
            return Ok(self.series.len() as u32);
        }
        let history = self.history()?;
        Ok(history.and_then(|rows| rows.series.iter().max().copied()).map_or(0, |most| most + 1))
    }

    /// As far back as rules may look.
    fn history(&self) -> Result<Option<Rows>, ArrowError> {
        let (Some(oldest), Some(newest)) = (self.base.oldest(), self.base.sealed_through()) else { return Ok(None) };
        self.base.sealed_rows(oldest.max(newest.plus(-HISTORY_MINUTES)), newest).map(Some).map_err(unread)
    }

    fn number_series(&mut self) -> Result<(), ArrowError> {
        let Some(rows) = self.history()? else { return Ok(()) };
        for key in kept_values(self.base.meta(), &rows.batch, self.kept_keys.as_deref().unwrap_or_default())? {
            let next = self.series.len() as u32;
            self.series.entry(key).or_insert(next);
        }
        Ok(())
    }

    /// Rows with the same minute and kept keys become one: what adds up is added, the rest is unknown.
    fn added_up(&self, rows: Rows) -> Result<Rows, ArrowError> {
        let Some(kept) = &self.kept_keys else { return Ok(rows) };
        let meta = self.base.meta();
        let minutes: Vec<i64> = minute_values(&rows.batch)?;
        let keys = kept_values(meta, &rows.batch, kept)?;
        let mut groups: BTreeMap<(i64, u32), Vec<u32>> = BTreeMap::new();
        for (at, (minute, key)) in minutes.iter().zip(keys).enumerate() {
            // Keys older than the numbered history share one number; no window reaches back that far.
            let number = self.series.get(&key).copied().unwrap_or(u32::MAX >> 12);
            groups.entry((*minute, number)).or_default().push(at as u32);
        }
        let first: arrow::array::UInt32Array = groups.values().filter_map(|rows| rows.first().copied()).collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (at, field) in meta.schema().fields().iter().enumerate() {
            let column = rows.batch.column(at);
            let measure = meta.measures.iter().find(|measure| measure.field.name() == field.name());
            let is_key = meta.keys.iter().any(|key| key.name() == field.name());
            columns.push(match measure {
                Some(measure) if measure.counter || measure.fills_with_zero => sums(column, groups.values())?,
                Some(_) => nothing(field, first.len())?,
                None if is_key && !kept.contains(field.name()) => nothing(field, first.len())?,
                None => take(column, &first, None)?,
            });
        }
        let series = groups.keys().map(|(_, number)| *number).collect();
        Ok(Rows { batch: RecordBatch::try_new(Arc::clone(meta.schema()), columns)?, series })
    }
}

/// How far back a supposed minute's rules may look: the longest lookback.
const HISTORY_MINUTES: i64 = 7 * 24 * 60;

impl MinuteTable for Overlay {
    fn meta(&self) -> &Arc<ViewMeta> {
        self.base.meta()
    }

    fn sealed_through(&self) -> Option<Minute> {
        Some(self.minute)
    }

    fn oldest_sealed(&self) -> Option<Minute> {
        self.base.oldest_sealed()
    }

    fn oldest(&self) -> Option<Minute> {
        self.base.oldest()
    }

    fn sealed_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        let last = to.min(self.minute.plus(-1));
        let before = if from <= last { self.base.sealed_rows(from, last)? } else { self.none() };
        let columns_error = |source| StoreError::Columns { view: self.base.meta().name.clone(), source };
        let before = self.added_up(before).map_err(columns_error)?;
        if !(from <= self.minute && self.minute <= to) {
            return Ok(before);
        }
        let schema = before.batch.schema();
        let batch = concat_batches(&schema, [&before.batch, &self.added.batch]).map_err(columns_error)?;
        Ok(Rows { batch, series: [before.series, self.added.series.clone()].concat() })
    }

    fn open_rows(&self, _from: Minute, _to: Minute) -> Result<Rows, StoreError> {
        Ok(self.none())
    }
}

impl Overlay {
    fn none(&self) -> Rows {
        Rows { batch: RecordBatch::new_empty(Arc::clone(self.base.meta().schema())), series: Vec::new() }
    }
}

fn unread(error: StoreError) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

/// What is not known: NULL, or where the column does not allow that, the empty text or zero.
fn nothing(field: &Field, rows: usize) -> Result<ArrayRef, ArrowError> {
    match field.data_type() {
        kind if field.is_nullable() => Ok(new_null_array(kind, rows)),
        DataType::Utf8 => Ok(Arc::new(StringArray::from(vec![""; rows]))),
        kind => cast(&Float64Array::from(vec![0.0; rows]), kind),
    }
}

/// The same rows, in another minute.
fn restamped(batch: &RecordBatch, minute: Minute) -> Result<RecordBatch, ArrowError> {
    let mut columns = batch.columns().to_vec();
    let stamps = TimestampMicrosecondArray::from_value(minute.start().micros(), batch.num_rows()).with_timezone("UTC");
    columns[0] = Arc::new(stamps);
    RecordBatch::try_new(batch.schema(), columns)
}

/// The newest rows in the supposed minute, with the matching ones replaced; one is added where none matches.
fn replaced(
    meta: &ViewMeta,
    last: &Rows,
    keys: &BTreeMap<String, String>,
    values: &BTreeMap<String, f64>,
    minute: Minute,
    new_series: u32,
) -> Result<Rows, ArrowError> {
    let names: Vec<String> = keys.keys().cloned().collect();
    let wanted: Vec<Option<String>> = keys.values().cloned().map(Some).collect();
    let matches: Vec<bool> = kept_values(meta, &last.batch, &names)?.into_iter().map(|key| key == wanted).collect();
    let mut batch = restamped(&last.batch, minute)?;
    let mut series = last.series.clone();
    let mut matching = matches;
    if !matching.contains(&true) {
        batch = concat_batches(&batch.schema(), [&batch, &new_row(meta, keys, minute)?])?;
        series.push(new_series);
        matching.push(true);
    }
    let mut columns = batch.columns().to_vec();
    for (at, field) in meta.schema().fields().iter().enumerate() {
        let Some(value) = values.get(field.name()) else { continue };
        let value = cast(&Float64Array::from(vec![*value]), field.data_type())?;
        let both = concat(&[columns[at].as_ref(), value.as_ref()])?;
        let last = both.len() as u32 - 1;
        let choice: arrow::array::UInt32Array =
            matching.iter().enumerate().map(|(row, hit)| if *hit { last } else { row as u32 }).collect();
        columns[at] = take(&both, &choice, None)?;
    }
    Ok(Rows { batch: RecordBatch::try_new(batch.schema(), columns)?, series })
}

fn new_row(meta: &ViewMeta, keys: &BTreeMap<String, String>, minute: Minute) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (at, field) in meta.schema().fields().iter().enumerate() {
        let measure = meta.measures.iter().find(|measure| measure.field.name() == field.name());
        columns.push(match (at, keys.get(field.name()), measure) {
            (0, _, _) => Arc::new(TimestampMicrosecondArray::from(vec![minute.start().micros()]).with_timezone("UTC")),
            (_, Some(key), None) => cast(&StringArray::from(vec![key.as_str()]), field.data_type())?,
            (_, _, Some(measure)) if measure.fills_with_zero => {
                cast(&Float64Array::from(vec![0.0]), field.data_type())?
            }
            (_, None, None) if field.name() == "sealed" => Arc::new(BooleanArray::from(vec![true])),
            _ => nothing(field, 1)?,
        });
    }
    RecordBatch::try_new(Arc::clone(meta.schema()), columns)
}

fn minute_values(batch: &RecordBatch) -> Result<Vec<i64>, ArrowError> {
    let micros = cast(batch.column(0), &DataType::Int64)?;
    Ok(arrow::array::Int64Array::from(micros.to_data()).values().to_vec())
}

/// Each row's values of the named keys, as text.
fn kept_values(meta: &ViewMeta, batch: &RecordBatch, names: &[String]) -> Result<Vec<Vec<Option<String>>>, ArrowError> {
    let mut rows = vec![Vec::with_capacity(names.len()); batch.num_rows()];
    for name in names {
        let Some((at, _)) = meta.schema().column_with_name(name) else { continue };
        let texts = StringArray::from(cast(batch.column(at), &DataType::Utf8)?.to_data());
        for (row, text) in rows.iter_mut().zip(texts.iter()) {
            row.push(text.map(str::to_owned));
        }
    }
    Ok(rows)
}

fn sums<'a>(column: &ArrayRef, groups: impl Iterator<Item = &'a Vec<u32>>) -> Result<ArrayRef, ArrowError> {
    let numbers = Float64Array::from(cast(column, &DataType::Float64)?.to_data());
    let totals: Float64Array = groups
        .map(|rows| {
            let present = rows.iter().map(|row| *row as usize).filter(|row| numbers.is_valid(*row));
            present.map(|row| numbers.value(row)).reduce(|sum, value| sum + value)
        })
        .collect();
    cast(&totals, column.data_type())
}
