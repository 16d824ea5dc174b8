//! The stream that this crate's tests convert into: `transactions` as it is shipped.

use std::sync::Arc;

use tidewatch_model::{Column, ColumnType, EventTime, StreamSchema};

use crate::door::{Arrival, Door};

pub(crate) const NOW: EventTime = EventTime::from_micros(1_752_321_600_000_000);
pub(crate) const LIVE: Arrival = Arrival { at: NOW, session: None };

pub(crate) fn schema() -> Arc<StreamSchema> {
    use ColumnType::{BigInt, Map, Text, Timestamp};
    let columns = [
        ("event_id", Text),
        ("occurred_at", Timestamp),
        ("status", Text),
        ("kind", Text),
        ("channel", Text),
        ("region", Text),
        ("account_id", Text),
        ("counterparty_id", Text),
        ("amount_minor", BigInt),
        ("currency", Text),
        ("latency_us", BigInt),
        ("auth_code", Text),
        ("ip", Text),
        ("count", BigInt),
        ("attributes", Map),
    ];
    let columns = columns.map(|(name, kind)| Column {
        name: name.to_owned(),
        kind,
        required: matches!(name, "occurred_at" | "status"),
        default: (name == "count").then_some(1),
    });
    Arc::new(StreamSchema::new("transactions", columns.to_vec(), "occurred_at", Some("event_id")).unwrap())
}

pub(crate) fn door() -> Door {
    Door::new(schema()).unwrap()
}
