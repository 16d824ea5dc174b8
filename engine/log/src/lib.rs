//! The durable log: everything that the engine knows follows from its records. It owns segments,
//! group commit, recovery, the records' formats, the file-system seam and the data folder's lock.
//! It never looks into an aggregate, and it has no clock.

mod committer;
mod cursor;
mod durability;
mod encoded;
mod error;
mod events;
mod extent;
mod frame;
pub mod fs;
mod lock;
mod lost;
mod observer;
mod payload;
mod queue;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
mod survey;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

pub use committer::Log;
pub use durability::Durability;
pub use encoded::Encoded;
pub use error::{Damage, DecodeError, LogError};
pub use extent::{Extent, SegmentExtent};
pub use fs::{FailingFs, Fate, Fault, FileSystem, ForgetfulFs, MemFs, ReadFile, StdFs, WriteFile, out_of_handles};
pub use lock::{DataFolderLock, LOCK, LockError, RESTORING};
pub use lost::Lost;
pub use observer::{Commit, Observer, Unobserved};
pub use queue::Then;
pub use reader::{Reader, Schemas};
pub use record::{
    Advance, AdvanceCause, Events, Journal, JournalTopic, Producer, Record, RecordKind, Rejected, SessionEnded,
    SessionOpened,
};
pub use recovery::Recovered;
pub use segment::{FORMAT_VERSION, is_segment};
pub use survey::{Contained, Cut, Survey, Tail, survey};
pub use writer::{LogConfig, Writer};
