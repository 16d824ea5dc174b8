//! The store: what the views produced, minute by minute, kept in columnar memory, and immutable
//! snapshots of it for readers. It knows nothing of SQL.

mod meta;

pub use meta::{Fill, Measure, ViewMeta};
