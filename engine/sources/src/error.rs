//! Why a source cannot be read, and the rows that could not. A broken row is data about the file,
//! never an error: the rest of the file goes on.

use std::path::{Path, PathBuf};

/// Why a source as a whole cannot be read. The kinds differ in what the person does next.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The options do not fit the file: change the command.
    #[error("{0}")]
    Refused(String),
    /// The operating system does not give the bytes.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The bytes are not what the format promises, so that no row can be found in them.
    #[error("{path} is not readable as {format}: {reason}", path = path.display())]
    Damaged { path: PathBuf, format: &'static str, reason: String },
}

impl SourceError {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    pub(crate) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, format: &'static str, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), format, reason: reason.to_string() }
    }
}

/// A row that could not become an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRow {
    /// The row's number, counted from 1 without the header. Rows that are fine count too.
    pub row: u64,
    /// The line on which it begins, counted from 1; for Parquet, which has no lines, the row's number.
    pub line: u64,
    /// A sentence for a person.
    pub reason: String,
}
