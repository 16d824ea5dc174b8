//! What can go wrong with the store's files, by what the caller would do about it: report and serve the rest, upgrade,
//! try again, restart. It decides nothing.

use std::{fmt, io, path::PathBuf, sync::Arc};

use arrow::error::ArrowError;
use tidewatch_model::Minute;

use crate::frames::Misfit;

/// What can go wrong with minutes, and with rows of tables.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("view `{view}`: minute {minute} could not be computed: {reason}")]
    Unfinished { view: String, minute: Minute, reason: String },
    #[error("view `{view}`: its columns do not fit together: {source}")]
    Columns { view: String, source: ArrowError },
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The disk did not answer. What is damaged is none of these: it is reported and left out.
    #[error("`{name}`: what is on disk cannot be read: {source}")]
    Unread { name: String, source: FolderError },
    /// Rows of a table that were saved when it had other columns.
    #[error(
        "the table `{table}` has rows on disk that do not fit its columns, which were changed since: {source}; \
             undo the change, or move the saved rows away"
    )]
    Table { table: String, source: ArrowError },
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum FolderError {
    /// Bytes that were durable once are not what they were. The other files are not touched by it.
    #[error(transparent)]
    Damaged(#[from] Damage),

    /// A later version of the engine wrote this.
    #[error(
        "{what} was written by a newer Tidewatch (format {found}; this one reads up to {known}): upgrade tidewatch, or restore a backup made before that"
    )]
    Newer { what: String, found: u32, known: u32 },

    /// An earlier version of the engine wrote this, and could not open any more what this one writes.
    #[error(
        "{dir} is of format {found}, and this Tidewatch writes format {needed}. Nothing was changed, and the version that \
         wrote it still opens it: make a backup with `tidewatch backup`, see with `tidewatch upgrade` what changes, and \
         commit it with `tidewatch upgrade --commit`"
    )]
    Older { dir: String, found: u32, needed: u32 },

    /// The disk did not do what it was asked. The checkpoint before stays in force, and what was written since then
    /// is removed: whoever tries again begins the checkpoint anew.
    #[error("could not {action} {}: {source}; {}", .path.display(), advice(.source))]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },

    /// Nobody knows any more what the disk holds of what was last written. Reading goes on.
    #[error("the store has stopped: {reason}; the log has what is not in a checkpoint, restart the engine to go on")]
    Poisoned { reason: Arc<str> },

    /// The caller asked for what must not be on disk. A fault of the program, or a limit; nothing was changed.
    #[error("the store refuses this: {0}; nothing was changed")]
    Unsound(String),
}

impl FolderError {
    /// Whether the same can succeed later without anybody's doing, such as when the disk has room again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { source, .. } if passes(source))
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }
}

/// Whether a fault of the disk can pass: a full disk, a device that failed once, too many open files.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidInput, NotADirectory, NotFound, PermissionDenied, Unsupported};
    !matches!(error.kind(), AlreadyExists | InvalidInput | NotADirectory | NotFound | PermissionDenied | Unsupported)
}

fn advice(error: &io::Error) -> &'static str {
    if passes(error) {
        "the checkpoint before stays in force, and this is tried again"
    } else {
        "the checkpoint before stays in force; see to the folder and its owner"
    }
}

/// Where the store is damaged, and what that takes away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Damage {
    pub file: PathBuf,
    pub what: String,
    /// `None` where the file holds no rows.
    pub affected: Option<Affected>,
}

/// What cannot be read because of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affected {
    pub rows: u64,
    /// The oldest and the newest.
    pub minutes: (Minute, Minute),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store is damaged: {}: {}", self.file.display(), self.what)?;
        if let Some(Affected { rows, minutes: (oldest, newest) }) = self.affected {
            write!(f, "; {rows} rows of the minutes {oldest} to {newest} cannot be read")?;
        }
        f.write_str("; restore the file from a backup")
    }
}
