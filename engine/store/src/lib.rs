//! The store: what the views produced, minute by minute, kept in columnar memory, and immutable
//! snapshots of it for readers. It knows nothing of SQL.

pub use tidewatch_model::{Fill, Measure, ViewMeta};
