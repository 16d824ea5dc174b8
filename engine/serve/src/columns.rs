//! Rows → columns for events whose fields are known only at run time (JSON). Values are checked before
//! they come here; a value of another type than its column's is left out.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::error::ArrowError;
use tidewatch_model::{Column, ColumnType, EventTime, StreamSchema};

use crate::{id_key::IdKey, mask::mask};

/// One value of an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Time(EventTime),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    Map(Vec<(String, String)>),
}

/// The columns of one batch, as far as they are filled.
pub(crate) struct Columns<'a> {
    schema: &'a StreamSchema,
    id_key: &'a IdKey,
    cells: Vec<Cells>,
}

enum Cells {
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Integer(Int64Builder, Option<i64>),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Map(Box<MapBuilder<StringBuilder, StringBuilder>>),
}

impl<'a> Columns<'a> {
    pub(crate) fn new(schema: &'a StreamSchema, id_key: &'a IdKey) -> Self {
        Self { schema, id_key, cells: schema.columns().iter().map(Cells::new).collect() }
    }

    /// One event: a value, or none, for each column of the schema.
    pub(crate) fn push(&mut self, values: Vec<Option<Value>>) -> Result<(), ArrowError> {
        for (position, (cells, value)) in self.cells.iter_mut().zip(values).enumerate() {
            match (cells, value) {
                (Cells::Text(cells), Some(Value::Text(id))) if self.schema.id() == Some(position) => {
                    cells.append_value(self.id_key.mask(&id));
                }
                (cells, value) => cells.push(value)?,
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.cells.into_iter().map(Cells::finish).collect();
        RecordBatch::try_new(Arc::clone(self.schema.arrow()), arrays)
    }
}

impl Cells {
    fn new(column: &Column) -> Self {
        match column.kind {
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Timestamp => Self::Time(TimestampMicrosecondBuilder::new().with_data_type(column.kind.arrow())),
            ColumnType::BigInt => Self::Integer(Int64Builder::new(), column.default),
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Map => Self::Map(Box::new(map_builder())),
        }
    }

    fn push(&mut self, value: Option<Value>) -> Result<(), ArrowError> {
        match (self, value) {
            (Self::Text(cells), Some(Value::Text(text))) => cells.append_value(mask(&text)),
            (Self::Text(cells), _) => cells.append_null(),
            (Self::Time(cells), Some(Value::Time(time))) => cells.append_value(time.micros()),
            (Self::Time(cells), _) => cells.append_null(),
            (Self::Integer(cells, _), Some(Value::Integer(number))) => cells.append_value(number),
            (Self::Integer(cells, default), _) => cells.append_option(*default),
            (Self::Double(cells), Some(Value::Double(number))) => cells.append_value(number),
            (Self::Double(cells), _) => cells.append_null(),
            (Self::Boolean(cells), Some(Value::Boolean(flag))) => cells.append_value(flag),
            (Self::Boolean(cells), _) => cells.append_null(),
            (Self::Map(cells), value) => {
                let entries = if let Some(Value::Map(entries)) = value { entries } else { Vec::new() };
                for (key, value) in &entries {
                    cells.keys().append_value(mask(key));
                    cells.values().append_value(mask(value));
                }
                cells.append(true)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut cells) => Arc::new(cells.finish()),
            Self::Time(mut cells) => Arc::new(cells.finish()),
            Self::Integer(mut cells, _) => Arc::new(cells.finish()),
            Self::Double(mut cells) => Arc::new(cells.finish()),
            Self::Boolean(mut cells) => Arc::new(cells.finish()),
            Self::Map(mut cells) => Arc::new(cells.finish()),
        }
    }
}

/// A builder whose arrays have the field names of `ColumnType::Map`.
pub(crate) fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames { entry: "entries".to_owned(), key: "keys".to_owned(), value: "values".to_owned() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}
