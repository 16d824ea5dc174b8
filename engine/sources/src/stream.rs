//! The built-in stream as the wire carries it: the columns of a `Transaction`. A file is read into
//! these whatever the engine at the other end was configured with.

use std::sync::{Arc, LazyLock};

use tidewatch_model::{Column, ColumnType, SchemaError, StreamSchema};

/// The columns of the stream `transactions`, in the order of the wire's fields.
pub fn transactions() -> Result<Arc<StreamSchema>, SchemaError> {
    static SCHEMA: LazyLock<Result<Arc<StreamSchema>, SchemaError>> = LazyLock::new(|| {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, required: false, default: None };
        let required = |name: &str, kind| Column { required: true, ..column(name, kind) };
        let columns = vec![
            column("event_id", ColumnType::Text),
            required("occurred_at", ColumnType::Timestamp),
            required("status", ColumnType::Text),
            column("kind", ColumnType::Text),
            column("channel", ColumnType::Text),
            column("region", ColumnType::Text),
            column("account_id", ColumnType::Text),
            column("counterparty_id", ColumnType::Text),
            column("amount_minor", ColumnType::BigInt),
            column("currency", ColumnType::Text),
            column("latency_us", ColumnType::BigInt),
            column("auth_code", ColumnType::Text),
            column("ip", ColumnType::Text),
            Column { default: Some(1), ..column("count", ColumnType::BigInt) },
            column("attributes", ColumnType::Map),
        ];
        StreamSchema::new("transactions", columns, "occurred_at", Some("event_id")).map(Arc::new)
    });
    SCHEMA.clone()
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
