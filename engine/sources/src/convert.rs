//! From a file's columns to the stream's, whole columns at a time. Rows with a value that does not fit
//! are taken out and reported; the others go on.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
        new_empty_array, new_null_array,
    },
    compute::filter,
    datatypes::{DataType, Int64Type},
};
use tidewatch_model::{Column, ColumnType, StreamSchema};

use crate::{
    BrokenRow, SourceBatch, SourceError,
    attributes::{self, Parts},
    cells::{self, Faults, Unsupported},
    mapping::{Fill, Origin, Plan},
    raw::RawBatch,
    time::TimeReader,
};

pub(crate) struct Converter {
    schema: Arc<StreamSchema>,
    plan: Plan,
    times: TimeReader,
    /// For each column that is the same in every row: its value, repeated as often as was needed.
    constants: Vec<Option<ArrayRef>>,
}

impl Converter {
    /// Refuses constants that their columns cannot hold.
    pub fn new(schema: Arc<StreamSchema>, plan: Plan, times: TimeReader) -> Result<Self, SourceError> {
        let constants = vec![None; plan.fills.len()];
        let mut converter = Self { schema, plan, times, constants };
        let mut faults = Faults::default();
        for at in 0..converter.plan.fills.len() {
            if let Some(Fill::From(Origin::Constant(_))) = converter.plan.fills.get(at) {
                converter.column(at, &RawBatch::default(), 1, &mut faults).map_err(|error| refused(&error))?;
            }
        }
        match faults.get(0) {
            Some(reason) => Err(SourceError::refused(format!("--set: {reason}"))),
            None => Ok(converter),
        }
    }

    /// Refuses columns whose types have no meaning for what they are to fill, before any row is read.
    pub fn check_types(&mut self, types: &[DataType]) -> Result<(), SourceError> {
        let columns = types.iter().map(new_empty_array).collect();
        self.convert(RawBatch { columns, ..RawBatch::default() }, Path::new("")).map(|_| ())
    }

    pub fn convert(&mut self, raw: RawBatch, path: &Path) -> Result<SourceBatch, SourceError> {
        let rows = raw.rows.len();
        let mut faults = Faults::default();
        let mut columns = Vec::with_capacity(self.plan.fills.len());
        for at in 0..self.plan.fills.len() {
            columns.push(self.column(at, &raw, rows, &mut faults).map_err(|error| refused(&error))?);
        }
        for at in 0..self.plan.fills.len() {
            if let Some(Fill::Amount { from, currency }) = self.plan.fills.get(at) {
                let amounts =
                    self.amount(from, *currency, &columns, &raw, rows, &mut faults).map_err(|error| refused(&error))?;
                if let Some(column) = columns.get_mut(at) {
                    *column = amounts;
                }
            }
        }
        for (column, values) in self.schema.columns().iter().zip(&columns) {
            refuse_absent(column, values, &mut faults);
        }
        self.keep_whole_rows(raw, columns, &faults, path)
    }

    /// The event times alone: what the first pass over a file looks at. Absent and broken ones are null.
    pub fn event_times(&mut self, raw: &RawBatch) -> Result<TimestampMicrosecondArray, SourceError> {
        let mut faults = Faults::default();
        let at = self.schema.event_time();
        let times = self.column(at, raw, raw.rows.len(), &mut faults).map_err(|error| refused(&error))?;
        Ok(times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().clone())
    }

    fn column(&mut self, at: usize, raw: &RawBatch, rows: usize, faults: &mut Faults) -> Result<ArrayRef, Unsupported> {
        let schema = Arc::clone(&self.schema);
        let (Some(column), Some(fill)) = (schema.columns().get(at), self.plan.fills.get(at)) else {
            return Err(Unsupported(format!("the stream has no column number {at}")));
        };
        match fill {
            Fill::Absent | Fill::Amount { .. } => Ok(absent(column, rows)),
            Fill::From(Origin::Slot(slot)) => {
                let name = self.plan.wanted.get(*slot).map_or("?", String::as_str);
                typed(column, name, slot_array(raw, *slot)?, self.times, faults)
            }
            Fill::From(Origin::Constant(text)) => {
                if let Some(known) = self.constants.get(at).and_then(Option::as_ref).filter(|known| known.len() >= rows)
                {
                    return Ok(known.slice(0, rows));
                }
                let repeated = typed(column, &column.name, &repeated(text, rows), self.times, faults)?;
                if let Some(constant) = self.constants.get_mut(at) {
                    *constant = Some(Arc::clone(&repeated));
                }
                Ok(repeated)
            }
            Fill::Attributes { map, columns, rest } => {
                let parts = Parts {
                    map: match map {
                        Some(origin) => Some(origin_array(origin, raw, rows)?),
                        None => None,
                    },
                    columns: columns
                        .iter()
                        .map(|(name, slot)| Ok((name.clone(), Arc::clone(slot_array(raw, *slot)?))))
                        .collect::<Result<_, Unsupported>>()?,
                    rest: raw.rest.clone().filter(|_| *rest),
                };
                attributes::build(&column.name, &parts, rows, faults)
            }
        }
    }

    fn amount(
        &self,
        from: &Origin,
        currency: usize,
        columns: &[ArrayRef],
        raw: &RawBatch,
        rows: usize,
        faults: &mut Faults,
    ) -> Result<ArrayRef, Unsupported> {
        let name = match from {
            Origin::Slot(slot) => self.plan.wanted.get(*slot).map_or("amount", String::as_str),
            Origin::Constant(_) => "amount",
        };
        let amounts = origin_array(from, raw, rows)?;
        let currencies = columns.get(currency).and_then(|column| column.as_string_opt::<i32>());
        let currencies = currencies.ok_or_else(|| Unsupported("the currency of an amount must be text".to_owned()))?;
        Ok(Arc::new(cells::amounts(name, &amounts, currencies, faults)?))
    }

    fn keep_whole_rows(
        &self,
        raw: RawBatch,
        mut columns: Vec<ArrayRef>,
        faults: &Faults,
        path: &Path,
    ) -> Result<SourceBatch, SourceError> {
        let RawBatch { mut rows, mut lines, mut broken, .. } = raw;
        let damaged = |error: arrow::error::ArrowError| SourceError::damaged(path, "columns", error);
        if !faults.is_empty() {
            for (at, reason) in faults.iter() {
                if let (Some(row), Some(line)) = (rows.get(at), lines.get(at)) {
                    broken.push(BrokenRow { row: *row, line: *line, reason: reason.to_owned() });
                }
            }
            broken.sort_by_key(|broken| broken.row);
            let keep: BooleanArray = (0..rows.len()).map(|row| Some(faults.get(row).is_none())).collect();
            for column in &mut columns {
                *column = filter(column, &keep).map_err(damaged)?;
            }
            let whole = |numbers: &mut Vec<u64>| {
                let mut at = 0..numbers.len();
                numbers.retain(|_| at.next().is_some_and(|at| faults.get(at).is_none()));
            };
            whole(&mut rows);
            whole(&mut lines);
        }
        let events = RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns).map_err(damaged)?;
        assert_eq!(events.num_rows(), rows.len(), "every event has the number of its row");
        assert_eq!(rows.len(), lines.len(), "every row has a line");
        Ok(SourceBatch { events, rows, lines, broken })
    }
}

fn refused(error: &Unsupported) -> SourceError {
    SourceError::refused(error.0.clone())
}

fn slot_array(raw: &RawBatch, slot: usize) -> Result<&ArrayRef, Unsupported> {
    raw.columns.get(slot).ok_or_else(|| Unsupported(format!("the file gave no column for slot {slot}")))
}

fn origin_array(origin: &Origin, raw: &RawBatch, rows: usize) -> Result<ArrayRef, Unsupported> {
    match origin {
        Origin::Slot(slot) => slot_array(raw, *slot).cloned(),
        Origin::Constant(text) => Ok(repeated(text, rows)),
    }
}

fn repeated(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
}

/// A column that nothing fills: its default, or nulls.
fn absent(column: &Column, rows: usize) -> ArrayRef {
    match (column.kind, column.default) {
        (ColumnType::BigInt, Some(default)) => Arc::new(Int64Array::from_value(default, rows)),
        _ => new_null_array(&column.kind.arrow(), rows),
    }
}

fn typed(
    column: &Column,
    name: &str,
    array: &ArrayRef,
    times: TimeReader,
    faults: &mut Faults,
) -> Result<ArrayRef, Unsupported> {
    Ok(match column.kind {
        ColumnType::Text => Arc::new(cells::text(name, array, faults)?),
        ColumnType::Timestamp => Arc::new(cells::times(name, array, times, faults)?),
        ColumnType::BigInt => {
            let values = cells::big_int(name, array, faults)?;
            match column.default {
                Some(default) if values.null_count() > 0 => Arc::new(
                    values
                        .iter()
                        .map(|value| value.unwrap_or(default))
                        .collect::<arrow::array::PrimitiveArray<Int64Type>>(),
                ),
                _ => Arc::new(values),
            }
        }
        ColumnType::Double => Arc::new(cells::double(name, array, faults)?),
        ColumnType::Boolean => Arc::new(cells::boolean(name, array, faults)?),
        ColumnType::Map => {
            let parts = Parts { map: Some(Arc::clone(array)), columns: Vec::new(), rest: None };
            attributes::build(name, &parts, array.len(), faults)?
        }
    })
}

fn refuse_absent(column: &Column, values: &ArrayRef, faults: &mut Faults) {
    if column.required && values.null_count() > 0 {
        for row in (0..values.len()).filter(|row| values.is_null(*row)) {
            faults.add(row, || format!("`{}` is missing", column.name));
        }
    }
}
