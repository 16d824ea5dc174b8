//! What can go wrong with a backup, by what the caller would do about it: write another address, see to the target, see to
//! the data folder, take another backup, upgrade.

use std::{io, path::PathBuf, sync::Arc};

use tidewatch_log::LogError;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(
        "`{url}` is no place for backups: {reason}; write a folder, file:///folder, s3://bucket/folder, gs://bucket/folder or \
         az://container/folder"
    )]
    Address { url: String, reason: String },

    /// The object store did not do what it was asked, also when it was asked again.
    #[error("could not {action} {key} at {target}: {source}")]
    Target { action: &'static str, key: String, target: String, source: Arc<object_store::Error> },

    /// The disk did not do what it was asked.
    #[error("could not {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(transparent)]
    Log(#[from] LogError),

    /// What should be copied is not what it was when it was written.
    #[error("{}: {what}; a backup that held it could not be restored, so none was made", .file.display())]
    Damaged { file: PathBuf, what: String },

    /// What was copied is not what it was, or not there.
    #[error(
        "the backup is damaged: {key} at {target}: {what}; restore another one (`tidewatch backup --list --to {target}`)"
    )]
    Unsound { key: String, target: String, what: String },

    #[error(
        "{what} was written by a newer Tidewatch (format {found}; this one reads up to {known}): upgrade tidewatch, or use a \
         backup made before that"
    )]
    Newer { what: String, found: u32, known: u32 },

    #[error(
        "there is no backup `{id}` at {target}; `tidewatch backup --list --to {target}` shows those that are there"
    )]
    Unknown { id: String, target: String },

    #[error("there is no backup at {target}")]
    None { target: String },

    #[error(
        "{target} holds backups of another data folder (such as `{other}`); give each data folder a target of its own"
    )]
    Foreign { target: String, other: String },

    #[error("{} is not empty: a restore fills a folder that is empty or not there yet", .0.display())]
    NotEmpty(PathBuf),

    #[error("{target} has more than {max} backups; remove the oldest files below {target}/backups", max = tidewatch_model::limits::BACKUPS_MAX)]
    TooMany { target: String },

    /// A thread of the program's own broke off.
    #[error("the copy broke off: {0}")]
    BrokenOff(String),
}

impl BackupError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the same can succeed when it is tried again in a moment.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Target { source, .. } if matches!(**source, object_store::Error::Generic { .. }))
    }
}
