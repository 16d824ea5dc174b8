//! What was found damaged on disk, as the table `damages` tells it: which bytes of which file, and what is missing for
//! their sake. Each damage is told once, over all restarts.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::UInt64Type,
};
use tidewatch_model::{EventTime, Lsn, Minute};

use super::{Core, tables};

/// Where a damage was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagedPart {
    /// Records that came after the newest checkpoint.
    Log,
    /// Rows of a view or a table.
    Segment,
}

impl DamagedPart {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Segment => "segment",
        }
    }
}

/// One damage. What is `None` is not known, or is nothing that this sort of damage has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDamage {
    pub found_at: EventTime,
    pub part: DamagedPart,
    /// Under the data folder.
    pub file: String,
    pub offset: Option<u64>,
    pub bytes: Option<u64>,
    /// The view or table whose rows are missing.
    pub of: Option<String>,
    /// First and last record of the log that are missing, or that the missing rows come from.
    pub lsns: Option<(Lsn, Lsn)>,
    /// Records of the log that are missing.
    pub records: Option<u64>,
    /// Rows that are missing.
    pub rows: Option<u64>,
    /// Minutes that may lack something.
    pub minutes: (Option<Minute>, Option<Minute>),
    pub reason: String,
    /// The copy of the damaged bytes, under the data folder.
    pub quarantined_as: Option<String>,
}

impl FoundDamage {
    /// As the report beside the quarantined copy has it.
    pub fn report(&self) -> serde_json::Value {
        let minute = |minute: Option<Minute>| minute.map(|minute| minute.start().to_string());
        serde_json::json!({
            "found_at": self.found_at.to_string(),
            "kind": self.part.text(),
            "file": self.file,
            "at_byte": self.offset,
            "bytes": self.bytes,
            "view": self.of,
            "first_lsn": self.lsns.map(|(first, _)| first.0),
            "last_lsn": self.lsns.map(|(_, last)| last.0),
            "records": self.records,
            "rows": self.rows,
            "minute_from": minute(self.minutes.0),
            "minute_to": minute(self.minutes.1),
            "reason": self.reason,
            "quarantined_as": self.quarantined_as,
        })
    }
}

impl Core {
    /// Takes damages into the table; those that are in it already are passed over.
    pub fn note_damages(&mut self, found: Vec<FoundDamage>) {
        for damage in found {
            if !self.is_noted(&damage) {
                self.tables.damages.push(tables::damage_row(&damage));
            }
        }
    }

    /// A table of damages that cannot be read itself is no reason to keep quiet: the row is then noted again.
    fn is_noted(&self, damage: &FoundDamage) -> bool {
        let noted = |rows: RecordBatch| {
            let files = rows.column_by_name("file").and_then(|files| files.as_string_opt::<i32>());
            let offsets = rows.column_by_name("at_byte").and_then(|offsets| offsets.as_primitive_opt::<UInt64Type>());
            let (Some(files), Some(offsets)) = (files, offsets) else { return false };
            let offset = |row: usize| offsets.is_valid(row).then(|| offsets.value(row));
            (0..rows.num_rows()).any(|row| files.value(row) == damage.file && offset(row) == damage.offset)
        };
        let table = self.tables.damages.table(self.cold.as_ref());
        table.scan_all().is_ok_and(|mut rows| rows.any(|rows| rows.is_ok_and(noted)))
    }
}
