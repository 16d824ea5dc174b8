//! Frames: partial rows as Arrow columns, the form in which partial state is written. They are drawn in FORMAT.md.
//! Nothing here opens a file; what is read is taken for damaged until every value was looked at.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType},
    error::ArrowError,
};
use tidewatch_model::{EventTime, Minute, hash64};

use crate::{
    partial::{KeyBytes, PartialRows},
    states::{Damage, States, Unwritable},
    view::{KeyCodec, View},
};

/// The version of the layout of frames.
pub const FRAME_FORMAT: u32 = 1;

/// Where a frame's schema says its version.
pub const FRAME_FORMAT_KEY: &str = "tidewatch.frame";

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(
        "view `{view}`: a frame is of format {found} and this version reads format {known}: upgrade tidewatch to the \
         version that wrote it",
        known = FRAME_FORMAT
    )]
    Format { view: String, found: String },
    #[error("view `{view}`: a frame has not the view's columns, so it is another view's or damaged: {reason}")]
    Columns { view: String, reason: String },
    #[error("view `{view}`: a frame is damaged in column `{column}`, row {row}: {reason}")]
    Value { view: String, column: String, row: usize, reason: String },
    #[error("view `{view}`: minute {minute} has a key in two frames: one of them belongs to another state")]
    Repeated { view: String, minute: Minute },
    #[error(
        "view `{view}`: column `{column}` of {size} bytes or items is too large for a frame: write fewer minutes at once"
    )]
    TooLarge { view: String, column: String, size: usize },
    #[error("view `{view}`: a frame could not be put together: {source}")]
    Arrow { view: String, source: ArrowError },
}

/// A minute's rows, and the places in the frame that they came from, in the order of the rows.
type Placed = (PartialRows, Vec<u32>);

impl View {
    /// `minute`, the keys by their names in the view, and the state of each aggregate: in this order.
    pub fn frame_schema(&self) -> SchemaRef {
        self.schema_with(None)
    }

    /// The schema with one column more, which says of each key whether it is the events' own and not `__other__`.
    fn schema_with(&self, own: Option<&str>) -> SchemaRef {
        // A key may have one of our names; keys come first, so it is our column that gets another.
        let free = |mut name: String| {
            while self.meta.keys.iter().any(|key| *key.name() == name) {
                name.push('_');
            }
            name
        };
        let minute = Field::new("minute", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false);
        let mut fields: Vec<FieldRef> = vec![Arc::new(minute)];
        fields.extend(self.meta.keys.iter().cloned());
        fields.extend(self.aggregates.iter().enumerate().map(|(at, aggregate)| {
            let kind = &aggregate.kind;
            Arc::new(Field::new(free(format!("state_{at}")), kind.column_type(), kind.is_nullable()))
        }));
        fields.extend(own.map(|own| Arc::new(Field::new(free(own.to_owned()), DataType::Boolean, false))));
        let metadata = HashMap::from([(FRAME_FORMAT_KEY.to_owned(), FRAME_FORMAT.to_string())]);
        Arc::new(Schema::new_with_metadata(fields, metadata))
    }

    /// A number that changes when the meaning of stored state does: with the SELECT and the window, not with the options.
    pub fn fingerprint(&self) -> u64 {
        hash64(format!("{}{}", self.sql, self.meta.window.suffix()).as_bytes())
    }

    /// Partial rows as one frame, in the order in which they are given. A minute without rows leaves no trace.
    pub fn to_frame(&self, codec: &KeyCodec, rows: &[PartialRows]) -> Result<RecordBatch, FrameError> {
        let columns = self.columns(codec, rows)?;
        RecordBatch::try_new(self.frame_schema(), columns).map_err(|source| self.arrow(source))
    }

    /// The partial rows of a frame, in order of minute. Its rows may stand in any order.
    pub fn from_frame(&self, codec: &KeyCodec, frame: &RecordBatch) -> Result<Vec<PartialRows>, FrameError> {
        self.check_schema(&self.frame_schema(), frame)?;
        Ok(self.read(codec, frame)?.into_iter().map(|(rows, _)| rows).collect())
    }

    /// The frame of open rows; `own` is in the order of the rows.
    pub(crate) fn open_frame(
        &self,
        codec: &KeyCodec,
        rows: &[PartialRows],
        own: Vec<bool>,
    ) -> Result<RecordBatch, FrameError> {
        let mut columns = self.columns(codec, rows)?;
        columns.push(Arc::new(BooleanArray::from(own)));
        RecordBatch::try_new(self.schema_with(Some(OWN)), columns).map_err(|source| self.arrow(source))
    }

    /// The rows of each open minute, and which of their keys are the events' own.
    pub(crate) fn read_open_frame(
        &self,
        codec: &KeyCodec,
        frame: &RecordBatch,
    ) -> Result<Vec<(PartialRows, Vec<bool>)>, FrameError> {
        self.check_schema(&self.schema_with(Some(OWN)), frame)?;
        let own = frame.columns().last().and_then(|column| column.as_boolean_opt());
        let own = own.ok_or_else(|| self.misfit("no column says which keys are the events' own"))?;
        if let Some(row) = (0..own.len()).find(|row| own.is_null(*row)) {
            return Err(self.damaged(frame, frame.num_columns() - 1, row, "a value is missing"));
        }
        let read = self.read(codec, frame)?.into_iter();
        // Places are rows of the frame, and so of each of its columns.
        Ok(read.map(|(rows, places)| (rows, places.iter().map(|at| own.value(*at as usize)).collect())).collect())
    }

    fn columns(&self, codec: &KeyCodec, rows: &[PartialRows]) -> Result<Vec<ArrayRef>, FrameError> {
        let mut minutes = Vec::with_capacity(rows.iter().map(PartialRows::len).sum());
        for part in rows {
            let start = part.minute().start();
            if start.minute() != part.minute() {
                return Err(self.misfit(&format!("{} is beyond all time", part.minute())));
            }
            minutes.extend(std::iter::repeat_n(start.micros(), part.len()));
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(TimestampMicrosecondArray::from(minutes).with_timezone("UTC"))];
        let keys: Vec<&KeyBytes> = rows.iter().flat_map(PartialRows::keys).collect();
        let size = keys.iter().map(|key| key.len()).sum();
        if size > i32::MAX as usize {
            return Err(FrameError::TooLarge { view: self.name(), column: "the keys".to_owned(), size });
        }
        let keys = codec.decode(&keys).map_err(|source| self.arrow(source))?;
        columns.extend(self.key_order.iter().filter_map(|at| keys.get(*at).cloned()));
        for (at, aggregate) in self.aggregates.iter().enumerate() {
            let parts: Option<Vec<&States>> = rows.iter().map(|part| part.states().get(at)).collect();
            let column = parts.ok_or(Unwritable::OtherKind).and_then(|parts| aggregate.kind.write(&parts));
            columns.push(column.map_err(|why| match why {
                Unwritable::OtherKind => self.misfit("the partial rows are another view's"),
                Unwritable::TooLarge { size } => {
                    FrameError::TooLarge { view: self.name(), column: format!("state_{at}"), size }
                }
            })?);
        }
        Ok(columns)
    }

    fn check_schema(&self, wanted: &Schema, frame: &RecordBatch) -> Result<(), FrameError> {
        let schema = frame.schema();
        match schema.metadata().get(FRAME_FORMAT_KEY) {
            Some(format) if *format == FRAME_FORMAT.to_string() => {}
            Some(format) => return Err(FrameError::Format { view: self.name(), found: format.clone() }),
            None => return Err(self.misfit(&format!("its schema does not say `{FRAME_FORMAT_KEY}`"))),
        }
        let (found, wanted) = (schema.fields(), wanted.fields());
        if found.len() != wanted.len() {
            return Err(self.misfit(&format!("{} columns, and not {}", found.len(), wanted.len())));
        }
        for (found, wanted) in found.iter().zip(wanted) {
            if found.name() != wanted.name() || found.data_type() != wanted.data_type() {
                let shown = |field: &Field| format!("`{}` {}", field.name(), field.data_type());
                return Err(self.misfit(&format!("{}, and not {}", shown(found), shown(wanted))));
            }
        }
        Ok(())
    }

    /// Reads a frame whose schema was checked.
    fn read(&self, codec: &KeyCodec, frame: &RecordBatch) -> Result<Vec<Placed>, FrameError> {
        let by_minute = self.minutes(frame)?;
        let keys = (0..self.keys.len()).map(|key| {
            let place = self.key_order.iter().position(|at| *at == key);
            place.and_then(|place| frame.columns().get(1 + place)).cloned()
        });
        let keys: Option<Vec<ArrayRef>> = keys.collect();
        let keys = keys.ok_or_else(|| self.misfit("a key has no column"))?;
        let encoded = codec.encode(&keys).map_err(|source| self.arrow(source))?;
        let key = |row: &u32| encoded.as_ref().map_or(&[][..], |rows| rows.row(*row as usize).data());
        let first_state = 1 + self.meta.keys.len();
        let columns = frame.columns().iter().enumerate().skip(first_state);
        let states = self.aggregates.iter().zip(columns).map(|(aggregate, (at, column))| {
            let damaged = |damage: Damage| self.damaged(frame, at, damage.row, damage.reason);
            aggregate.kind.read(column).map_err(damaged)
        });
        let mut states = states.collect::<Result<Vec<States>, _>>()?;
        let mut minutes = Vec::with_capacity(by_minute.len());
        for (minute, mut places) in by_minute {
            places.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.cmp(b)));
            let twice = places.windows(2).find_map(|pair| match pair {
                [before, after] if key(before) == key(after) => Some(*after),
                _ => None,
            });
            if let Some(row) = twice {
                return Err(self.damaged(frame, 0, row as usize, "the minute has a row with these keys already"));
            }
            let states = states.iter_mut().map(|column| column.take(&places)).collect();
            let keys: Vec<KeyBytes> = places.iter().map(|row| key(row).into()).collect();
            // The keys are there once each, and each column of states was read with one state a row.
            minutes.push((PartialRows::new(minute, keys, states), places));
        }
        Ok(minutes)
    }

    /// The rows of each minute.
    fn minutes(&self, frame: &RecordBatch) -> Result<BTreeMap<Minute, Vec<u32>>, FrameError> {
        let column = frame.columns().first().and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let column = column.ok_or_else(|| self.misfit("its first column is not the minute"))?;
        if u32::try_from(frame.num_rows()).is_err() {
            return Err(self.misfit(&format!("{} rows", frame.num_rows())));
        }
        let mut minutes: BTreeMap<Minute, Vec<u32>> = BTreeMap::new();
        for (row, micros) in column.iter().enumerate() {
            let micros = micros.ok_or_else(|| self.damaged(frame, 0, row, "a value is missing"))?;
            let time = EventTime::from_micros(micros);
            if time.minute().start() != time {
                return Err(self.damaged(frame, 0, row, "the time is not the start of a minute"));
            }
            minutes.entry(time.minute()).or_default().push(row as u32);
        }
        Ok(minutes)
    }

    fn name(&self) -> String {
        self.meta.name.clone()
    }

    fn arrow(&self, source: ArrowError) -> FrameError {
        FrameError::Arrow { view: self.name(), source }
    }

    fn misfit(&self, reason: &str) -> FrameError {
        FrameError::Columns { view: self.name(), reason: reason.to_owned() }
    }

    fn damaged(&self, frame: &RecordBatch, column: usize, row: usize, reason: &str) -> FrameError {
        let column = frame.schema_ref().fields().get(column).map(|field| field.name().clone()).unwrap_or_default();
        FrameError::Value { view: self.name(), column, row, reason: reason.to_owned() }
    }
}

/// The name of the column that tells a key of the events' own from `__other__`.
const OWN: &str = "own";

#[cfg(test)]
mod tests;
