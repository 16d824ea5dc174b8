//! Rows as a file holds them, before they mean anything: what the three readers have in common.

use arrow::array::ArrayRef;

use crate::{BrokenRow, SourceError};

/// Columns of a file, by slot, for some of its rows.
#[derive(Debug, Default)]
pub(crate) struct RawBatch {
    pub columns: Vec<ArrayRef>,
    /// What nothing names, as a map, where the plan wants it and the reader alone can know it.
    pub rest: Option<ArrayRef>,
    /// The number of each row, counted from 1 without a header.
    pub rows: Vec<u64>,
    /// The line on which each row begins.
    pub lines: Vec<u64>,
    /// Rows that the format itself cannot make sense of.
    pub broken: Vec<BrokenRow>,
}

/// Reads a file piece by piece.
pub(crate) trait RawReader: Send {
    /// `None` at the end. A batch may hold no rows, only broken ones.
    fn next_batch(&mut self) -> Result<Option<RawBatch>, SourceError>;

    /// Names that only turned up while reading and are not used.
    fn late_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The part of a text that a message quotes.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
