//! The store: what the views produced, minute by minute, kept in columnar memory, and immutable
//! snapshots of it for readers; on disk, segments and the manifest that makes them visible at once
//! (FORMAT.md). It knows nothing of SQL: a view hands it rows that are finished.

mod compaction;
mod error;
mod files;
mod folder;
mod head;
mod hour;
mod manifest;
mod name;
mod reading;
mod segment;
mod series;
mod snapshot;
mod verified;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod tests;

pub use compaction::{Merge, MergePolicy, in_turn, plan};
pub use error::{Affected, Damage, FolderError};
pub use files::Files;
pub use folder::{Findings, Folder};
pub use head::{Head, Held, StoreError, Stored};
pub use manifest::{FileEntry, IdRun, MANIFEST_VERSION, Manifest, StoredView};
pub use segment::{Chunk, Contents, EncodedSegment, Segment};
pub use snapshot::{OpenMinute, Rows, Snapshot, ViewSnapshot};
pub use tidewatch_model::{Fill, Measure, ViewMeta};
