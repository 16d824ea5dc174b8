//! The store: what the views produced, minute by minute: recent hours in columnar memory, older ones in segments on disk, which
//! the manifest makes visible at once (FORMAT.md), and immutable snapshots of both for readers. It knows nothing of
//! SQL: a view hands it rows that are finished.

mod bucket;
mod cache;
mod cold;
mod compaction;
mod damages;
mod error;
mod files;
mod folder;
mod frames;
mod head;
mod hour;
mod manifest;
mod name;
mod parts;
mod pins;
mod reading;
mod retention;
mod roll_up;
mod seen;
mod segment;
mod series;
mod snapshot;
mod survey;
mod table;
mod verified;
mod windows;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod roll_up_tests;
#[cfg(test)]
mod tests;

pub use bucket::{Bucket, divided};
pub use cold::Cold;
pub use compaction::{Merge, MergePolicy, in_turn, plan, plan_windows};
pub use error::{Affected, Damage, FolderError, StoreError};
pub use files::Files;
pub use folder::{Findings, Folder};
pub use frames::{Misfit, ViewFrames};
pub use head::{Head, Held, SeenBefore, Stored, Unsaved};
pub use manifest::{FileEntry, FormatVersion, IdRun, MANIFEST_VERSION, Manifest, StoredView};
pub use name::{MANIFEST, is_file};
pub use pins::{Pin, Pins};
pub use retention::{NoRoom, bytes_of, over};
pub use segment::{Chunk, Contents, EncodedSegment, Segment};
pub use snapshot::{OpenMinute, Rows, Snapshot, ViewSnapshot};
pub use survey::{ManifestFound, StoreSurvey, survey};
pub use table::{TableScan, TableShape, TableSnapshot};
pub use tidewatch_model::{Fill, Measure, ViewMeta, Window};
