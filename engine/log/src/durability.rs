//! How durable a record is when it is acknowledged. It names the levels; the writer and the
//! committer act on them.

use serde::{Deserialize, Serialize};

/// What an acknowledged record survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Acknowledged after fdatasync: survives a crash of the process, of the operating system and
    /// the loss of power, as far as the disk keeps what it says it has.
    #[default]
    Fsync,
    /// Acknowledged after the write: the page cache has it. Survives a crash of the process, not of
    /// the operating system, which may lose up to a whole segment.
    Os,
    /// Acknowledged before the write: survives nothing. A crash loses what waited to be written, and
    /// a full disk stops the log for good, because what it could not write was promised already.
    Memory,
}
