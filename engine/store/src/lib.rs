//! The store: what the views produced, minute by minute, kept in columnar memory, and immutable
//! snapshots of it for readers. It knows nothing of SQL: a view hands it rows that are finished.

mod head;
mod hour;
mod reading;
mod series;
mod snapshot;
#[cfg(test)]
mod tests;

pub use head::{Head, StoreError, Stored};
pub use snapshot::{OpenMinute, Rows, Snapshot, ViewSnapshot};
pub use tidewatch_model::{Fill, Measure, ViewMeta};
