//! JSON events → columns: an array, one object, or one object a line. Every event stands alone: what is wrong with
//! one is said of that one. Field names are the columns of the stream.

use serde_json::{Map, Value as Json};
use tidewatch_model::{Column, ColumnType, EventTime, limits};

use crate::{
    batch::{Batch, Rejections},
    columns::{Columns, Value},
    door::{Arrival, Door, Fault, check_map, check_text, misfit, no_rows},
    excerpt::{excerpt, object_excerpt, quoted},
    split::{self, Piece},
};

/// How the events of a body are set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One object on each line.
    Lines,
    /// An array of objects, one object, or lines: told apart by looking.
    Any,
}

/// A converted body.
#[derive(Debug)]
pub struct Parsed {
    pub batch: Batch,
    /// The line of the body on which each event of it begins.
    pub lines: Vec<u32>,
    /// Whether any event of it was JSON at all.
    pub any_json: bool,
}

impl Door {
    /// Takes in what is right and lists what is not. An error: there are too many events for one request.
    pub fn json(&self, body: &[u8], form: Form, arrival: &Arrival) -> Result<Parsed, String> {
        let (pieces, flaw) = pieces(body, form);
        if pieces.len() >= limits::BATCH_EVENTS_MAX {
            let (count, max) = (pieces.len(), limits::BATCH_EVENTS_MAX);
            return Err(format!("the body holds {count} events; at most {max} are allowed in one request"));
        }
        let mut columns = Columns::new(self.schema(), &self.id_key);
        let mut rejections = Rejections::default();
        let (mut offsets, mut any_json, mut defect) = (Vec::with_capacity(pieces.len()), false, None);
        for (index, piece) in (0u32..).zip(&pieces) {
            match read(piece.bytes) {
                Ok(fields) => {
                    any_json = true;
                    match self.values(&fields, arrival) {
                        Ok(values) => {
                            offsets.push(index);
                            defect = defect.or(columns.push(values).err());
                        }
                        Err(fault) => {
                            rejections.add(index, fault, || object_excerpt(&fields, |name| self.is_number(name)))
                        }
                    }
                }
                Err(fault) => {
                    rejections.add(index, fault, || excerpt(&String::from_utf8_lossy(head(piece.bytes))));
                }
            }
        }
        let mut lines: Vec<u32> = pieces.iter().map(|piece| piece.line).collect();
        if let Some(flaw) = flaw {
            let index = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
            rejections.add(index, Fault::whole(flaw), String::new);
            lines.push(lines.last().copied().unwrap_or(1));
        }
        let (rows, offsets) = match defect.map_or_else(|| columns.finish(), Err) {
            Ok(rows) => (rows, offsets),
            Err(error) => {
                for index in offsets {
                    rejections.add(index, misfit(&error), String::new);
                }
                (no_rows(self.schema()), Vec::new())
            }
        };
        Ok(Parsed { batch: Batch { rows, offsets, rejected: rejections.into_list() }, lines, any_json })
    }

    fn is_number(&self, field: &str) -> bool {
        self.schema().column(field).is_some_and(|(_, column)| {
            matches!(column.kind, ColumnType::Timestamp | ColumnType::BigInt | ColumnType::Double)
        })
    }

    /// The values of one event in the order of the columns.
    fn values(&self, fields: &Map<String, Json>, arrival: &Arrival) -> Result<Vec<Option<Value>>, Fault> {
        let columns = self.schema().columns();
        if let Some(stranger) = fields.keys().find(|name| self.schema().column(name).is_none()) {
            let hint = tidewatch_model::did_you_mean(stranger, columns.iter().map(|column| column.name.as_str()));
            let reason = format!("stream `{}` has no field {}{hint}", self.schema().name(), quoted(stranger));
            return Err(Fault { field: Some(excerpt(stranger)), reason });
        }
        let mut values = Vec::with_capacity(columns.len());
        for (position, column) in columns.iter().enumerate() {
            let value = match fields.get(&column.name) {
                None | Some(Json::Null) => None,
                Some(Json::String(text)) if text.is_empty() => None,
                Some(value) => Some(self.value(column, value)?),
            };
            if let Some(Value::Time(time)) = &value {
                if self.is_event_time(position) {
                    self.check_event_time(&column.name, *time, arrival)?;
                } else {
                    self.check_timestamp(&column.name, *time)?;
                }
            }
            self.check_required(column, value.is_some())?;
            values.push(value);
        }
        Ok(values)
    }

    fn value(&self, column: &Column, value: &Json) -> Result<Value, Fault> {
        let name = column.name.as_str();
        let wanted = |what: &str| Fault::of(name, format!("`{name}` must be {what}, not {}", kind_of(value)));
        match column.kind {
            ColumnType::Text => {
                let text = value.as_str().ok_or_else(|| wanted("text in double quotes"))?;
                check_text(name, text)?;
                Ok(Value::Text(text.to_owned()))
            }
            ColumnType::Timestamp => time(value).map(Value::Time).ok_or_else(|| {
                let reason = "an RFC 3339 time or a number of seconds, milliseconds or microseconds since 1970";
                match value {
                    Json::String(text) => Fault::of(name, format!("`{name}` must be {reason}, not {}", quoted(text))),
                    _ => wanted(reason),
                }
            }),
            ColumnType::BigInt => {
                let number = integer(value).ok_or_else(|| wanted("a whole number of at most 64 bits"))?;
                self.check_integer(name, number)?;
                Ok(Value::Integer(number))
            }
            ColumnType::Double => value.as_f64().map(Value::Double).ok_or_else(|| wanted("a number")),
            ColumnType::Boolean => value.as_bool().map(Value::Boolean).ok_or_else(|| wanted("true or false")),
            ColumnType::Map => {
                let entries = value.as_object().ok_or_else(|| wanted("an object of texts"))?;
                let entries: Vec<(String, String)> = entries
                    .iter()
                    .filter_map(|(key, value)| entry(value).map(|value| value.map(|value| (key.clone(), value))))
                    .collect::<Result<_, &str>>()
                    .map_err(|kind| Fault::of(name, format!("the values of `{name}` must be text, not {kind}")))?;
                check_map(name, entries.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
                Ok(Value::Map(entries))
            }
        }
    }
}

/// The events of a body, and what is wrong with what holds them.
fn pieces(body: &[u8], form: Form) -> (Vec<Piece<'_>>, Option<&'static str>) {
    let trimmed = body.trim_ascii_start();
    if form == Form::Lines {
        return (split::lines(body), None);
    }
    if trimmed.first() == Some(&b'[') {
        let before = body.len() - trimmed.len();
        let skipped = body.iter().take(before).filter(|byte| **byte == b'\n').count();
        let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
        let mut elements = split::elements(trimmed);
        for piece in &mut elements.pieces {
            piece.line = piece.line.saturating_add(skipped);
        }
        return (elements.pieces, elements.flaw);
    }
    // Several lines of which the first is an event by itself are lines; anything else is one event.
    let lines = split::lines(body);
    let first_is_whole = lines.first().is_some_and(|piece| piece.bytes.last() == Some(&b'}'));
    if lines.len() > 1 && !first_is_whole {
        let line = lines.first().map_or(1, |piece| piece.line);
        return (vec![Piece { line, bytes: body.trim_ascii() }], None);
    }
    (lines, None)
}

fn read(bytes: &[u8]) -> Result<Map<String, Json>, Fault> {
    match serde_json::from_slice::<Json>(bytes) {
        Ok(Json::Object(fields)) => Ok(fields),
        Ok(other) => Err(Fault::whole(format!("an event must be a JSON object, not {}", kind_of(&other)))),
        Err(error) if str::from_utf8(bytes).is_err() => Err(Fault::whole(format!("not UTF-8 text: {error}"))),
        Err(error) => {
            let number =
                ["NaN", "Infinity"].iter().any(|word| bytes.windows(word.len()).any(|at| at == word.as_bytes()));
            let advice = if number { "; JSON has no NaN and no Infinity: leave the field out" } else { "" };
            Err(Fault::whole(format!("not JSON: {error}{advice}")))
        }
    }
}

/// Enough of a broken event for its excerpt.
fn head(bytes: &[u8]) -> &[u8] {
    bytes.get(..bytes.len().min(4 * limits::REJECTED_BYTES_MAX)).unwrap_or(bytes)
}

/// RFC 3339 text, or a number since 1970 whose size tells its unit: below 10^11 seconds (until the year 5138),
/// below 10^14 milliseconds, else microseconds.
pub(crate) fn time(value: &Json) -> Option<EventTime> {
    match value {
        Json::String(text) => time_from_text(text),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => epoch(whole),
            None => number.as_f64().and_then(fraction),
        },
        _ => None,
    }
}

pub(crate) fn time_from_text(text: &str) -> Option<EventTime> {
    if let Ok(whole) = text.parse::<i64>() {
        return epoch(whole);
    }
    EventTime::parse(text).or_else(|| text.parse::<f64>().ok().and_then(fraction))
}

fn epoch(number: i64) -> Option<EventTime> {
    let micros = match number.unsigned_abs() {
        0..100_000_000_000 => number.checked_mul(1_000_000)?,
        100_000_000_000..100_000_000_000_000 => number.checked_mul(1_000)?,
        _ => number,
    };
    Some(EventTime::from_micros(micros))
}

/// Seconds or milliseconds with a fraction.
fn fraction(number: f64) -> Option<EventTime> {
    let micros = match number.abs() {
        size if size < 1e11 => number * 1e6,
        size if size < 1e14 => number * 1e3,
        size if size < 9e18 => number,
        _ => return None,
    };
    Some(EventTime::from_micros(micros.round() as i64))
}

/// Whole numbers, also written `5.0`.
fn integer(value: &Json) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|_| !value.is_u64())?;
        (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
    })
}

/// An attribute's value as text; none where it is null.
fn entry(value: &Json) -> Option<Result<String, &'static str>> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(Ok(text.clone())),
        Json::Number(number) => Some(Ok(number.to_string())),
        Json::Bool(flag) => Some(Ok(flag.to_string())),
        Json::Array(_) | Json::Object(_) => Some(Err(kind_of(value))),
    }
}

pub(crate) fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(number) if number.is_f64() => "a number with a fraction",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
