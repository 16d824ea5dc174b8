//! Simulated events as columns of the built-in stream `transactions`.
//! What the events are is decided before; nothing is drawn here.

use std::{fmt::Write, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, MapArray, RecordBatch, StringBuilder, StructArray, TimestampMicrosecondArray},
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{DataType, Field, SchemaRef},
    error::ArrowError,
};
use tidewatch_model::ColumnType;

use crate::event::{Channel, Event, Kind};

/// The networks that RFC 5737 sets aside for documentation.
const NETWORKS: [&str; 3] = ["192.0.2.", "198.51.100.", "203.0.113."];

/// Merchant category codes; a counterparty keeps its own.
const MERCHANT_CATEGORIES: [&str; 8] = ["5411", "5812", "5541", "5912", "4121", "5732", "7011", "5999"];

const MOBILE_DEVICES: [&str; 2] = ["android", "ios"];
const WEB_DEVICES: [&str; 3] = ["chrome", "firefox", "safari"];

/// The digits of an id: without vowels no id spells a word, and without figures none can be taken for a card number.
const ID_DIGITS: &[u8; 16] = b"bcdfghjklmnpqrst";

pub(crate) fn batch(schema: &SchemaRef, events: &[Event]) -> Result<RecordBatch, ArrowError> {
    let numbers = |of: fn(&Event) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(events.iter().map(of))) };
    let occurred = TimestampMicrosecondArray::from_iter_values(events.iter().map(|e| e.occurred_at));
    let columns: Vec<ArrayRef> = vec![
        ids(events),
        Arc::new(occurred.with_timezone("UTC")),
        names(events, |e| Some(e.status.name())),
        names(events, |e| Some(e.kind.name())),
        names(events, |e| Some(e.channel.name())),
        names(events, |e| Some(e.region.name())),
        numbered(events, "acc-", 6, |e| e.account),
        numbered(events, "m-", 4, |e| e.counterparty),
        numbers(|e| e.amount_minor),
        names(events, |e| Some(e.currency.name())),
        numbers(|e| e.latency_us),
        names(events, |e| e.auth_code.map(|code| code.text())),
        addresses(events),
        numbers(|_| 1),
        attributes(events)?,
    ];
    RecordBatch::try_new(schema.clone(), columns)
}

fn ids(events: &[Event]) -> ArrayRef {
    let mut texts = StringBuilder::with_capacity(events.len(), events.len() * 16);
    for event in events {
        // Four bits name one of sixteen digits.
        let digits = std::array::from_fn::<u8, 16, _>(|at| ID_DIGITS[(event.id >> (60 - 4 * at) & 15) as usize]);
        texts.append_value(str::from_utf8(&digits).unwrap_or_default());
    }
    Arc::new(texts.finish())
}

fn names(events: &[Event], of: fn(&Event) -> Option<&'static str>) -> ArrayRef {
    let mut texts = StringBuilder::with_capacity(events.len(), events.len() * 8);
    for event in events {
        texts.append_option(of(event));
    }
    Arc::new(texts.finish())
}

/// The prefix and so many digits, zeros in front.
fn numbered(events: &[Event], prefix: &str, digits: usize, of: fn(&Event) -> u32) -> ArrayRef {
    let mut texts = StringBuilder::with_capacity(events.len(), events.len() * (prefix.len() + digits));
    let mut text = [0u8; 16];
    let length = prefix.len() + digits;
    // Both callers' prefix and digits fit into sixteen bytes.
    text[..prefix.len()].copy_from_slice(prefix.as_bytes());
    for event in events {
        let mut rest = of(event);
        for place in text[prefix.len()..length].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        texts.append_value(str::from_utf8(&text[..length]).unwrap_or_default());
    }
    Arc::new(texts.finish())
}

fn addresses(events: &[Event]) -> ArrayRef {
    let mut texts = StringBuilder::with_capacity(events.len(), events.len() * 14);
    let mut text = String::with_capacity(16);
    for event in events {
        text.clear();
        text.push_str(NETWORKS.get(usize::from(event.ip.0)).copied().unwrap_or_default());
        // Writing to a string does not fail.
        let _ = write!(text, "{}", event.ip.1);
        texts.append_value(&text);
    }
    Arc::new(texts.finish())
}

/// Card events carry the merchant's category, events from a phone or a browser the device; others have no map.
fn attributes(events: &[Event]) -> Result<ArrayRef, ArrowError> {
    let DataType::Map(field, ordered) = ColumnType::Map.arrow() else {
        return Err(ArrowError::SchemaError("the type of a map column is not a map".to_owned()));
    };
    let DataType::Struct(entry_fields) = field.data_type().clone() else {
        return Err(ArrowError::SchemaError("the entries of a map column are not a struct".to_owned()));
    };
    let mut keys = StringBuilder::with_capacity(events.len(), events.len() * 6);
    let mut values = StringBuilder::with_capacity(events.len(), events.len() * 6);
    let mut offsets: Vec<i32> = Vec::with_capacity(events.len() + 1);
    let mut present = Vec::with_capacity(events.len());
    let mut entries = 0i32;
    offsets.push(0);
    for event in events {
        let before = entries;
        for (key, value) in [("mcc", merchant_category(event)), ("device", device(event))] {
            if let Some(value) = value {
                keys.append_value(key);
                values.append_value(value);
                entries += 1;
            }
        }
        offsets.push(entries);
        present.push(entries > before);
    }
    let pairs = StructArray::try_new(entry_fields, vec![Arc::new(keys.finish()), Arc::new(values.finish())], None)?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let field: Arc<Field> = field;
    Ok(Arc::new(MapArray::try_new(field, offsets, pairs, Some(NullBuffer::from(present)), ordered)?))
}

fn merchant_category(event: &Event) -> Option<&'static str> {
    let at = event.counterparty as usize % MERCHANT_CATEGORIES.len();
    MERCHANT_CATEGORIES.get(at).copied().filter(|_| event.kind == Kind::Card && event.channel != Channel::Atm)
}

fn device(event: &Event) -> Option<&'static str> {
    let devices: &[&'static str] = match event.channel {
        Channel::Mobile => &MOBILE_DEVICES,
        Channel::Web => &WEB_DEVICES,
        Channel::Pos | Channel::Atm | Channel::Api => return None,
    };
    devices.get(event.account as usize % devices.len()).copied()
}
