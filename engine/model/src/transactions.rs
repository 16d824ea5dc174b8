//! The built-in stream as programs that speak to the engine know it without asking: its columns, in their order.
//! `queries/streams/transactions.sql` is what the engine itself goes by; a test holds the two together.

use crate::{
    Column,
    ColumnType::{self, BigInt, Map, Text, Timestamp},
    SchemaError, StreamSchema,
};

const COLUMNS: [(&str, ColumnType); 15] = [
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

/// The stream `transactions` with the documented times. The error is one of this file, which a test would show.
pub fn transactions() -> Result<StreamSchema, SchemaError> {
    let columns = COLUMNS.map(|(name, kind)| Column {
        name: name.to_owned(),
        kind,
        required: matches!(name, "occurred_at" | "status"),
        default: (name == "count").then_some(1),
    });
    StreamSchema::new("transactions", columns.to_vec(), "occurred_at", Some("event_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_stands() {
        let schema = transactions().unwrap();
        assert_eq!((schema.columns().len(), schema.event_time(), schema.id()), (15, 1, Some(0)));
    }
}
