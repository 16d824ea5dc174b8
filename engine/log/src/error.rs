//! What can go wrong with the log, by what the caller would do about it: try again, restart, look
//! at the disk, upgrade. It decides nothing.

use std::{fmt, io, path::PathBuf, sync::Arc};

use tidewatch_model::{Lsn, limits};

use crate::lost::Lost;

/// An error of the log. Cheap to clone, because one failed commit answers many submitters.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing of the commit was kept and the log is whole. Trying again can succeed, for example
    /// when the disk has room again.
    #[error("the log could not take the records ({action}: {source}); nothing of them was kept, try again later")]
    Refused { action: String, source: Arc<io::Error> },

    /// The log takes nothing, and what reached the disk of these records cannot be cut off before the disk can be written
    /// again. A crash before that may keep some of them.
    #[error(
        "the log could not take the records ({action}: {source}), nor yet cut off what of them it may have; try again later, with the same ids"
    )]
    NotTakenBack { action: String, source: Arc<io::Error> },

    /// The log takes no more records until the process is started again.
    #[error("the log has stopped: {reason}; what was acknowledged is safe, restart the engine to write again")]
    Poisoned { reason: Arc<str> },

    /// The log was closed, or its thread is gone.
    #[error("the log is closed and takes no more records")]
    Closed,

    /// One record is beyond what the log keeps.
    #[error("a record of {bytes} bytes is too large for the log; at most {max} are allowed, send smaller batches", max = limits::RECORD_BYTES_MAX)]
    TooLarge { bytes: usize },

    /// The record has a shape that the log's format does not know.
    #[error("a record cannot be written to the log: {0}")]
    Unencodable(String),

    /// Bytes that were durable once are not what they were, and nothing can be read for their sake.
    #[error(transparent)]
    Damaged(#[from] Damage),

    /// Records are gone with a damaged stretch; those behind it are there.
    #[error(transparent)]
    Lost(#[from] Lost),

    /// A later version of the engine wrote this.
    #[error(
        "{what} was written by a newer Tidewatch (format {found}; this one reads up to {known}): upgrade tidewatch, or restore a backup made before that"
    )]
    Newer { what: String, found: u32, known: u32 },

    /// A whole, undamaged record whose contents cannot be used as things are configured.
    #[error("record {lsn} of the log cannot be read: {source}")]
    Undecodable { lsn: Lsn, source: DecodeError },

    /// The disk did not do what it was asked while opening or reading.
    #[error("could not {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },
}

impl LogError {
    /// Whether the same call can succeed later without a restart.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotTakenBack { .. })
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }
}

/// Where the log is damaged, exactly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Damage {
    pub file: PathBuf,
    pub offset: u64,
    /// The record that should stand there.
    pub lsn: Lsn,
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log is damaged: {} at byte {}, where record {} should stand: {}; restore the file from a backup",
            self.file.display(),
            self.offset,
            self.lsn,
            self.reason
        )
    }
}

/// Why a payload whose checksum is right has no meaning here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not of this format.
    #[error("byte {at} of the payload: {what}")]
    Malformed { at: usize, what: String },
    /// The stream is no longer (or not yet) configured.
    #[error("no stream is named `{0}`; add its file to `queries/streams` again")]
    UnknownStream(String),
    /// The stream's columns changed in a way that old events cannot follow.
    #[error("column `{column}` of stream `{stream}`: {what}")]
    Column { stream: String, column: String, what: String },
    /// A kind of record, or a layout of one, that a later version added.
    #[error("kind {kind} with layout {layout} was written by a newer Tidewatch: upgrade tidewatch")]
    Newer { kind: u8, layout: u8 },
}
