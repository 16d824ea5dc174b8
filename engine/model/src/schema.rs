//! A stream's schema: the columns that its events may carry, and what two of them mean.
//! How a schema file is parsed is the business of `views`; how events become columns that of `serve`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::{Span, limits};

/// The types that a stream's column may have, each with one Arrow form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    Text,
    Timestamp,
    BigInt,
    Double,
    Boolean,
    /// Text to text, for what has no column of its own.
    Map,
}

impl ColumnType {
    pub fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::BigInt => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Map => {
                let entries = Fields::from(vec![
                    Field::new("keys", DataType::Utf8, false),
                    Field::new("values", DataType::Utf8, true),
                ]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
            }
        }
    }
}

/// One column of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnType,
    /// An event without a value here is refused.
    pub required: bool,
    /// What an absent value of a whole-number column stands for (`count` defaults to 1).
    pub default: Option<i64>,
}

/// A stream of events: its columns, which of them is the event time and which the id, and its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSchema {
    name: String,
    columns: Vec<Column>,
    event_time: usize,
    id: Option<usize>,
    pub lateness: Span,
    pub dedup_span: Span,
    pub correction_horizon: Span,
    pub max_ahead: Span,
    pub live_for: Span,
    arrow: SchemaRef,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("stream `{0}` has no column `{1}`, which its options name")]
    NoSuchColumn(String, String),
    #[error("column `{1}` of stream `{0}` is its event time and must be `TIMESTAMP NOT NULL`")]
    EventTimeType(String, String),
    #[error("column `{1}` of stream `{0}` is its id and must be `TEXT` or `BIGINT`")]
    IdType(String, String),
    #[error("stream `{0}` has two columns named `{1}`")]
    TwiceNamed(String, String),
    #[error("stream `{0}` has {1} columns; at most {max} are allowed", max = limits::COLUMNS_MAX)]
    TooManyColumns(String, usize),
}

impl StreamSchema {
    /// `event_time` and `id` name columns. Times not given take the documented defaults.
    pub fn new(name: &str, columns: Vec<Column>, event_time: &str, id: Option<&str>) -> Result<Self, SchemaError> {
        if columns.len() > limits::COLUMNS_MAX {
            return Err(SchemaError::TooManyColumns(name.to_owned(), columns.len()));
        }
        for (at, column) in columns.iter().enumerate() {
            if columns.iter().skip(at + 1).any(|other| other.name == column.name) {
                return Err(SchemaError::TwiceNamed(name.to_owned(), column.name.clone()));
            }
        }
        let find = |wanted: &str| {
            columns
                .iter()
                .enumerate()
                .find(|(_, column)| column.name == wanted)
                .ok_or_else(|| SchemaError::NoSuchColumn(name.to_owned(), wanted.to_owned()))
        };
        let (event_time_at, column) = find(event_time)?;
        if column.kind != ColumnType::Timestamp || !column.required {
            return Err(SchemaError::EventTimeType(name.to_owned(), event_time.to_owned()));
        }
        let id_at = match id {
            Some(id) => {
                let (at, column) = find(id)?;
                if !matches!(column.kind, ColumnType::Text | ColumnType::BigInt) {
                    return Err(SchemaError::IdType(name.to_owned(), id.to_owned()));
                }
                Some(at)
            }
            None => None,
        };
        let fields: Vec<Field> =
            columns.iter().map(|c| Field::new(&c.name, c.kind.arrow(), !c.required && c.default.is_none())).collect();
        Ok(Self {
            name: name.to_owned(),
            event_time: event_time_at,
            id: id_at,
            lateness: Span::from_seconds(30),
            dedup_span: Span::from_minutes(60),
            correction_horizon: Span::from_minutes(60),
            max_ahead: Span::from_minutes(5),
            live_for: Span::from_minutes(24 * 60),
            arrow: Arc::new(Schema::new(fields)),
            columns,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name == name)
    }

    /// The position of the event-time column.
    pub fn event_time(&self) -> usize {
        self.event_time
    }

    /// The position of the id column, where the stream has one.
    pub fn id(&self) -> Option<usize> {
        self.id
    }

    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }
}
