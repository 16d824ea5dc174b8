//! What is kept of a refused event: masked, and cut to a length. A refused event is whatever someone sent,
//! so nothing of it is shown or stored by any other way.

use serde_json::{Map, Value};
use tidewatch_model::limits;

use crate::{mask::mask, proto::tidewatch::v1::Transaction};

/// Ends an excerpt that was cut.
const CUT: &str = " … (cut)";

/// Bytes of a value that are quoted in a sentence.
const QUOTED_BYTES_MAX: usize = 64;

/// The text masked, and cut to what `rejected_events` keeps.
pub(crate) fn excerpt(text: &str) -> String {
    cut(text, limits::REJECTED_BYTES_MAX)
}

/// The text as it may stand in a message: masked, short, in back quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", cut(text, QUOTED_BYTES_MAX))
}

/// Masking never changes a text's length, so only a stretch with room for a card number across the cut is masked.
fn cut(text: &str, max: usize) -> String {
    let head = prefix(text, max + 64);
    let masked = mask(head);
    if text.len() <= max {
        return masked.into_owned();
    }
    format!("{}{CUT}", prefix(&masked, max - CUT.len()))
}

/// The longest start of the text within so many bytes that ends between two characters.
fn prefix(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// A refused message as JSON, with the fields that it has.
pub(crate) fn transaction_excerpt(event: &Transaction) -> String {
    let mut fields = Map::new();
    let texts = [
        ("event_id", event.event_id.as_deref()),
        ("status", Some(event.status.as_str())),
        ("kind", event.kind.as_deref()),
        ("channel", event.channel.as_deref()),
        ("region", event.region.as_deref()),
        ("account_id", event.account_id.as_deref()),
        ("counterparty_id", event.counterparty_id.as_deref()),
        ("currency", event.currency.as_deref()),
        ("auth_code", event.auth_code.as_deref()),
        ("ip", event.ip.as_deref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            fields.insert(name.to_owned(), Value::String(excerpt(text)));
        }
    }
    fields.insert("occurred_at".to_owned(), event.occurred_at.into());
    for (name, number) in
        [("amount_minor", event.amount_minor), ("latency_us", event.latency_us), ("count", event.count)]
    {
        if let Some(number) = number {
            fields.insert(name.to_owned(), number.into());
        }
    }
    if !event.attributes.is_empty() {
        let entries = event.attributes.iter().take(limits::MAP_ENTRIES_MAX);
        let entries: Map<String, Value> =
            entries.map(|(key, value)| (excerpt(key), Value::String(excerpt(value)))).collect();
        fields.insert("attributes".to_owned(), Value::Object(entries));
    }
    shorten(Value::Object(fields).to_string())
}

/// A refused JSON object. `is_number` says which fields are numbers by their column: those are shown as they are;
/// any other number could be a card number in the wrong type.
pub(crate) fn object_excerpt(fields: &Map<String, Value>, is_number: impl Fn(&str) -> bool) -> String {
    let shown: Map<String, Value> = fields
        .iter()
        .take(limits::COLUMNS_MAX)
        .map(|(name, value)| match value {
            Value::Number(_) if is_number(name) => (name.clone(), value.clone()),
            Value::String(text) => (excerpt(name), Value::String(excerpt(text))),
            Value::Null | Value::Bool(_) => (excerpt(name), value.clone()),
            other => (excerpt(name), Value::String(excerpt(&other.to_string()))),
        })
        .collect();
    shorten(Value::Object(shown).to_string())
}

/// Cuts what is masked already.
fn shorten(text: String) -> String {
    if text.len() <= limits::REJECTED_BYTES_MAX {
        return text;
    }
    format!("{}{CUT}", prefix(&text, limits::REJECTED_BYTES_MAX - CUT.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_hold_no_card_numbers() {
        let card = "4111111111111111";
        for text in [
            format!("{}{card}", "x".repeat(limits::REJECTED_BYTES_MAX - CUT.len() - 15)),
            format!("{}{card}", "é".repeat(10 << 20)),
            format!("{card}{}", "x".repeat(10 << 20)),
        ] {
            let kept = excerpt(&text);
            assert!(kept.len() <= limits::REJECTED_BYTES_MAX && !kept.contains("41111111111"), "{kept}");
        }
        let event = Transaction {
            status: card.to_owned(),
            attributes: [(card.to_owned(), "y".repeat(5_000_000))].into(),
            ..Transaction::default()
        };
        let kept = transaction_excerpt(&event);
        assert!(kept.len() <= limits::REJECTED_BYTES_MAX && !kept.contains(card), "{kept}");
    }
}
