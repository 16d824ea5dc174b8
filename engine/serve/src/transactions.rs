//! Protobuf transactions → columns. Events are checked one by one, then each column is filled in one pass
//! straight from the messages; there is no form in between.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use arrow::array::{
    ArrayRef, Int64Array, Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    new_null_array,
};
use tidewatch_model::{Column, ColumnType, EventTime, StreamSchema};

use crate::{
    batch::{Batch, Rejections},
    columns::map_builder,
    door::{Arrival, Door, DoorError, Fault, check_map, check_text, misfit},
    excerpt::transaction_excerpt,
    mask::mask,
    proto::tidewatch::v1::Transaction,
};

/// Where a column's values stand in the message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Time(fn(&Transaction) -> i64),
    Text(fn(&Transaction) -> Option<&str>),
    Integer(fn(&Transaction) -> Option<i64>),
    Map(fn(&Transaction) -> &BTreeMap<String, String>),
}

const FIELDS: [(&str, Source); 15] = [
    ("event_id", Source::Text(|event| event.event_id.as_deref())),
    ("occurred_at", Source::Time(|event| event.occurred_at)),
    ("status", Source::Text(|event| Some(&event.status))),
    ("kind", Source::Text(|event| event.kind.as_deref())),
    ("channel", Source::Text(|event| event.channel.as_deref())),
    ("region", Source::Text(|event| event.region.as_deref())),
    ("account_id", Source::Text(|event| event.account_id.as_deref())),
    ("counterparty_id", Source::Text(|event| event.counterparty_id.as_deref())),
    ("amount_minor", Source::Integer(|event| event.amount_minor)),
    ("currency", Source::Text(|event| event.currency.as_deref())),
    ("latency_us", Source::Integer(|event| event.latency_us)),
    ("auth_code", Source::Text(|event| event.auth_code.as_deref())),
    ("ip", Source::Text(|event| event.ip.as_deref())),
    ("count", Source::Integer(|event| event.count)),
    ("attributes", Source::Map(|event| &event.attributes)),
];

type Wiring = (Vec<Option<Source>>, Vec<(&'static str, Source)>);

/// Which field fills which column, and which fields have none.
pub(crate) fn wire(schema: &StreamSchema) -> Result<Wiring, DoorError> {
    let mut sources = Vec::with_capacity(schema.columns().len());
    for column in schema.columns() {
        let source = FIELDS.iter().find(|(name, _)| *name == column.name).map(|(_, source)| *source);
        let (stream, name) = (schema.name().to_owned(), column.name.clone());
        match (source, column.kind) {
            (None, _) if column.required => return Err(DoorError::Required { stream, column: name }),
            (None, _)
            | (Some(Source::Time(_)), ColumnType::Timestamp)
            | (Some(Source::Text(_)), ColumnType::Text)
            | (Some(Source::Integer(_)), ColumnType::BigInt)
            | (Some(Source::Map(_)), ColumnType::Map) => sources.push(source),
            _ => return Err(DoorError::Type { stream, column: name }),
        }
    }
    let homeless = FIELDS.iter().filter(|(name, _)| schema.column(name).is_none()).copied().collect();
    Ok((sources, homeless))
}

impl Door {
    /// Takes in what is right and lists what is not.
    pub fn transactions(&self, events: &[Transaction], arrival: &Arrival) -> Batch {
        let mut rejections = Rejections::default();
        let mut kept: Vec<&Transaction> = Vec::with_capacity(events.len());
        let mut offsets: Vec<u32> = Vec::with_capacity(events.len());
        for (index, event) in (0u32..).zip(events) {
            match self.inspect(event, arrival) {
                Ok(()) => {
                    kept.push(event);
                    offsets.push(index);
                }
                Err(fault) => rejections.add(index, fault, || transaction_excerpt(event)),
            }
        }
        let columns =
            self.schema().columns().iter().zip(&self.sources).enumerate().map(|(position, (column, source))| {
                match source {
                    Some(Source::Text(get)) if self.is_id(position) => {
                        Arc::new(fill_text(*get, &kept, |id| self.id_key.mask(id)))
                    }
                    _ => fill(column, *source, &kept),
                }
            });
        match RecordBatch::try_new(Arc::clone(self.schema().arrow()), columns.collect()) {
            Ok(rows) => Batch { rows, offsets, rejected: rejections.into_list() },
            Err(error) => self.all_refused(events, &misfit(&error)),
        }
    }

    fn all_refused(&self, events: &[Transaction], fault: &Fault) -> Batch {
        let mut rejections = Rejections::default();
        for (index, event) in (0u32..).zip(events) {
            rejections.add(index, fault.clone(), || transaction_excerpt(event));
        }
        Batch { rows: crate::door::no_rows(self.schema()), offsets: Vec::new(), rejected: rejections.into_list() }
    }

    fn inspect(&self, event: &Transaction, arrival: &Arrival) -> Result<(), Fault> {
        for (position, (column, source)) in self.schema().columns().iter().zip(&self.sources).enumerate() {
            let Some(source) = source else { continue };
            let name = column.name.as_str();
            let present = match source {
                Source::Time(get) => {
                    let time = EventTime::from_micros(get(event));
                    if self.is_event_time(position) {
                        self.check_event_time(name, time, arrival)?;
                    } else {
                        self.check_timestamp(name, time)?;
                    }
                    true
                }
                Source::Text(get) => {
                    let text = get(event).unwrap_or_default();
                    check_text(name, text)?;
                    !text.is_empty()
                }
                Source::Integer(get) => {
                    let number = get(event);
                    if let Some(number) = number {
                        self.check_integer(name, number)?;
                    }
                    number.is_some()
                }
                Source::Map(get) => {
                    let entries = get(event);
                    check_map(name, entries.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
                    true
                }
            };
            self.check_required(column, present)?;
        }
        for (name, source) in &self.homeless {
            if source.has_value(event) {
                return Err(Fault::of(name, format!("stream `{}` has no column `{name}`", self.schema().name())));
            }
        }
        Ok(())
    }
}

impl Source {
    fn has_value(self, event: &Transaction) -> bool {
        match self {
            Self::Time(get) => get(event) != 0,
            Self::Text(get) => get(event).is_some_and(|text| !text.is_empty()),
            Self::Integer(get) => get(event).is_some(),
            Self::Map(get) => !get(event).is_empty(),
        }
    }
}

/// One column of the accepted events.
fn fill(column: &Column, source: Option<Source>, events: &[&Transaction]) -> ArrayRef {
    match source {
        Some(Source::Time(get)) => {
            let times = TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| get(event)));
            Arc::new(times.with_timezone("UTC"))
        }
        Some(Source::Text(get)) => Arc::new(fill_text(get, events, mask)),
        Some(Source::Integer(get)) => {
            let mut cells = Int64Builder::with_capacity(events.len());
            for event in events {
                cells.append_option(get(event).or(column.default));
            }
            Arc::new(cells.finish())
        }
        Some(Source::Map(get)) => {
            let mut cells = map_builder();
            for event in events {
                for (key, value) in get(event) {
                    cells.keys().append_value(mask(key));
                    cells.values().append_value(mask(value));
                }
                // Keys and values are appended in pairs, which is all that `append` asks for.
                if cells.append(true).is_err() {
                    tracing::error!(column = column.name, "a map column has fewer values than keys");
                }
            }
            Arc::new(cells.finish())
        }
        None => match column.default {
            Some(default) => Arc::new(Int64Array::from_value(default, events.len())),
            None => new_null_array(&column.kind.arrow(), events.len()),
        },
    }
}

/// Empty text is absent text. Card numbers end here.
fn fill_text<'a>(
    get: fn(&Transaction) -> Option<&str>,
    events: &[&'a Transaction],
    mask: impl Fn(&'a str) -> Cow<'a, str>,
) -> StringArray {
    let bytes = events.iter().map(|event| get(event).map_or(0, str::len)).sum();
    let mut cells = StringBuilder::with_capacity(events.len(), bytes);
    for event in events {
        match get(event) {
            Some(text) if !text.is_empty() => cells.append_value(mask(text)),
            _ => cells.append_null(),
        }
    }
    cells.finish()
}

#[cfg(test)]
#[path = "transactions_tests.rs"]
mod tests;
