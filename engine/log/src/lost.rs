//! `Lost`: a stretch of the log whose bytes are not what they were, and the records that are gone with it. It decides
//! nothing.

use std::{fmt, path::PathBuf};

use tidewatch_model::Lsn;

use crate::record::RecordKind;

/// A damaged stretch of one file of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Lost {
    pub file: PathBuf,
    pub offset: u64,
    /// Bytes from there on that belong to nothing that can be read.
    pub bytes: u64,
    /// The first record that is gone.
    pub first: Lsn,
    /// The first behind them that is there. The same as `first` where the damage took no record.
    pub next: Lsn,
    /// False at the end of a log, where nobody can know how many there were.
    pub exact: bool,
    /// Of a single record whose header is whole.
    pub kind: Option<RecordKind>,
    pub reason: String,
}

impl Lost {
    /// How many records are gone; `None` where nobody can know.
    pub fn records(&self) -> Option<u64> {
        self.exact.then(|| self.next.0.saturating_sub(self.first.0))
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, bytes, first, next, reason, .. } = self;
        write!(f, "the log is damaged: {}, {bytes} bytes from byte {offset} on: {reason}; ", file.display())?;
        let last = next.0.saturating_sub(1);
        match self.records() {
            Some(0) => f.write_str("no record is lost by it"),
            Some(1) => write!(f, "record {first} is lost"),
            Some(_) => write!(f, "records {first} to {last} are lost"),
            None => write!(f, "the records from {first} on are lost"),
        }
    }
}
